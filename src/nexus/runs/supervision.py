"""Follows what was started to its end: hears of ended attempts, judges them, and periodically compares store and engine, so
that what events missed is found.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

from nexus.kernel.clock import Clock
from nexus.kernel.errors import NexusError
from nexus.runs import diagnosis, lifecycle
from nexus.runs.completion import Completion
from nexus.runs.diagnosis import BackOff, End, Retry
from nexus.runs.dispatcher import Dispatcher
from nexus.runs.model import Exit, ExitKind, Run
from nexus.runs.ports import Absent, Alive, Ended, Engine, RunStore
from nexus.runs.reading import Reading

SWEEP_EVERY = timedelta(minutes=10)
_LEAST_KEPT = timedelta(hours=1)  # of logs, however little room there is
_STRIDE = 16  # steps of a long walk between two turns of the loop: a step reads a file or a row

log = logging.getLogger("nexus.supervisor")


class Supervision:
    """Ends runs for reasons the algorithm did not report, and starts their retries. ``faults`` counts what nobody foresaw.

    ``is_tight`` says whether the disk has less room than it should: logs are then kept less long than ``keep_logs``.
    """

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
        is_tight: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._engine = engine
        self._reading = reading
        self._completion = completion
        self._dispatcher = dispatcher
        self._elapsed = dispatcher.elapsed
        self._clock = clock
        self._back_off = back_off or BackOff()
        self._every = every
        self._keep_logs = keep_logs
        self._is_tight = is_tight
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()
        self._some_end = asyncio.Event()  # a new one after each end
        self.faults = 0

    # ── what others tell it ──────────────────────────────────────────────────────────────────────────────────────────

    def heard(self, ended: Ended) -> None:
        """The engine's listener: an attempt ended."""
        self._ended.put_nowait(ended)
        self._some_end.set()
        self._some_end = asyncio.Event()

    async def end(self, run: Run) -> None:
        """Ends what the engine does, or is about to do, for a run that is final in the store.

        What cannot be ended now is logged, and tried again at each comparison.
        """
        if run.attempt:
            await self._cancel(run.id, run.attempt)
        if self._dispatcher.launching(run.id) is not None:
            await self._cancel(run.id, run.attempt + 1)

    async def wait_ended(self, runs: list[Run], wait_s: float) -> bool:
        """Whether no process of these runs is left: as soon as that is so, or after *wait_s* seconds."""
        try:
            async with asyncio.timeout(wait_s):
                for number, run in enumerate(runs):
                    await _breathe(number)
                    await self._wait_ended(run)
        except TimeoutError:
            log.warning("supervisor.cancel-takes-long", extra={"fields": {"runs": len(runs)}})
            return False
        return True

    async def _wait_ended(self, run: Run) -> None:
        launch = self._dispatcher.launching(run.id)
        if launch is not None:
            await asyncio.wait({launch})
        for attempt in (run.attempt, run.attempt + 1):
            heard = self._some_end  # taken before the look, or an end between the two would be missed
            while attempt and isinstance(await self._engine.status(run.id, attempt), Alive):
                await heard.wait()
                heard = self._some_end

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def adopt(self) -> list[Run]:
        """The unfinished runs whose attempts are alive, after comparing store and engine once: called before the dispatcher
        starts. An attempt that was created but not stored as started is stored now.
        """
        alive: list[Run] = []
        for number, (run_id, attempt) in enumerate(await self._engine.live()):
            await _breathe(number)
            run = await self._store.find(run_id)
            if run is None or run.stage.final or attempt < run.attempt:
                continue  # the first sweep looks after them
            status = await self._engine.status(run_id, attempt)
            if isinstance(status, Ended):
                await self._handle_safely(status)
            elif isinstance(status, Alive):
                noted = await self._note_started(run, status, attempt)
                if noted is not None:
                    alive.append(noted)
        await self.reconcile()
        return alive

    async def run(self) -> None:
        """Handles ends, compares and sweeps until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._repeat(self._every, self.reconcile, self.end_overdue, self.end_overstayers, self._recount))
            group.create_task(self._sweep_now_and_then())

    async def drain(self) -> None:
        """Handles the ends already heard of; called last, when nothing new can come."""
        while not self._ended.empty():
            await self._handle_safely(self._ended.get_nowait())

    async def _follow(self) -> None:
        while True:
            await self._handle_safely(await self._ended.get())

    async def _repeat(self, every: timedelta, *steps: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(every.total_seconds())
            for step in steps:
                await self._safely(step)

    async def _sweep_now_and_then(self) -> None:
        await self._safely(self.sweep)
        await self._repeat(SWEEP_EVERY, self.sweep)

    async def _recount(self) -> None:
        await self._dispatcher.recount()

    async def _safely(self, step: Callable[[], Awaitable[object]]) -> None:
        """A step of a loop that goes on whatever happens: what is left undone is found again."""
        try:
            await step()
        except NexusError as error:
            log.error("supervisor.step-failed", extra={"fields": {"code": error.code, "error": error.message}})
        except Exception:  # a role's loop goes on
            self.faults += 1
            log.exception("supervisor.step-crashed")

    # ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def reconcile(self) -> None:
        """One comparison: each RUNNING run must be known to the engine, alive, or its end be handled."""
        for number, run in enumerate(await self._store.running()):
            await _breathe(number)
            status = await self._engine.status(run.id, run.attempt)
            if isinstance(status, Ended):
                await self._handle_safely(status)
            elif isinstance(status, Absent):
                gone = Exit(kind=ExitKind.LOST, ended_at=self._clock.now(), detail="The engine does not know this attempt.")
                await self._handle_safely(Ended(run_id=run.id, attempt=run.attempt, exit=gone))

    async def end_overdue(self) -> None:
        """Ends runs whose time ran out while they waited for their next attempt."""
        for number, run in enumerate(self._dispatcher.between_attempts()):
            await _breathe(number)
            now = self._clock.now()
            end = diagnosis.overdue(await self._reading.configuration(run), self._elapsed.since_start_s(run))
            if end is not None:
                await self._store.change(run.id, partial(_overdue, end=end, now=now))

    async def end_overstayers(self) -> None:
        """Ends attempts that live on although their run is over, and lets go of what no engine knows any more."""
        for run_id, attempt in self._dispatcher.held():
            run = await self._store.find(run_id)
            if run is None or not run.stage.final:
                continue
            if not isinstance(await self._engine.status(run_id, attempt), Alive):
                if self._dispatcher.launching(run_id) is None:
                    self._dispatcher.release(run_id, attempt)
            elif lifecycle.outstays(run, self._elapsed.since_end_s(run)):
                await self._cancel(run_id, attempt)

    async def sweep(self) -> int:
        """Ends attempts nobody wants, forgets logs and exits of runs that ended long ago; how many runs were forgotten.

        Looks at what lives and at what ended long ago, in small steps: what is kept between the two costs nothing. While the disk
        is tight, the oldest go before their time, down to those of the last hour.
        """
        live = await self._engine.live()
        self._elapsed.keep({run_id for run_id, _ in live})
        for number, (run_id, attempt) in enumerate(live):
            await _breathe(number)
            run = await self._store.find(run_id)
            if run is not None and not lifecycle.outstays(run, self._elapsed.since_end_s(run)):
                continue
            if isinstance(await self._engine.status(run_id, attempt), Alive):
                await self._cancel(run_id, attempt)
        keep = self._keep_logs
        forgotten = await self._forget_older(keep)
        while keep > _LEAST_KEPT and self._is_tight():
            keep = max(keep / 2, _LEAST_KEPT)
            early = await self._forget_older(keep, while_=self._is_tight)
            forgotten += early
            if early:
                fields = {"runs": early, "ended_before_h": round(keep / timedelta(hours=1), 1)}
                log.warning("logs.forgotten-early", extra={"fields": fields})
        return forgotten

    async def _forget_older(self, keep: timedelta, while_: Callable[[], bool] = lambda: True) -> int:
        """Forgets logs and exits of runs that ended longer ago than *keep*, those that came first first; of how many."""
        now = self._clock.now()
        old = await self._engine.old(now - keep)
        forgotten = 0
        for number, run_id in enumerate(dict.fromkeys(run_id for run_id, _ in old)):
            await _breathe(number)
            run = await self._store.find(run_id)
            if run is None or (run.stage.final and now - run.last_modified > keep and await self._keep_ends(run)):
                if not while_():
                    break
                await self._engine.forget(run_id)
                forgotten += 1
        return forgotten

    async def _keep_ends(self, run: Run) -> bool:
        """Whether the store knows how each attempt of the run ended: those nobody heard of are told to it now."""
        known = {each.attempt for each in await self._store.attempts(run.id, limit=run.attempt + 1)}
        try:
            for attempt in range(1, run.attempt + 2):
                status = await self._engine.status(run.id, attempt) if attempt not in known else None
                if isinstance(status, Ended):
                    await self._store.end_attempt(status, _as_it_is)
        except NexusError as error:  # a full disk, for instance
            log.error("supervisor.end-not-stored", extra={"fields": {"run": run.id, "code": error.code, "error": error.message}})
            return False
        return True

    async def _cancel(self, run_id: str, attempt: int) -> None:
        try:
            await self._engine.cancel(run_id, attempt)
        except (NexusError, OSError) as error:  # a full disk, for instance
            log.error("supervisor.not-ended", extra={"fields": {"run": run_id, "attempt": attempt, "error": str(error)}})

    # ── one end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _handle_safely(self, ended: Ended) -> None:
        """Handles an end; one that could not be stored is found again by a comparison."""
        try:
            await self._handle(ended)
        except NexusError as error:
            fields = {"run": ended.run_id, "code": error.code, "error": error.message}
            log.error("supervisor.end-not-stored", extra={"fields": fields})
        except Exception:  # a role's loop goes on
            self.faults += 1
            log.exception("supervisor.end-crashed", extra={"fields": {"run": ended.run_id}})

    async def _handle(self, ended: Ended) -> None:
        self._dispatcher.release(ended.run_id, ended.attempt)
        self._elapsed.attempt_ended(ended.run_id)
        await self._completion.settled(ended.run_id)
        run = await self._store.find(ended.run_id)
        if run is None:
            return
        if run.stage.final or ended.attempt < run.attempt:  # it decides nothing any more, and is kept
            await self._store.end_attempt(ended, _as_it_is)
            return
        configuration = await self._reading.configuration(run)
        now, used_s = self._clock.now(), self._elapsed.since_start_s(run)

        def decide(each: Run) -> Run:
            if each.stage.final or ended.attempt < each.attempt or (ended.attempt == each.attempt and each.waiting):
                return each
            if ended.attempt > each.attempt:  # it ended before its start was stored
                each = lifecycle.started(each, f"attempt-{ended.attempt}", ended.attempt, ended.exit.started_at or now)
            return _after(each, diagnosis.judge(each, ended.exit, configuration, now, self._back_off, used_s=used_s), now)

        change = await self._store.end_attempt(ended, decide)
        if change.written:
            log.info(
                "attempt.ended",
                extra={"fields": {"run": run.id, "attempt": ended.attempt, "exit": ended.exit.kind, "stage": change.after.stage}},
            )

    async def _note_started(self, run: Run, status: Alive, attempt: int) -> Run | None:
        """The run as started; None when that could not be stored: the dispatcher then asks for the same attempt again."""
        try:
            change = await self._store.change(run.id, lambda each: lifecycle.started(each, status.uid, attempt, status.started_at))
        except NexusError as error:
            fields = {"run": run.id, "code": error.code, "error": error.message}
            log.error("supervisor.start-not-stored", extra={"fields": fields})
            return None
        return change.after


async def _breathe(number: int) -> None:
    """Gives others a turn, now and then."""
    if number % _STRIDE == _STRIDE - 1:
        await asyncio.sleep(0)


def _as_it_is(run: Run) -> Run:
    return run


def _after(run: Run, verdict: End | Retry, now: datetime) -> Run:
    """The run after a verdict on its newest attempt."""
    if isinstance(verdict, Retry):
        return lifecycle.retrying(run, verdict.not_before, now, counted=verdict.counted)
    return lifecycle.ended(run, verdict.stage, verdict.cause, verdict.details, now)


def _overdue(run: Run, end: End, now: datetime) -> Run:
    """The run ended, unless its next attempt was begun meanwhile: the engine sees to that one's time."""
    return lifecycle.ended(run, end.stage, end.cause, end.details, now) if run.waiting else run
