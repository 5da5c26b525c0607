"""The end as the algorithm tells it: reports and uploaded results. Called by the receiver's routes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from nexus.kernel.clock import Clock
from nexus.runs import lifecycle
from nexus.runs.model import Report, Run, Stage
from nexus.runs.ports import RunStore
from nexus.runs.results import object_uri


class Completion:
    """Stores reports before they are answered, and knows which are still on their way to the disk."""

    def __init__(self, store: RunStore, clock: Clock, *, on_step: Callable[[str], None] | None = None) -> None:
        self._store = store
        self._clock = clock
        self._on_step = on_step or (lambda _: None)
        self._under_way: defaultdict[str, int] = defaultdict(int)
        self._settled = asyncio.Condition()

    async def report(self, algorithm: str, run_id: str, report: Report) -> bool:
        """Whether the report decided the run; False when it had already ended (the report is then kept beside it).

        Stored when this returns. A repeat of the report that decided the run is no late report. Raises RunNotFound.
        """
        self._under_way[run_id] += 1
        try:
            await self._store.get(algorithm, run_id)
            self._on_step("complete.before-store")
            change = await self._store.change(run_id, lambda run: lifecycle.reported(run, report))
            if not change.written and not _repeats(change.after, report):
                await self._store.record_late(run_id, report)
            self._on_step("complete.after-store")
            return change.written
        finally:
            await self._leave(run_id)

    async def uploaded(self, algorithm: str, run_id: str, key: str) -> str:
        """Notes a result stored through the run's upload URL and returns its URI for the report. Raises RunNotFound."""
        await self._store.get(algorithm, run_id)
        uri = object_uri(key)
        await self._store.change(run_id, lambda run: lifecycle.uploaded(run, uri, self._clock.now()))
        return uri

    async def settled(self, run_id: str) -> None:
        """Returns when no report of this run is between its arrival and the disk."""
        async with self._settled:
            await self._settled.wait_for(lambda: run_id not in self._under_way)

    async def _leave(self, run_id: str) -> None:
        self._under_way[run_id] -= 1
        if not self._under_way[run_id]:
            del self._under_way[run_id]
            async with self._settled:
                self._settled.notify_all()


def _repeats(run: Run, report: Report) -> bool:
    """Whether *report* says again what the run ended with: clients repeat a report whose answer they did not see."""
    if run.stage is Stage.COMPLETED:
        return not report.error_cause and (report.result_uri or run.result_uri) == run.result_uri
    return run.stage is Stage.FAILED and bool(report.error_cause) and report.error_cause == run.failure_cause
