"""Follows what was started to its end: hears of ended attempts, judges them, and periodically compares store and engine, so
that what events missed is found.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from nexus.kernel.clock import Clock
from nexus.kernel.errors import NexusError
from nexus.runs import diagnosis, lifecycle
from nexus.runs.completion import Completion
from nexus.runs.diagnosis import BackOff, End, Retry
from nexus.runs.dispatcher import Dispatcher
from nexus.runs.model import Exit, ExitKind, Run, Stage
from nexus.runs.ports import Absent, Alive, Ended, Engine, RunStore
from nexus.runs.reading import Reading

_LINGER = timedelta(minutes=10)  # an algorithm may tidy up after its report: telemetry, caches

log = logging.getLogger("nexus.supervisor")


class Supervision:
    """Ends runs for reasons the algorithm did not report, and starts their retries."""

    def __init__(
        self,
        store: RunStore,
        engine: Engine,
        reading: Reading,
        completion: Completion,
        dispatcher: Dispatcher,
        clock: Clock,
        *,
        back_off: BackOff | None = None,
        every: timedelta = timedelta(seconds=5),
        keep_logs: timedelta = timedelta(days=7),
    ) -> None:
        self._store = store
        self._engine = engine
        self._reading = reading
        self._completion = completion
        self._dispatcher = dispatcher
        self._clock = clock
        self._back_off = back_off or BackOff()
        self._every = every
        self._keep_logs = keep_logs
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()

    def heard(self, ended: Ended) -> None:
        """The engine's listener: an attempt ended."""
        self._ended.put_nowait(ended)

    async def end(self, run: Run) -> None:
        """Ends what the engine still does for a run that is final in the store."""
        if run.attempt and not run.waiting:
            await self._engine.cancel(run.id, run.attempt)

    async def adopt(self) -> list[Run]:
        """The runs whose attempts are alive, after comparing store and engine once: called before the dispatcher starts.

        An attempt that was created but not stored as started is stored now; one whose run is final is ended.
        """
        alive: list[Run] = []
        for run_id, attempt in await self._engine.attempts():
            run = await self._store.find(run_id)
            status = await self._engine.status(run_id, attempt)
            if run is None or isinstance(status, Absent):
                continue
            if isinstance(status, Ended):
                if not run.stage.final and attempt >= run.attempt:
                    await self._handle(status)
                continue
            if run.stage.final:
                if _outstays(run, self._clock.now()):
                    await self._engine.cancel(run_id, attempt)
                continue
            alive.append(await self._note_started(run, status, attempt))
        await self.reconcile()
        return alive

    async def run(self) -> None:
        """Handles ends until cancelled; compares store and engine every few seconds."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._compare())

    async def drain(self) -> None:
        """Handles the ends already heard of; called last, when nothing new can come."""
        while not self._ended.empty():
            await self._handle_safely(self._ended.get_nowait())

    async def reconcile(self) -> None:
        """One comparison: each RUNNING run must be known to the engine, alive, or its end be handled."""
        for run in await self._store.running():
            status = await self._engine.status(run.id, run.attempt)
            if isinstance(status, Ended):
                await self._handle(status)
            elif isinstance(status, Absent):
                gone = Exit(kind=ExitKind.LOST, ended_at=self._clock.now(), detail="The engine does not know this attempt.")
                await self._handle(Ended(run_id=run.id, attempt=run.attempt, exit=gone))

    async def sweep(self, now: datetime) -> int:
        """Forgets logs and exits of runs that ended long ago, ends attempts of runs that are final; how many were forgotten."""
        forgotten = 0
        for run_id, attempt in await self._engine.attempts():
            run = await self._store.find(run_id)
            status = await self._engine.status(run_id, attempt)
            if isinstance(status, Alive):
                if run is None or _outstays(run, now):
                    await self._engine.cancel(run_id, attempt)
            elif run is None or (run.stage.final and now - run.last_modified > self._keep_logs):
                await self._engine.forget(run_id)
                forgotten += 1
        return forgotten

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self) -> None:
        while True:
            await self._handle_safely(await self._ended.get())

    async def _compare(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(self._every.total_seconds())
            rounds += 1
            try:
                await self.reconcile()
                if rounds % 12 == 0:
                    await self.sweep(self._clock.now())
            except NexusError as error:
                log.error("supervisor.comparison-failed", extra={"fields": {"code": error.code, "error": error.message}})

    async def _handle_safely(self, ended: Ended) -> None:
        try:
            await self._handle(ended)
        except NexusError as error:  # reconciliation finds it again
            log.error(
                "supervisor.end-not-stored",
                extra={"fields": {"run": ended.run_id, "code": error.code, "error": error.message}},
            )

    async def _handle(self, ended: Ended) -> None:
        self._dispatcher.release(ended.run_id)
        await self._completion.settled(ended.run_id)
        run = await self._store.find(ended.run_id)
        if run is None or run.stage.final or ended.attempt < run.attempt:
            return
        configuration = await self._reading.configuration(run)
        now = self._clock.now()

        def decide(each: Run) -> Run:
            if each.stage.final or ended.attempt < each.attempt or (ended.attempt == each.attempt and each.waiting):
                return each
            if ended.attempt > each.attempt:  # it ended before its start was stored
                each = lifecycle.started(each, f"attempt-{ended.attempt}", ended.attempt, ended.exit.started_at or now)
            return _after(each, diagnosis.judge(each, ended.exit, configuration, now, self._back_off), now)

        change = await self._store.change(run.id, decide)
        if change.written:
            log.info(
                "attempt.ended",
                extra={"fields": {"run": run.id, "attempt": ended.attempt, "exit": ended.exit.kind, "stage": change.after.stage}},
            )

    async def _note_started(self, run: Run, status: Alive, attempt: int) -> Run:
        change = await self._store.change(run.id, lambda each: lifecycle.started(each, status.uid, attempt, status.started_at))
        return change.after


def _outstays(run: Run, now: datetime) -> bool:
    """Whether an attempt that still lives should not: its run ended by another's word, or it reported long ago."""
    told = run.stage in (Stage.COMPLETED, Stage.FAILED)
    return run.stage.final and (not told or now - run.last_modified > _LINGER)


def _after(run: Run, verdict: End | Retry, now: datetime) -> Run:
    """The run after a verdict on its newest attempt."""
    if isinstance(verdict, Retry):
        return lifecycle.retrying(run, verdict.not_before, now, counted=verdict.counted)
    return lifecycle.ended(run, verdict.stage, verdict.cause, verdict.details, now)
