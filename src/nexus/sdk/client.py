"""The client of a Nexus service: submit, await, read, cancel, apply. Async; :class:`nexus.sdk.sync.Nexus` is its sync face.

    async with NexusClient() as nexus:
        run = await nexus.submit("solve", {"n": 3}, tag="first")
        result = await nexus.wait(run)
        value = await nexus.result_value(run)

A submit makes one run however often it has to be sent; what goes wrong is an error of ``nexus.kernel.errors``.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar, overload
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from nexus.kernel.errors import Conflict, InvalidInput, NotFound, ServiceUnreachable, WaitTimeout
from nexus.sdk import files
from nexus.sdk import manifests as manifest_files
from nexus.sdk.encoding import from_json, parameters_body
from nexus.sdk.model import Applied, NewToken, RunPage, RunRef, RunResult, RunView, Template, Templates, TokenInfo, Tokens
from nexus.sdk.transport import Answer, Envelope, Transport
from nexus.wire import v1

DEFAULT_SERVER = "http://127.0.0.1:8080"
API = "/algorithm/latest"
Ref = RunRef | str
Policy = Literal["Background", "Foreground", "Orphan"]
T = TypeVar("T")

_LONG_POLL_S = 30.0
_WATCHED_POLL_S = 1.0  # while somebody wants to see stages change
_PAGE = 100


class NexusClient:
    """Speaks to one service.

    *server* and *token* default to ``NEXUS__SERVER`` and ``NEXUS__TOKEN``. ``retry_for``: seconds within which one request is
    tried again after connection errors, 429 (``Retry-After`` is kept), 502, 503 and 504. Errors are those of
    ``nexus.kernel.errors``; ServiceUnreachable when nobody answers in that time.
    """

    def __init__(self, server: str | None = None, token: str | None = None, *, retry_for: float = 30.0) -> None:
        server = server or os.environ.get("NEXUS__SERVER") or DEFAULT_SERVER
        token = (token or os.environ.get("NEXUS__TOKEN") or "").strip()
        self._transport = Transport(server, _header(token, "token", secret=True), retry_for)

    async def __aenter__(self) -> NexusClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close()

    @property
    def server(self) -> str:
        return self._transport.server

    # ── submitting ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(
        self,
        algorithm: str,
        parameters: Any,
        *,
        tag: str | None = None,
        parent: Ref | None = None,
        configuration: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        valid_for: timedelta | str | None = None,
    ) -> RunRef:
        """The accepted run, which is on disk at the service by then.

        *parameters*: a mapping, dataclass, msgspec struct, raw JSON ``bytes``, or the ``Path`` of a JSON file, which is streamed.
        *configuration* overrides sections of the template. *valid_for* bounds the payload's signed URL. A call makes one
        run however often it has to be sent: every try carries the same key; give *idempotency_key* to extend that over calls.
        """
        envelope = _envelope(parameters, tag, parent, configuration, valid_for)
        key = _header(idempotency_key, "idempotency key") if idempotency_key else str(uuid.uuid4())
        try:
            answer = await self._transport.request(
                "POST",
                f"{API}/run/{_part(algorithm)}",
                query={"dryRun": "true" if dry_run else "false"},
                headers={"Idempotency-Key": key},
                body=envelope,
            )
        except ServiceUnreachable as error:
            if idempotency_key is None:
                error.hint += f"; if it may have been accepted, repeat with the idempotency key {key}"
            raise
        created: v1.CreateResponse = answer.decode(v1.CreateResponse)
        return RunRef(algorithm, created.requestId)

    async def submit_many(
        self,
        algorithm: str,
        parameters: Iterable[Any],
        *,
        tag: str | None = None,
        parent: Ref | None = None,
        concurrency: int = 16,
        idempotency_key: str | None = None,
    ) -> list[RunRef]:
        """One run for each of *parameters*, in their order; at most *concurrency* requests at a time.

        The first error ends it; what was accepted by then goes on. With an *idempotency_key* (each item gets its own from it,
        by its place) the same call can be made again and submits only what is missing.
        """
        gate = asyncio.Semaphore(concurrency)

        async def one(place: int, item: Any) -> RunRef:
            key = f"{idempotency_key}:{place}" if idempotency_key else None
            async with gate:
                return await self.submit(algorithm, item, tag=tag, parent=parent, idempotency_key=key)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(place, item)) for place, item in enumerate(parameters)]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def cancel(
        self, ref: Ref, *, reason: str = "", policy: Policy = "Background", initiator: str = "", wait: float | None = None
    ) -> str:
        """Cancels the run; with its whole tree unless *policy* is ``Orphan``. A run that has ended stays as it is.

        ``Foreground`` returns when no process of it is left, or after *wait* seconds (at most 60; 30 unless given), and then
        with what the service says of those that are left; else with an empty text.
        """
        run = _ref(ref)
        body = {"initiator": initiator or _user(), "reason": reason or "cancelled by its user", "cancellationPolicy": policy}
        query = {"wait": f"{wait:.3f}"} if wait is not None else None
        answer = await self._transport.request("POST", f"{API}/cancel/{_run(run)}", query=query, body=body)
        return answer.body.decode("utf-8", "replace").strip()

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def result(self, ref: Ref) -> RunResult:
        """How the run stands now."""
        return await self._result(_ref(ref), None)

    async def tagged(self, tag: str) -> list[RunResult]:
        """How every run with this tag stands, newest first."""
        answer = await self._transport.request("GET", f"{API}/results/tags/{_part(tag)}")
        rows: list[v1.TaggedResult] = answer.decode(list[v1.TaggedResult])
        return [_outcome(RunRef(row.algorithmName, row.requestId), row) for row in rows]

    async def wait(self, ref: Ref, timeout: float | None = None, on_change: Callable[[RunResult], None] | None = None) -> RunResult:
        """How the run ended, whatever that is. *on_change* hears of each stage it sees.

        Raises WaitTimeout after *timeout* seconds; the run goes on.
        """
        run = _ref(ref)
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        step = _WATCHED_POLL_S if on_change else _LONG_POLL_S
        pause, seen = 0.05, ""
        while True:
            began = time.monotonic()
            asked = max(0.0, min(step, deadline - began))
            result = await self._result(run, asked)
            if on_change is not None and result.stage != seen:
                on_change(result)
            seen = result.stage
            if result.final:
                return result
            now = time.monotonic()
            if now >= deadline:
                raise WaitTimeout(f"run `{run}` is still {seen} after {timeout:g} s", hint="it goes on; wait longer, or cancel it")
            if now - began < asked / 2:  # the service did not hold the request open: poll
                await asyncio.sleep(min(pause, deadline - now))
                pause = min(2.0, pause * 1.6)

    @overload
    async def result_value(self, ref: Ref, type: type[T], *, timeout: float | None = None) -> T: ...
    @overload
    async def result_value(self, ref: Ref, type: Any = ..., *, timeout: float | None = None) -> Any: ...
    async def result_value(self, ref: Ref, type: Any = Any, *, timeout: float | None = None) -> Any:  # noqa: A002
        """The result's JSON as a value of *type* (``bytes``: as stored), once the run has completed; waits for that.

        Raises Conflict when the run ended otherwise, NotFound when it completed without a result.
        """
        done = await self.wait(ref, timeout)
        data = b"".join([chunk async for chunk in self._result_pieces(done)])
        return from_json(data, type, f"the result of `{done.ref}`")

    async def result_pieces(self, ref: Ref) -> AsyncIterator[bytes]:
        """The bytes of a completed run's result, piece by piece. Raises as result_value does, but does not wait."""
        async for piece in self._result_pieces(await self.result(ref)):
            yield piece

    async def download(self, ref: Ref, path: Path | str, *, overwrite: bool = True) -> int:
        """Stores the result in a file, whole or not at all, and returns its size in bytes.

        Without *overwrite* a file that exists stays as it is: Conflict. What is no file, such as a pipe, is written into.
        """
        return await files.store(self._result_pieces(await self.result(ref)), Path(path), overwrite=overwrite)

    async def metadata(self, ref: Ref) -> v1.Metadata:
        """What API v1 tells of the run."""
        answer = await self._transport.request("GET", f"{API}/metadata/{_run(_ref(ref))}")
        decoded: v1.Metadata = answer.decode(v1.Metadata)
        return decoded

    async def run(self, ref: Ref) -> RunView:
        """Everything about the run."""
        run = _ref(ref)
        answer = await self._transport.request("GET", f"{API}/runs/{_part(run.algorithm)}/{_part(run.id)}")
        decoded: RunView = answer.decode(RunView)
        return decoded

    async def runs(
        self,
        *,
        algorithm: str | None = None,
        stage: str | None = None,
        tag: str | None = None,
        root: str | None = None,
        parent: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[RunView]:
        """Runs, newest first, page by page as they are read; *limit* in all. *root* and *parent* are ids."""
        left, before = limit if limit is not None else -1, None
        while left != 0:
            size = _PAGE if left < 0 else min(_PAGE, left)
            query = {
                "algorithm": algorithm,
                "stage": stage,
                "tag": tag,
                "root": root,
                "parent": parent,
                "limit": size,
                "before": before,
            }
            page: RunPage = (await self._transport.request("GET", f"{API}/runs", query=query)).decode(RunPage)
            for run in page.runs[:size]:
                yield run
            left -= len(page.runs[:size])
            before = page.next
            if not before or not page.runs:
                return

    async def tree(self, ref: Ref) -> list[RunView]:
        """Every run of the tree this run belongs to, its root first."""
        run = _ref(ref)
        answer = await self._transport.request("GET", f"{API}/runs/{_part(run.algorithm)}/{_part(run.id)}/tree")
        return list(answer.decode(RunPage).runs)

    async def children(self, ref: Ref) -> list[RunView]:
        """The runs this run spawned itself, newest first."""
        return [run async for run in self.runs(parent=_ref(ref).id)]

    async def logs(
        self,
        ref: Ref,
        *,
        stream: Literal["stdout", "stderr"] = "stderr",
        attempt: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[bytes]:
        """What the algorithm wrote, in pieces, of its newest attempt unless *attempt* says another.

        *tail*: of what is there now, only so many last lines. *follow* goes on until the run and its newest attempt have ended,
        over further attempts when none was named: an algorithm may write after its report.
        """
        run, current, offset = _ref(ref), attempt, 0
        held = b"" if tail is not None else None  # the last lines, until all is read that is there now
        while True:
            ended = (await self._result(run, None)).final  # asked first: after an end no attempt begins
            answer = await self._log(run, stream, current, offset)
            if held is not None and tail is not None:
                held = _last_lines(held + answer.body, tail)
                if not answer.body:
                    if held:
                        yield held
                    held = None
            elif answer.body:
                yield answer.body
            offset = int(answer.headers.get("X-Log-Offset", offset + len(answer.body)))
            current = current or int(answer.headers.get("X-Log-Attempt", 0)) or None
            if answer.body:
                continue
            complete = answer.headers.get("X-Log-Complete") == "true"
            if not follow:
                return
            if complete and attempt is None and current is not None and await self._has_attempt(run, current + 1):
                current, offset = current + 1, 0
                continue
            if complete and (ended or attempt is not None):
                return
            await asyncio.sleep(0.3)

    # ── what can be run ───────────────────────────────────────────────────────────────────────────────────────────────

    async def algorithms(self) -> list[Template]:
        """The algorithms that are registered."""
        templates: Templates = (await self._transport.request("GET", f"{API}/templates")).decode(Templates)
        return templates.templates

    async def algorithm(self, name: str) -> Template:
        """One algorithm with its configuration."""
        template: Template = (await self._transport.request("GET", f"{API}/templates/{_part(name)}")).decode(Template)
        return template

    async def apply(self, paths: Sequence[Path | str], *, prune: bool = False) -> Applied:
        """Registers the manifests of files and folders, all or nothing; *prune* removes what they no longer hold.

        Raises RefusedManifests with every finding.
        """
        manifests = manifest_files.read([Path(path) for path in paths])
        body = {"manifests": [msgspec.structs.asdict(manifest) for manifest in manifests]}
        query = {"prune": "true" if prune else "false"}
        applied: Applied = (await self._transport.request("POST", f"{API}/templates", query=query, body=body)).decode(Applied)
        return applied

    async def tokens(self) -> list[TokenInfo]:
        """The access tokens there are."""
        return list((await self._transport.request("GET", f"{API}/tokens")).decode(Tokens).tokens)

    async def create_token(self, name: str, scopes: Sequence[str], *, expires: str = "") -> NewToken:
        """A new access token with its text, which is shown this once. *expires*: such as ``30d``; for ever unless given.

        Raises Conflict when the name is taken; also when an answer was lost on the way: then revoke it and make it again.
        """
        body = {"name": name, "scopes": list(scopes), "expires": expires}
        made: NewToken = (await self._transport.request("POST", f"{API}/tokens", body=body)).decode(NewToken)
        return made

    async def revoke_token(self, name: str) -> None:
        """Ends an access token at once. Raises NotFound."""
        await self._transport.request("DELETE", f"{API}/tokens/{_part(name)}")

    async def queue(self) -> dict[str, Any]:
        """What waits, what runs, and what there is room for."""
        answer = await self._transport.request("GET", f"{API}/queue")
        return dict(answer.decode(dict[str, Any]))

    async def clock_skew_s(self) -> float:
        """Seconds the service's clock is ahead of ours, to about one. Raises ServiceUnreachable, Unavailable while not ready."""
        answer = await self._transport.request("GET", "/health/ready")
        date = answer.headers.get("Date")
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time() if date else 0.0

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _result(self, run: RunRef, wait_s: float | None) -> RunResult:
        query = {"wait": f"{wait_s:.3f}"} if wait_s else None
        answer = await self._transport.request("GET", f"{API}/results/{_run(run)}", query=query, read_s=120.0 + (wait_s or 0.0))
        return _outcome(run, answer.decode(v1.Result))

    async def _result_pieces(self, result: RunResult) -> AsyncIterator[bytes]:
        if not result.final:
            raise Conflict(f"run `{result.ref}` is {result.stage} and has no result yet", hint="wait for it first")
        if not result.ok:
            raise Conflict(
                f"run `{result.ref}` ended {result.stage}: {result.message}", hint="it has no result; its logs may say more"
            )
        if not result.result_uri:
            raise NotFound(f"run `{result.ref}` completed without a result")
        uri = urljoin(self.server + "/", result.result_uri)
        if urlsplit(uri).scheme not in ("http", "https"):
            raise NotFound(f"the result of `{result.ref}` is at `{result.result_uri}`, which this client cannot read",
                           hint="the algorithm stored it there itself: read it with what knows that place")  # fmt: skip
        async with self._transport.download(uri) as pieces:
            async for piece in pieces:
                yield piece

    async def _log(self, run: RunRef, stream: str, attempt: int | None, offset: int) -> Answer:
        path = f"{API}/runs/{_part(run.algorithm)}/{_part(run.id)}/logs/{stream}"
        return await self._transport.request("GET", path, query={"attempt": attempt, "offset": offset or None})

    async def _has_attempt(self, run: RunRef, attempt: int) -> bool:
        return (await self.run(run)).attempt >= attempt


def _outcome(run: RunRef, said: v1.Result) -> RunResult:
    return RunResult(ref=run, stage=said.status, result_uri=said.resultUri, message=said.runErrorMessage)


def _ref(ref: Ref) -> RunRef:
    return RunRef.parse(ref) if isinstance(ref, str) else ref


def _last_lines(text: bytes, count: int) -> bytes:
    """The last *count* lines of a log; one that is not finished yet counts."""
    at = len(text) - 1  # the end of the last line begins no other
    for _ in range(count):
        at = text.rfind(b"\n", 0, max(at, 0))
        if at < 0:
            return text
    return text[at + 1 :]


def _part(text: str) -> str:
    """One segment of a path. Names that would change the path are refused."""
    if not text or text in (".", ".."):
        raise InvalidInput(f"`{text}` is not a name")
    return quote(text, safe="")


def _header(text: str, what: str, *, secret: bool = False) -> str:
    """The text, fit for a header. Raises InvalidInput; a secret is not repeated in it."""
    if not (text.isascii() and text.isprintable()):
        shown = "" if secret else f" `{text}`"
        raise InvalidInput(f"the {what}{shown} holds characters that cannot be sent", hint="use printable ASCII")
    return text


def _run(ref: RunRef) -> str:
    return f"{_part(ref.algorithm)}/requests/{_part(ref.id)}"


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in this container
        return "unknown"


def _envelope(
    parameters: Any,
    tag: str | None,
    parent: Ref | None,
    configuration: Mapping[str, Any] | None,
    valid_for: timedelta | str | None,
) -> Envelope:
    rest: dict[str, Any] = {}
    if tag is not None:
        rest["tag"] = tag
    if parent is not None:
        run = _ref(parent)
        rest["parentRequest"] = {"algorithmName": run.algorithm, "requestId": run.id}
    if configuration is not None:
        rest["customConfiguration"] = configuration
    if valid_for is not None:
        rest["payloadValidFor"] = valid_for if isinstance(valid_for, str) else f"{valid_for.total_seconds():g}s"
    tail = b"," + json.dumps(rest).encode()[1:] if rest else b"}"
    return Envelope(b'{"algorithmParameters":', parameters_body(parameters), tail)
