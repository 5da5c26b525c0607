"""Reading runs: one, a page, a tree, a payload, a log; waiting for an end. Called by the API."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

import msgspec

from nexus.kernel.errors import InvalidInput, UnknownAlgorithm
from nexus.runs import attempts
from nexus.runs.algorithms import Algorithms
from nexus.runs.configuration import Configuration, merge
from nexus.runs.model import Report, Run, Stage
from nexus.runs.ports import Alive, Change, Engine, Filter, Objects, RunStore
from nexus.runs.results import object_key

MAX_PAGE = 1_000
STREAMS = ("stdout", "stderr")


async def every(store: RunStore, where: Filter) -> AsyncIterator[Run]:
    """Every run that matches, newest first, however many there are."""
    before: str | None = None
    while True:
        page = await store.page(where, limit=MAX_PAGE, before=before)
        for run in page:
            yield run
        if len(page) < MAX_PAGE:
            return
        before = page[-1].id


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a log. ``complete``: the attempt has ended and this piece reaches the end."""

    data: bytes
    attempt: int
    next_offset: int
    complete: bool


class Reading:
    """Answers questions; changes nothing."""

    def __init__(self, store: RunStore, objects: Objects, algorithms: Algorithms, engine: Engine, *, objects_root: str) -> None:
        self._store = store
        self._objects = objects
        self._algorithms = algorithms
        self._engine = engine
        self._objects_root = objects_root
        self._waiters: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def observe(self, change: Change) -> None:
        """Told of each stored change; wakes those who wait for this run's end."""
        if change.after.stage.final:
            for waiter in self._waiters.pop(change.after.id, ()):
                if not waiter.done():
                    waiter.set_result(None)

    async def run(self, algorithm: str, run_id: str, *, wait_s: float = 0.0) -> Run:
        """The run; with *wait_s*, as soon as it has ended or after that time. Raises RunNotFound."""
        run = await self._store.get(algorithm, run_id)
        if run.stage.final or wait_s <= 0:
            return run
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[run_id].add(waiter)
        try:
            run = await self._store.get(algorithm, run_id)  # it may have ended before the waiter stood there
            if not run.stage.final:
                await asyncio.wait([waiter], timeout=wait_s)
                run = await self._store.get(algorithm, run_id)
            return run
        finally:
            waiters = self._waiters.get(run_id)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    self._waiters.pop(run_id, None)

    async def find(self, run_id: str) -> Run | None:
        return await self._store.find(run_id)

    async def tagged(self, tag: str) -> list[Run]:
        """Every run with this tag, newest first."""
        return [run async for run in every(self._store, Filter(tag=tag))]

    async def page(self, where: Filter, *, limit: int = 100, before: str | None = None) -> tuple[list[Run], str | None]:
        """Runs newest first, and the cursor of the next page (None at the end)."""
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidInput(f"`limit` is `{limit}`", hint=f"a page has 1 to {MAX_PAGE} runs")
        runs = await self._store.page(where, limit=limit + 1, before=before)
        return runs[:limit], runs[limit - 1].id if len(runs) > limit else None

    async def tree(self, run: Run) -> list[Run]:
        """The whole execution tree the run belongs to, root first, then by id (a parent stands before its children)."""
        runs = [each async for each in every(self._store, Filter(root_id=run.root_id))]
        return sorted(runs, key=lambda each: (each.depth, each.id))

    async def configuration(self, run: Run) -> Configuration:
        """The configuration the run was accepted with."""
        return merge(await self._algorithms.at(run.algorithm, run.template_revision), run.overrides)

    async def payload(self, run: Run) -> AsyncIterator[bytes]:
        """The raw JSON bytes of the parameters, in pieces."""
        payload = run.payload
        if payload.object_key is None:
            yield await self._store.inline_payload(run.id)
            return
        async for piece in self._objects.read(payload.object_key, offset=payload.offset, size_bytes=payload.size_bytes):
            yield piece

    def result_key(self, run: Run) -> str | None:
        """The key of the run's result when it is ours to sign; None when the URI is handed back as it is."""
        return object_key(run, self._objects_root)

    async def result_size(self, key: str) -> int | None:
        return await self._objects.size(key)

    def result(self, key: str, *, offset: int = 0, size_bytes: int | None = None) -> AsyncIterator[bytes]:
        return self._objects.read(key, offset=offset, size_bytes=size_bytes)

    async def late_reports(self, run: Run) -> list[Report]:
        return await self._store.late_reports(run.id)

    async def attempts(self, run: Run) -> list[attempts.Attempt]:
        """The run's attempts by number, the newest ones when there are very many."""
        try:
            configuration = await self.configuration(run)
        except UnknownAlgorithm:
            configuration = None  # what is known is told all the same
        return await attempts.gather(run, self._store, self._engine, configuration)

    async def process_ended(self, run: Run) -> bool:
        """Whether it is stored that the run's newest attempt has ended, and none is alive whose start could not be stored."""
        ends = await self._store.attempts(run.id, limit=1)
        if not ends or ends[0].attempt < run.attempt:
            return False
        return not isinstance(await self._engine.status(run.id, ends[0].attempt + 1), Alive)

    async def log(self, run: Run, stream: str, *, attempt: int | None = None, offset: int = 0, limit: int = 1 << 20) -> Log:
        """A piece of ``stdout`` or ``stderr`` of an attempt (default: the newest). Raises InvalidInput."""
        if stream not in STREAMS:
            raise InvalidInput(f"`{stream[:64]}` is no stream", hint=f"one of `{'`, `'.join(STREAMS)}`")
        number = run.attempt if attempt is None else attempt
        if number < 1:
            return Log(data=b"", attempt=0, next_offset=0, complete=run.stage.final)
        ended = not isinstance(await self._engine.status(run.id, number), Alive)  # before the look: what it wrote last is seen
        ended = ended and (run.stage.final or number < run.attempt or run.waiting)
        data = await self._engine.log(run.id, number, stream, offset=offset, limit=limit)
        return Log(data=data, attempt=number, next_offset=offset + len(data), complete=ended and len(data) < limit)

    async def counts(self) -> dict[Stage, int]:
        return await self._store.counts()
