"""A run store that tells listeners what was stored: waiters wake, metrics count, the dispatcher keeps its window true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from nexus.runs.model import Report, Run, Stage
from nexus.runs.ports import Accepted, Change, Decide, Ended, Filter, RunStore, TreeLimits


class ObservedStore:
    """Wraps a :class:`RunStore`; each listener hears each written change after it is stored, on the event loop."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self.listeners: list[Callable[[Change], None]] = []

    async def change(self, run_id: str, decide: Decide) -> Change:
        change = await self._store.change(run_id, decide)
        if change.written:
            self._tell(change)
        return change

    async def end_attempt(self, ended: Ended, decide: Decide) -> Change:
        change = await self._store.end_attempt(ended, decide)
        if change.written:
            self._tell(change)
        return change

    async def change_tree(self, run_id: str, decide: Decide) -> list[Change]:
        changes = await self._store.change_tree(run_id, decide)
        for change in changes:
            if change.written:
                self._tell(change)
        return changes

    def _tell(self, change: Change) -> None:
        for listener in self.listeners:
            listener(change)

    # What follows passes through.

    async def accept(self, run: Run, inline: bytes | None, limits: TreeLimits) -> Accepted:
        return await self._store.accept(run, inline, limits)

    async def get(self, algorithm: str, run_id: str) -> Run:
        return await self._store.get(algorithm, run_id)

    async def find(self, run_id: str) -> Run | None:
        return await self._store.find(run_id)

    async def inline_payload(self, run_id: str) -> bytes:
        return await self._store.inline_payload(run_id)

    async def tagged(self, tag: str, *, limit: int, before: str | None = None) -> list[Run]:
        return await self._store.tagged(tag, limit=limit, before=before)

    async def page(self, where: Filter, *, limit: int, before: str | None = None) -> list[Run]:
        return await self._store.page(where, limit=limit, before=before)

    async def waiting(self, now: datetime, *, limit: int, exclude: Sequence[str] = ()) -> list[Run]:
        return await self._store.waiting(now, limit=limit, exclude=exclude)

    async def running(self) -> list[Run]:
        return await self._store.running()

    async def counts(self) -> dict[Stage, int]:
        return await self._store.counts()

    async def record_late(self, run_id: str, report: Report) -> None:
        await self._store.record_late(run_id, report)

    async def late_reports(self, run_id: str) -> list[Report]:
        return await self._store.late_reports(run_id)

    async def attempts(self, run_id: str, *, limit: int) -> list[Ended]:
        return await self._store.attempts(run_id, limit=limit)
