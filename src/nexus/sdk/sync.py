"""The sync face of the client: the same methods, for scripts, notebooks and threads.

    with Nexus() as nexus:
        run = nexus.submit("solve", {"n": 3})
        print(nexus.result_value(run))

It works beside a running event loop (a notebook's, say) because it has a loop and a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, overload

from nexus.sdk.client import NexusClient, Policy, Ref
from nexus.sdk.model import Applied, NewToken, RunRef, RunResult, RunView, Template, TokenInfo
from nexus.wire import v1

T = TypeVar("T")


class Nexus:
    """See :class:`nexus.sdk.client.NexusClient`, whose methods these are. Safe to use from several threads."""

    def __init__(self, server: str | None = None, token: str | None = None, *, retry_for: float = 30.0) -> None:
        self._client = NexusClient(server, token, retry_for=retry_for)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nexus-sdk", daemon=True)
        self._thread.start()
        self._finish = weakref.finalize(self, _finish, self._client, self._loop, self._thread)

    def __enter__(self) -> Nexus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections and ends the thread. Called by itself when the object is no longer used."""
        self._finish()

    @property
    def server(self) -> str:
        return self._client.server

    def submit(
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
        return self._call(
            self._client.submit(
                algorithm,
                parameters,
                tag=tag,
                parent=parent,
                configuration=configuration,
                dry_run=dry_run,
                idempotency_key=idempotency_key,
                valid_for=valid_for,
            )
        )

    def submit_many(
        self,
        algorithm: str,
        parameters: Iterable[Any],
        *,
        tag: str | None = None,
        parent: Ref | None = None,
        concurrency: int = 16,
        idempotency_key: str | None = None,
    ) -> list[RunRef]:
        return self._call(
            self._client.submit_many(
                algorithm, parameters, tag=tag, parent=parent, concurrency=concurrency, idempotency_key=idempotency_key
            )
        )

    def cancel(
        self, ref: Ref, *, reason: str = "", policy: Policy = "Background", initiator: str = "", wait: float | None = None
    ) -> str:
        return self._call(self._client.cancel(ref, reason=reason, policy=policy, initiator=initiator, wait=wait))

    def result(self, ref: Ref) -> RunResult:
        return self._call(self._client.result(ref))

    def tagged(self, tag: str) -> list[RunResult]:
        return self._call(self._client.tagged(tag))

    def wait(self, ref: Ref, timeout: float | None = None, on_change: Callable[[RunResult], None] | None = None) -> RunResult:
        return self._call(self._client.wait(ref, timeout, on_change))

    @overload
    def result_value(self, ref: Ref, type: type[T], *, timeout: float | None = None) -> T: ...
    @overload
    def result_value(self, ref: Ref, type: Any = ..., *, timeout: float | None = None) -> Any: ...
    def result_value(self, ref: Ref, type: Any = Any, *, timeout: float | None = None) -> Any:  # noqa: A002
        return self._call(self._client.result_value(ref, type, timeout=timeout))

    def result_pieces(self, ref: Ref) -> Iterator[bytes]:
        return self._iterate(self._client.result_pieces(ref))

    def download(self, ref: Ref, path: Path | str, *, overwrite: bool = True) -> int:
        return self._call(self._client.download(ref, path, overwrite=overwrite))

    def metadata(self, ref: Ref) -> v1.Metadata:
        return self._call(self._client.metadata(ref))

    def run(self, ref: Ref) -> RunView:
        return self._call(self._client.run(ref))

    def runs(
        self,
        *,
        algorithm: str | None = None,
        stage: str | None = None,
        tag: str | None = None,
        root: str | None = None,
        parent: str | None = None,
        limit: int | None = None,
    ) -> Iterator[RunView]:
        return self._iterate(self._client.runs(algorithm=algorithm, stage=stage, tag=tag, root=root, parent=parent, limit=limit))

    def tree(self, ref: Ref) -> list[RunView]:
        return self._call(self._client.tree(ref))

    def children(self, ref: Ref) -> list[RunView]:
        return self._call(self._client.children(ref))

    def logs(
        self,
        ref: Ref,
        *,
        stream: Literal["stdout", "stderr"] = "stderr",
        attempt: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> Iterator[bytes]:
        return self._iterate(self._client.logs(ref, stream=stream, attempt=attempt, follow=follow, tail=tail))

    def algorithms(self) -> list[Template]:
        return self._call(self._client.algorithms())

    def algorithm(self, name: str) -> Template:
        return self._call(self._client.algorithm(name))

    def apply(self, paths: Sequence[Path | str], *, prune: bool = False) -> Applied:
        return self._call(self._client.apply(paths, prune=prune))

    def tokens(self) -> list[TokenInfo]:
        return self._call(self._client.tokens())

    def create_token(self, name: str, scopes: Sequence[str], *, expires: str = "") -> NewToken:
        return self._call(self._client.create_token(name, scopes, expires=expires))

    def revoke_token(self, name: str) -> None:
        self._call(self._client.revoke_token(name))

    def queue(self) -> dict[str, Any]:
        return self._call(self._client.queue())

    def clock_skew_s(self) -> float:
        return self._call(self._client.clock_skew_s())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        refusal = ""
        if threading.current_thread() is self._thread:
            refusal = "a callback of this client cannot call it: use another thread, or NexusClient"
        elif not self._finish.alive:
            refusal = "this client is closed"
        if refusal:
            work.close()
            raise RuntimeError(refusal)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C while waiting: the request must not go on behind the caller's back
            future.cancel()
            raise

    def _iterate(self, pieces: AsyncIterator[T]) -> Iterator[T]:
        try:
            while (item := self._call(_next(pieces))) is not _END:
                yield cast(T, item)
        finally:
            if self._finish.alive:
                self._call(_close(pieces))


for _name, _method in vars(Nexus).items():  # in a notebook, `nexus.submit?` should say what the method does
    if not _name.startswith("_") and callable(_method) and not _method.__doc__:
        _method.__doc__ = getattr(NexusClient, _name).__doc__

_END = object()


async def _next(pieces: AsyncIterator[T]) -> T | object:
    return await anext(pieces, _END)


async def _close(pieces: Any) -> None:
    await pieces.aclose()


def _finish(client: NexusClient, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    asyncio.run_coroutine_threadsafe(_end(client, loop), loop)
    if threading.current_thread() is not thread:  # the garbage collector may call this from anywhere
        thread.join(5)
        loop.close()


async def _end(client: NexusClient, loop: asyncio.AbstractEventLoop) -> None:
    await client.close()
    loop.call_soon(loop.stop)
