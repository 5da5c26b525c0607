"""The algorithm side: a plain function becomes an algorithm.

    from nexus.sdk import Context, algorithm

    @algorithm
    def solve(payload: Problem, ctx: Context) -> Solution: ...

    if __name__ == "__main__":
        solve.main()

The function stays a function: ``solve(problem, ctx)`` calls it, ``solve.test({...}, children={...})`` calls it the way the
service would, in process. ``main()`` is what a template's command runs: payload in, result out, report, exit code.

Exit codes: 0 the run was reported (completed or failed) · 1 nothing was reported, the service decides about another
attempt (TransientError, service or result store out of reach) · 2 started wrongly · 143 ended by SIGTERM.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
import time
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, overload
from urllib.parse import quote

import msgspec

from nexus.kernel.errors import Busy, InvalidInput, NexusError, NoSpace, StageConflict, Unavailable, WaitTimeout
from nexus.sdk import plain_http
from nexus.sdk.context import Context, FatalError, Identity, LocalContext, RunContext, Stand, TransientError, cause_of, text_of
from nexus.sdk.encoding import from_json, to_json
from nexus.sdk.model import RunRef
from nexus.wire import v1

P = ParamSpec("P")
R = TypeVar("R")

_PAYLOAD_FOR_S = 60.0
_REPORT_FOR_S = 300.0  # a computed result is worth waiting for a service that restarts
_CHECKS = 10
_LONGEST_DETAILS = 32_000  # characters of a traceback
_USAGE = 2
_NOTHING_REPORTED = 1


class Result(msgspec.Struct, frozen=True):
    """A result that is not JSON: bytes or a file, and what they are (``image/png``)."""

    content: bytes | Path
    content_type: str = "application/octet-stream"


class Algorithm(Generic[P, R]):
    """A function that can be run by the service. Made by :func:`algorithm`."""

    def __init__(self, function: Callable[P, R], transient: tuple[type[BaseException], ...] = ()) -> None:
        self._function = function
        self._transient: tuple[type[BaseException], ...] = (TransientError, *transient)
        self._payload_type, self._wants_context = _signature(function)
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", "algorithm")
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def test(self, payload: Any, *, children: Mapping[str, Stand] | None = None, context: Context | None = None) -> R:
        """The function's result for *payload*, checked and decoded as in a run; for the author's own unit tests.

        *children* maps names of algorithms to functions, values or other algorithms that stand in for them; *context*
        (a LocalContext, say) replaces the one made of them. The result is proven to be storable.
        """
        raw = payload if isinstance(payload, bytes) else to_json(payload, "the payload")
        result = self._apply(raw, context or LocalContext(self.__name__, children))
        _stored_form(result)
        return result

    def main(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Runs as the process of one run, and exits."""
        sys.exit(self._main(sys.argv[1:] if argv is None else argv, os.environ))

    def _apply(self, raw: bytes, context: Context) -> R:
        value = from_json(raw, self._payload_type, "the payload")
        function: Callable[..., R] = self._function
        return function(value, context) if self._wants_context else function(value)

    def _main(self, argv: Sequence[str], environment: Mapping[str, str]) -> int:
        _log_to_stderr()
        signal.signal(signal.SIGTERM, _terminated)
        try:
            payload_url, run_id = _arguments(argv)
            identity = _identity(run_id, environment)
        except InvalidInput as error:
            sys.stderr.write(error.text() + "\n")
            return _USAGE
        try:
            return self._run(payload_url, identity)
        except (Busy, Unavailable, NoSpace) as error:
            logging.getLogger("nexus").error("%s", error.text())
            return _NOTHING_REPORTED

    def _run(self, payload_url: str, identity: Identity) -> int:
        log = logging.getLogger("nexus")
        try:
            raw = _fetch(payload_url)
            result = self._apply(raw, RunContext(identity))
            uri = "" if result is None else _upload(identity, *_stored_form(result))
        except self._transient as error:
            log.warning("transient, to be tried again: %s", cause_of(error), exc_info=not isinstance(error, TransientError))
            return _NOTHING_REPORTED
        except StageConflict as error:  # cancelled meanwhile, say
            log.warning("the run has ended, its result is dropped: %s", error.message)
            return 0
        except Exception as error:  # whatever an algorithm raises is its run's cause of failure
            if _may_pass(error):
                raise
            log.error("failed: %s", cause_of(error), exc_info=not isinstance(error, (NexusError, FatalError)))
            return _report(identity, v1.Completion(errorCause=cause_of(error), errorDetails=_details(error)))
        return _report(identity, v1.Completion(resultUri=uri))


@overload
def algorithm(function: Callable[P, R], /) -> Algorithm[P, R]: ...
@overload
def algorithm(*, transient: tuple[type[BaseException], ...] = ()) -> Callable[[Callable[P, R]], Algorithm[P, R]]: ...
def algorithm(function: Callable[P, R] | None = None, /, *, transient: tuple[type[BaseException], ...] = ()) -> Any:
    """Makes an algorithm of a function of one payload, or of a payload and a context.

    The payload is decoded to the type the function names (dataclass, msgspec struct, TypedDict, dict, ``bytes``). The
    result is stored as JSON, or as it is when it is a Result, ``bytes`` or a ``Path``; None stores nothing. Exceptions of the
    types *transient* count as TransientError.
    """
    if function is None:
        return lambda given: Algorithm(given, transient)
    return Algorithm(function, transient)


