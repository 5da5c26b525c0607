"""What an algorithm may use while it runs: who it is, and runs of other algorithms as its children.

:class:`Context` is what an author sees. Inside a run it is a :class:`RunContext`, which speaks to the service; in an
author's own unit test a :class:`LocalContext`, where functions stand in for the children.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload
from urllib.parse import quote, urljoin, urlsplit

from nexus.kernel.errors import InvalidInput, NexusError, NotFound, WaitTimeout
from nexus.sdk import plain_http
from nexus.sdk.encoding import from_json, parameters_body, to_json
from nexus.sdk.model import RunRef, RunResult
from nexus.wire import v1

T = TypeVar("T")

_LONG_POLL_S = 30.0
_LONGEST_CAUSE = 2000
_PATIENCE_S = 300.0  # a service that restarts, or is upgraded, must not cost its running algorithms their children


class TransientError(Exception):
    """This attempt failed for a reason that may pass: nothing is reported, and the service starts another attempt."""


class FatalError(Exception):
    """The run cannot succeed: it is reported FAILED with exactly this text as its cause, without a traceback."""


class ChildFailed(Exception):
    """A child ended, but did not complete. ``ref``, ``stage`` and ``cause`` say which and why."""

    def __init__(self, ref: RunRef, stage: str, cause: str) -> None:
        super().__init__(f"child {ref} ended {stage}: {cause}")
        self.ref = ref
        self.stage = stage
        self.cause = cause


class Child(Protocol):
    """A spawned run."""

    @property
    def ref(self) -> RunRef: ...

    @overload
    def result(self, type: type[T], timeout: float | None = None) -> T: ...
    @overload
    def result(self, type: Any = ..., timeout: float | None = None) -> Any: ...
    def result(self, type: Any = Any, timeout: float | None = None) -> Any:  # noqa: A002
        """Its result as a value of *type*; waits for it.

        Raises ChildFailed, or WaitTimeout after *timeout* seconds.
        """
        ...


class Context(Protocol):
    """What an algorithm knows of its run. ``log`` writes to stderr, which the service keeps as the run's log."""

    algorithm: str
    run_id: str
    attempt: int
    parent: RunRef | None
    log: logging.Logger

    def spawn(self, algorithm: str, payload: Any, *, tag: str | None = None, key: str | None = None) -> Child:
        """Submits a child run, and returns without waiting for it.

        Another attempt of this run gets the same child again: calls are matched by *key*, or else by their order. Give a
        key where the order may differ from one attempt to the next (threads, random choices).
        """
        ...

    @overload
    def gather(self, children: Sequence[Child], type: type[T], timeout: float | None = None) -> list[T]: ...
    @overload
    def gather(self, children: Sequence[Child], type: Any = ..., timeout: float | None = None) -> list[Any]: ...
    def gather(self, children: Sequence[Child], type: Any = Any, timeout: float | None = None) -> list[Any]:  # noqa: A002
        """The results of all children in their order, once all have ended. Raises ChildFailed for the first that failed."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What the service tells a run's process about itself."""

    algorithm: str
    run_id: str
    attempt: int = 1
    parent: RunRef | None = None
    shard: str = ""
    scheduler: str = ""
    receiver: str = ""
    token: str = ""
    upload_url: str = ""


class _Gathering:
    def gather(self, children: Sequence[Child], type: Any = Any, timeout: float | None = None) -> list[Any]:  # noqa: A002
        deadline = None if timeout is None else time.monotonic() + timeout
        results: list[Any] = []
        failed: ChildFailed | None = None
        for child in children:
            try:
                results.append(child.result(type, None if deadline is None else max(0.0, deadline - time.monotonic())))
            except ChildFailed as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return results


class RunContext(_Gathering):
    """The context of a real run."""

    def __init__(self, identity: Identity) -> None:
        self.algorithm = identity.algorithm
        self.run_id = identity.run_id
        self.attempt = identity.attempt
        self.parent = identity.parent
        self.log = logging.getLogger(identity.algorithm)
        self._identity = identity
        self._spawned = 0
        self._lock = threading.Lock()

    def spawn(self, algorithm: str, payload: Any, *, tag: str | None = None, key: str | None = None) -> Child:
        if not self._identity.scheduler:
            raise InvalidInput("this run was not told where the scheduler is", hint="`NEXUS__CLIENT__SCHEDULER` names it")
        with self._lock:
            index, self._spawned = self._spawned, self._spawned + 1
        parameters = parameters_body(payload)
        raw = parameters if isinstance(parameters, bytes) else parameters.read_bytes()
        rest: dict[str, Any] = {"parentRequest": {"algorithmName": self.algorithm, "requestId": self.run_id}}
        if tag is not None:
            rest["tag"] = tag
        body = b'{"algorithmParameters":' + raw + b"," + to_json(rest, "the request")[1:]
        which = f"key:{quote(key, safe='')}" if key is not None else str(index)
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"{self.run_id}:{which}"}
        url = f"{self._identity.scheduler}/algorithm/latest/run/{quote(algorithm, safe='')}?dryRun=false"
        reply = plain_http.request("POST", url, body=body, headers=headers, token=self._identity.token, retry_for=_PATIENCE_S)
        created: v1.CreateResponse = reply.decode(v1.CreateResponse)
        return RunChild(RunRef(algorithm, created.requestId), self._identity)