def _signature(function: Callable[..., Any]) -> tuple[Any, bool]:
    """The payload's type and whether a context is wanted. Raises TypeError for functions that cannot be algorithms."""
    name = getattr(function, "__name__", "the function")
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"`{name}` is async; an algorithm is a plain function (call asyncio.run inside it)")
    parameters = [
        parameter for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]  # fmt: skip
    needed = [parameter for parameter in parameters if parameter.default is parameter.empty]
    if not parameters or len(needed) > 2:
        raise TypeError(f"`{name}` must take the payload, or the payload and a context")
    type_ = typing.get_type_hints(function).get(parameters[0].name, Any)
    wants_context = len(parameters) > 1 and (len(needed) > 1 or parameters[1].name in ("ctx", "context"))
    return type_, wants_context


def _may_pass(error: Exception) -> bool:
    """Whether the service, not the algorithm, is what failed. An author's own time limit on a child is the algorithm's."""
    return isinstance(error, (Busy, Unavailable, NoSpace)) and not isinstance(error, WaitTimeout)


def _fetch(payload_url: str) -> bytes:
    try:
        return plain_http.request("GET", payload_url, retry_for=_PAYLOAD_FOR_S).body
    except NexusError as error:
        error.message = f"the payload could not be fetched: {error.message}"
        raise


def _stored_form(result: Any) -> tuple[bytes | Path, str]:
    if isinstance(result, Path):
        result = Result(result, _guess(result))
    if isinstance(result, Result):
        if isinstance(result.content, Path) and not result.content.is_file():
            raise FileNotFoundError(f"the result `{result.content}` is no file")
        return result.content, result.content_type
    if isinstance(result, bytes):
        return result, "application/octet-stream"
    return to_json(result, "the result"), "application/json"


def _guess(path: Path) -> str:
    import mimetypes

    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _upload(identity: Identity, content: bytes | Path, content_type: str) -> str:
    if not identity.upload_url:
        raise Unavailable("this run was not told where to put its result", hint="`NEXUS__RESULT_UPLOAD_URL` names the place")
    reply = plain_http.request(
        "PUT", identity.upload_url, body=content, headers={"Content-Type": content_type}, retry_for=_REPORT_FOR_S
    )
    return str(reply.decode(dict[str, Any]).get("resultUri", ""))


def _report(identity: Identity, completion: v1.Completion) -> int:
    """Reports, asks whether the report is known, and returns the exit code."""
    name = f"{quote(identity.algorithm, safe='')}/requests/{quote(identity.run_id, safe='')}"
    body = {
        "resultUri": completion.resultUri or "",
        "errorCause": _sendable(completion.errorCause or ""),
        "errorDetails": _sendable(completion.errorDetails or ""),
    }
    try:
        url = f"{identity.receiver}/algorithm/v1/complete/{name}"
        plain_http.post_json(url, body, token=identity.token, retry_for=_REPORT_FOR_S)
        for again in range(_CHECKS):
            reply = plain_http.request("GET", f"{identity.receiver}/algorithm/v1/check/{name}", token=identity.token)
            if reply.decode(v1.Processed).is_processed:
                return 0
            time.sleep(min(2.0, 0.05 * 2**again))
    except NexusError as error:
        logging.getLogger("nexus").error("the report did not arrive: %s", error.text())
        return _NOTHING_REPORTED
    logging.getLogger("nexus").error("the report was sent, but the run has not ended")
    return _NOTHING_REPORTED


def _sendable(text: str) -> str:
    """The text without lone surrogates, which the name of a file can bring into an error and no JSON text carries."""
    return text.encode("utf-8", "backslashreplace").decode()


def _details(error: BaseException) -> str:
    if isinstance(error, FatalError):
        return text_of(error.__cause__) if error.__cause__ is not None else ""
    if isinstance(error, NexusError):
        return error.hint
    return "".join(traceback.format_exception(error))[-_LONGEST_DETAILS:]


def _arguments(argv: Sequence[str]) -> tuple[str, str]:
    """Payload URL and run id of ``--sas-uri=URL --request-id=ID`` (or with a space). Other arguments are the author's."""
    found = {"--sas-uri": "", "--request-id": ""}
    for index, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name in found:
            found[name] = value if equals else (argv[index + 1] if index + 1 < len(argv) else "")
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise InvalidInput(
            f"{' and '.join(f'`{name}`' for name in missing)} is not given",
            hint="a template's args hold `--sas-uri=%s` and `--request-id=%s`; in a test call `.test(payload)`",
        )
    return found["--sas-uri"], found["--request-id"]


def _identity(run_id: str, environment: Mapping[str, str]) -> Identity:
    """What the environment says. Raises InvalidInput when what a report needs is missing."""
    get = environment.get
    algorithm_name, receiver = get("NEXUS__ALGORITHM_NAME", ""), get("NEXUS__CLIENT__RECEIVER", "").rstrip("/")
    for variable, value in (("NEXUS__ALGORITHM_NAME", algorithm_name), ("NEXUS__CLIENT__RECEIVER", receiver)):
        if not value:
            raise InvalidInput(f"`{variable}` is not set", hint="the service sets it; in a test call `.test(payload)`")
    parent_name, parent_id = get("NEXUS__PARENT_ALGORITHM_NAME", ""), get("NEXUS__PARENT_REQUEST_ID", "")
    attempt = get("NEXUS__ATTEMPT", "1")
    return Identity(
        algorithm=algorithm_name,
        run_id=run_id,
        attempt=int(attempt) if attempt.isdigit() else 1,
        parent=RunRef(parent_name, parent_id) if parent_name and parent_id else None,
        shard=get("NEXUS__SHARD_NAME", ""),
        scheduler=get("NEXUS__CLIENT__SCHEDULER", "").rstrip("/"),
        receiver=receiver,
        token=get("NEXUS__RUN_TOKEN", ""),
        upload_url=get("NEXUS__RESULT_UPLOAD_URL", ""),
    )


def _log_to_stderr() -> None:
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends the process as an exception would: the author's ``finally`` blocks run, nothing is reported."""
    raise SystemExit(128 + signum)