class RunChild:
    """A child that runs in the service."""

    def __init__(self, ref: RunRef, identity: Identity) -> None:
        self.ref = ref
        self._identity = identity

    def result(self, type: Any = Any, timeout: float | None = None) -> Any:  # noqa: A002
        done = self._wait(timeout)
        if not done.ok:
            raise ChildFailed(self.ref, done.stage, done.message)
        if not done.result_uri:
            raise NotFound(f"child `{self.ref}` completed without a result")
        uri = urljoin(self._identity.scheduler + "/", done.result_uri)
        if urlsplit(uri).scheme not in ("http", "https"):
            raise NotFound(f"the result of child `{self.ref}` is at `{uri}`, which this SDK cannot read")
        data = plain_http.request("GET", uri, retry_for=_PATIENCE_S).body
        return from_json(data, type, f"the result of child `{self.ref}`")

    def _wait(self, timeout: float | None) -> RunResult:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.05
        while True:
            began = time.monotonic()
            asked = _LONG_POLL_S if deadline is None else max(0.0, min(_LONG_POLL_S, deadline - began))
            result = self._look(asked)
            if result.final:
                return result
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise WaitTimeout(f"child `{self.ref}` is still {result.stage} after {timeout:g} s", hint="it goes on")
            if now - began < asked / 2:  # the service did not hold the request open
                time.sleep(pause)
                pause = min(2.0, pause * 1.6)

    def _look(self, wait_s: float) -> RunResult:
        path = f"/algorithm/latest/results/{quote(self.ref.algorithm, safe='')}/requests/{quote(self.ref.id, safe='')}"
        query = f"?wait={wait_s:.3f}" if wait_s else ""
        url = self._identity.scheduler + path + query
        reply = plain_http.request("GET", url, token=self._identity.token, retry_for=_PATIENCE_S, timeout=wait_s + 60.0)
        said: v1.Result = reply.decode(v1.Result)
        return RunResult(ref=self.ref, stage=said.status, result_uri=said.resultUri, message=said.runErrorMessage)


Stand = Callable[[Any], Any] | Any


class LocalContext(_Gathering):
    """A context for an author's unit test. ``children`` maps an algorithm's name to a function of the payload, or to a value.

    ``spawned`` lists what was asked for: (algorithm, payload, tag).
    """

    def __init__(self, algorithm: str = "under-test", children: Mapping[str, Stand] | None = None) -> None:
        self.algorithm = algorithm
        self.run_id = "00000000-0000-7000-8000-000000000000"
        self.attempt = 1
        self.parent: RunRef | None = None
        self.log = logging.getLogger(algorithm)
        self.spawned: list[tuple[str, Any, str | None]] = []
        self._children = dict(children or {})

    def spawn(self, algorithm: str, payload: Any, *, tag: str | None = None, key: str | None = None) -> Child:
        if algorithm not in self._children:
            raise InvalidInput(f"nothing stands in for algorithm `{algorithm}`", hint=f"test(…, children={{'{algorithm}': …}})")
        body = parameters_body(payload)
        plain = from_json(body if isinstance(body, bytes) else body.read_bytes(), Any, "the payload")
        self.spawned.append((algorithm, plain, tag))
        ref = RunRef(algorithm, f"00000000-0000-7000-8000-{len(self.spawned):012x}")
        return LocalChild(ref, self._children[algorithm], plain)


class LocalChild:
    """A child that is a function or a value."""

    def __init__(self, ref: RunRef, stand: Stand, payload: Any) -> None:
        self.ref = ref
        self._stand = stand
        self._payload = payload

    def result(self, type: Any = Any, timeout: float | None = None) -> Any:  # noqa: A002
        stand = self._stand
        test = getattr(stand, "test", None)  # another algorithm of the author stands in for itself
        try:
            value = test(self._payload) if callable(test) else stand(self._payload) if callable(stand) else stand
        except (NexusError, TransientError):
            raise
        except Exception as error:  # whatever it raises is what the parent of a failed run would be told
            raise ChildFailed(self.ref, "FAILED", cause_of(error)) from error
        if isinstance(value, bytes):
            return from_json(value, type, f"the result of child `{self.ref}`")
        what = f"the result of child `{self.ref}`"
        return from_json(to_json(value, what), type, what)


def text_of(error: BaseException) -> str:
    """What an exception says; nothing when it cannot."""
    try:
        return str(error)
    except Exception:  # an author's own `__str__`; its run must be reported all the same
        return ""


def cause_of(error: BaseException) -> str:
    """What an exception was, briefly: ``ValueError: text``; the text alone of a FatalError."""
    if isinstance(error, FatalError):
        return text_of(error)[:_LONGEST_CAUSE] or "FatalError"
    name, text = type(error).__qualname__, error.message if isinstance(error, NexusError) else text_of(error)
    return f"{name}: {text}"[:_LONGEST_CAUSE] if text else name
