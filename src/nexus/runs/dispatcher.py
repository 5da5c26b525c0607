"""Starts what waits: a bounded window of the store's waiting runs in memory, and the loop that carries out the plans of
:mod:`nexus.runs.dispatch`.

What waits lives in the store. The window is filled by each accepted run while it has room; once it had none, it is refilled
from the store, oldest first. Runs between two attempts, few at any time, are all in memory. A lost window costs one refill.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta

import msgspec

from nexus.kernel.clock import Clock
from nexus.kernel.errors import InvalidInput, NexusError
from nexus.runs import diagnosis, dispatch, launching, lifecycle
from nexus.runs.algorithms import Algorithms
from nexus.runs.building import AGAIN, Builds, Revision, last_line
from nexus.runs.configuration import merge
from nexus.runs.elapsed import Elapsed
from nexus.runs.model import Run, Stage
from nexus.runs.ports import Change, Engine, Filter, Launch, LaunchFailed, RunStore
from nexus.runs.reading import every
from nexus.runs.templates import Template
from nexus.runs.urls import Signer
from nexus.runs.window import Window

log = logging.getLogger("nexus.dispatcher")

WINDOW = 2_000
NOT_LAUNCHED = "Algorithm submission was buffered, but failed to launch: please review configuration and try again."
_DRY_BATCH = 512
_LAST_LAUNCHES_S = 5.0  # how long launches under way may take when the dispatcher is stopped


class _Held(msgspec.Struct, frozen=True):
    """What one attempt holds of the machine."""

    attempt: int
    claim: dispatch.Claim


class Dispatcher:
    """The one who starts runs. ``offer`` and ``observe`` are called on the event loop and never block.

    ``make_folder`` makes a run's own result folder before its process starts. ``faults`` counts what nobody foresaw.
    """

    def __init__(
        self,
        store: RunStore,
        engine: Engine,
        algorithms: Algorithms,
        clock: Clock,
        *,
        capacity: dispatch.Capacity,
        addresses: Callable[[], launching.Addresses],
        signer: Signer,
        make_folder: Callable[[str], None] = lambda _: None,
        on_step: Callable[[str], None] | None = None,
        window: int = WINDOW,
    ) -> None:
        self._store = store
        self._engine = engine
        self._algorithms = algorithms
        self._clock = clock
        self._capacity = capacity
        self._addresses = addresses
        self._signer = signer
        self._make_folder = make_folder
        self._on_step = on_step or (lambda _: None)
        self._window = Window(window)
        self._delayed: dict[str, tuple[Run, asyncio.TimerHandle]] = {}  # they come to the front of the window
        self._launching: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, _Held] = {}
        self._builds = Builds(engine, done=self._rouse)
        self._preparing: set[str] = set()  # runs whose launch may still be building what they need
        self._tries: dict[str, int] = {}  # launches of a run that failed one after the other
        self._overflow = True  # the store has waiting runs the window has not: at the start, all of them
        self._missed = False  # one of them came while the store was read
        self._waiting = 0
        self._wake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._pace = dispatch.Pace(tokens=float(capacity.burst), at_s=clock.monotonic())
        self.elapsed = Elapsed(clock)
        self.paused = False
        self.faults = 0

    # ── what others tell it ──────────────────────────────────────────────────────────────────────────────────────────

    def offer(self, run: Run) -> None:
        """A run was stored and wants a start."""
        self._waiting += 1
        if self._knows(run.id):  # a refill saw it first
            return
        if not run.dry_run and run.parent is not None and run.parent.run_id in self._held:
            self._window.add_front(run)
        elif (self._overflow and not run.dry_run) or not self._window.add(run):
            self._overflow = self._missed = True
        self._wake.set()

    def observe(self, change: Change) -> None:
        """A run was changed in the store."""
        before, after = change.before, change.after
        self.elapsed.observe(after)
        self._waiting += after.waiting - before.waiting
        if after.waiting and (not before.waiting or after.attempt > before.attempt):  # start and end may come in one change
            self._delay(after, self._until_due(after))
        elif before.waiting and not after.waiting:
            self._drop(after.id)
            self._tries.pop(after.id, None)
            if after.id in self._preparing:
                self._launching[after.id].cancel()
            if self._builds.doubt(after):
                self._wake.set()

    def release(self, run_id: str, attempt: int) -> None:
        """This attempt has ended: what it held is free."""
        held = self._held.get(run_id)
        if held is not None and held.attempt == attempt:
            del self._held[run_id]
            self._wake.set()

    def backlog(self) -> int:
        """How many stored runs wait for a start."""
        return self._waiting

    def held(self) -> list[tuple[str, int]]:
        """Run and attempt of everything that holds a part of the machine."""
        return [(run_id, held.attempt) for run_id, held in self._held.items()]

    def between_attempts(self) -> list[Run]:
        """Every run that was started before and waits for its next attempt."""
        waiting = [*(run for run, _ in self._delayed.values()), *self._window.front()]
        return [run for run in waiting if run.stage is Stage.RUNNING]

    def launching(self, run_id: str) -> asyncio.Task[None] | None:
        """The launch of this run that is under way, if one is."""
        return self._launching.get(run_id)

    def load(self) -> dict[str, object]:
        """What is held now of what there is, for people."""
        claims = [held.claim for held in self._held.values()]
        return {
            "runs": len(claims),
            "maxRuns": self._capacity.runs,
            "cpuMillicores": sum(claim.cpu_millicores for claim in claims),
            "maxCpuMillicores": self._capacity.cpu_millicores,
            "memoryBytes": sum(claim.memory_bytes for claim in claims),
            "maxMemoryBytes": self._capacity.memory_bytes,
        }

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def recover(self, started: Iterable[Run]) -> None:
        """Called once before :meth:`run`: *started* are the runs whose attempts an engine still executes."""
        for run in started:
            self.elapsed.observe(run)
            try:
                template = await self._algorithms.at(run.algorithm, run.template_revision)
                claim = launching.claim_of(run, merge(template, run.overrides))
            except InvalidInput:  # an older version accepted what this one cannot read: it runs all the same
                claim = dispatch.Claim(run_id=run.id, parent_id=run.parent.run_id if run.parent else None)
            self._held[run.id] = _Held(run.attempt, claim)
        async for run in every(self._store, Filter(stage=Stage.RUNNING)):
            self.elapsed.observe(run)
            if run.waiting:
                self._delay(run, self._until_due(run))
        for parent_id in list(self._held):
            await self._take_children(parent_id)
        await self.recount()
        self._wake.set()

    async def recount(self) -> None:
        """Sets the number of waiting runs right again: an accept and a start may be told in either order."""
        counts = await self._store.counts()
        self._waiting = counts.get(Stage.BUFFERED, 0) + counts.get(Stage.NEW, 0) + len(self.between_attempts())

    async def run(self) -> None:
        """Starts runs until cancelled; launches under way then get a little time to be stored."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self.paused:
                    continue
                try:
                    await self._round()
                except NexusError as error:
                    log.error("dispatch.round-failed", extra={"fields": {"code": error.code, "error": error.message}})
                    self._wake_in(AGAIN.base)
                except Exception:  # a role's loop goes on
                    self.faults += 1
                    log.exception("dispatch.round-crashed")
                    self._wake_in(AGAIN.base)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        for timer in [self._alarm, *(timer for _, timer in self._delayed.values())]:
            if timer is not None:
                timer.cancel()
        await self._builds.stop()
        for run_id in self._preparing:
            self._launching[run_id].cancel()
        tasks = list(self._launching.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_LAST_LAUNCHES_S)
            for task in late:  # what the engine took is adopted by the next start
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ── one round ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _round(self) -> None:
        if self._overflow and self._window.is_low:
            await self._refill()
        if self._window.has_dry:
            await self._complete_dry()
        await self._start_some()
        await self._builds.end_unwanted(self._is_waited_for)

    async def _refill(self) -> None:
        self._missed = False
        room = self._window.room
        known = [*self._window.ids(), *self._delayed, *self._launching]
        found = await self._store.waiting(self._clock.now(), limit=room, exclude=known)
        new = [run for run in found if not self._knows(run.id)]  # some became known while the store was read
        self._window.merge(new)
        if len(found) < room and not self._missed:
            self._overflow = False
        elif len(new) < len(found):
            self._wake.set()

    async def _complete_dry(self) -> None:
        runs = self._window.take_dry(_DRY_BATCH)
        now = self._clock.now()
        outcomes = await asyncio.gather(
            *(self._store.change(run.id, lambda each: lifecycle.dry_completed(each, now)) for run in runs),
            return_exceptions=True,
        )
        failed = [(run, outcome) for run, outcome in zip(runs, outcomes, strict=True) if isinstance(outcome, BaseException)]
        if failed:  # a full disk, for instance
            self._window.merge(run for run, _ in failed)
            log.error("dispatch.dry-runs-failed", extra={"fields": {"runs": len(failed), "error": str(failed[0][1])}})
            self._wake_in(AGAIN.base)
        elif self._window.has_dry or self._overflow:
            self._wake.set()

    async def _start_some(self) -> None:
        """Plans over the front of the window and as many of the oldest others as could start at all."""
        claims: list[dispatch.Claim] = []
        runs: list[Run] = []
        self._pace = dispatch.refill(self._pace, self._capacity, self._clock.monotonic())
        held = [held.claim for held in self._held.values()]
        most = min(dispatch.free_places(held, self._capacity), int(self._pace.tokens)) + 1
        others = 0
        for run in self._window.candidates(most):
            if others >= most:
                break
            if run.id in self._held or run.id in self._launching:
                continue
            claim = await self._claim(run)
            if claim is not None:
                claims.append(claim)
                runs.append(run)
                others += not self._window.is_front(run.id)
        held = [held.claim for held in self._held.values()]
        plan = dispatch.plan(claims, held, self._capacity, self._pace, self._clock.monotonic())
        self._pace = plan.pace
        for index in plan.start:
            self._begin(runs[index], claims[index])
        if plan.wait_s is not None:
            self._wake_in(timedelta(seconds=plan.wait_s))
        if plan.start and self._overflow:
            self._wake.set()

    async def _claim(self, run: Run) -> dispatch.Claim | None:
        """What the run would hold; None when it cannot be started now, or at all."""
        try:
            template = await self._algorithms.at(run.algorithm, run.template_revision)
            claim = launching.claim_of(run, merge(template, run.overrides))
        except InvalidInput as error:
            await self._fail(run, NOT_LAUNCHED, error.message)
            return None
        if self._builds.ready(template, failed=self._fail_all):
            return claim
        return None

    def _begin(self, run: Run, claim: dispatch.Claim) -> None:
        self._window.discard(run.id)
        self._held[run.id] = _Held(run.attempt + 1, claim)
        self._launching[run.id] = asyncio.create_task(self._launch(run), name=f"launch {run.id}")

    # ── one launch ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _launch(self, run: Run) -> None:
        """Starts one attempt. Whatever goes wrong, what it holds is released and the run ends or waits again."""
        try:
            started = await self._launch_or_raise(run)
            self._tries.pop(run.id, None)
            if not started:
                self.release(run.id, run.attempt + 1)
        except LaunchFailed as failure:
            self.release(run.id, run.attempt + 1)
            if failure.permanent:
                await self._fail(run, failure.cause, failure.details)
            else:
                self._put_off(run, failure.cause, last_line(failure.details))
        except InvalidInput as error:  # its workgroup was removed, for instance: no later try would fare better
            self.release(run.id, run.attempt + 1)
            await self._fail(run, NOT_LAUNCHED, error.message)
        except NexusError as error:
            self.release(run.id, run.attempt + 1)
            self._put_off(run, error.message)
        except Exception:  # a role's loop goes on
            self.faults += 1
            log.exception("dispatch.launch-crashed", extra={"fields": {"run": run.id}})
            self.release(run.id, run.attempt + 1)
            self._put_off(run, "an error nobody foresaw")
        finally:
            self._launching.pop(run.id, None)
            self._wake.set()

    async def _launch_or_raise(self, run: Run) -> bool:
        """Whether the attempt was started; False when the run no longer wants it."""
        current = await self._store.find(run.id)
        if current is None or not current.waiting or current.attempt != run.attempt:
            return False
        template = await self._algorithms.at(run.algorithm, run.template_revision)
        configuration = merge(template, run.overrides)
        end = diagnosis.overdue(configuration, self.elapsed.since_start_s(current))
        if end is not None:
            now = self._clock.now()
            await self._store.change(run.id, lambda each: lifecycle.ended(each, end.stage, end.cause, end.details, now))
            return False
        launch = launching.launch_of(
            run,
            template,
            configuration,
            self._algorithms.workgroup_of(configuration),
            addresses=self._addresses(),
            signer=self._signer,
            used_s=self.elapsed.since_start_s(current),
        )
        if launch.local:
            await self._prepare(launch)
        self._make_folder(run.id)
        self.elapsed.starting(current)
        self._on_step("dispatch.before-create")
        uid = await self._engine.create(launch)
        self._on_step("dispatch.after-create")
        at = self._clock.now()
        change = await self._store.change(run.id, lambda each: lifecycle.started(each, uid, launch.attempt, at))
        self._on_step("dispatch.after-store")
        self.elapsed.observe(change.after)  # it may have ended before this start was noted
        if lifecycle.outstays(change.after, 0.0):  # cancelled meanwhile
            await self._engine.cancel(run.id, launch.attempt)
        elif launch.attempt > 1:
            await self._take_children(run.id)
        return True

    async def _prepare(self, launch: Launch) -> None:
        """Files may have changed since they were built: what the attempt needs is built again, unless its run is given up."""
        self._preparing.add(launch.run_id)
        try:
            await self._engine.prepare(launch.local)
        except asyncio.CancelledError:
            self.release(launch.run_id, launch.attempt)
            raise
        finally:
            self._preparing.discard(launch.run_id)

    async def _fail(self, run: Run, cause: str, details: str) -> None:
        now = self._clock.now()
        try:
            await self._store.change(run.id, lambda each: lifecycle.ended(each, Stage.SCHEDULING_FAILED, cause, details, now))
        except NexusError as error:
            self._put_off(run, error.message)
        else:
            self._drop(run.id)

    async def _fail_all(self, template: Template, failure: LaunchFailed) -> None:
        for run in self._window.runs():
            if run.algorithm == template.name and run.template_revision == template.revision:
                await self._fail(run, failure.cause, failure.details)

    async def _take_children(self, parent_id: str) -> None:
        """Brings the waiting children of a started run to the front."""
        async for child in every(self._store, Filter(parent_id=parent_id)):
            if child.stage is Stage.BUFFERED and not child.dry_run and not self._is_under_way(child.id):
                self._window.add_front(child)

    async def _is_waited_for(self, revisions: set[Revision]) -> bool:
        """Whether a run of one of these waits, in memory or in the store. A run of another revision there counts too."""
        waiting = [*self._window.runs(), *(run for run, _ in self._delayed.values())]
        if any((run.algorithm, run.template_revision) in revisions for run in waiting):
            return True
        if not self._overflow:
            return False
        pages = [await self._store.page(Filter(algorithm=name, stage=Stage.BUFFERED), limit=1) for name, _ in revisions]
        return any(pages)

    # ── what is where ────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_under_way(self, run_id: str) -> bool:
        return run_id in self._held or run_id in self._launching or run_id in self._delayed

    def _knows(self, run_id: str) -> bool:
        return run_id in self._window or self._is_under_way(run_id)

    def _drop(self, run_id: str) -> None:
        """The run wants no start any more."""
        self._window.discard(run_id)
        _, timer = self._delayed.pop(run_id, (None, None))
        if timer is not None:
            timer.cancel()

    # ── later ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _put_off(self, run: Run, cause: str, why: str = "") -> None:
        """The run could not be started now: it is tried again, after ever longer pauses."""
        tries = self._tries[run.id] = self._tries.get(run.id, 0) + 1
        pause = AGAIN.pause(tries)
        fields = {"run": run.id, "algorithm": run.algorithm, "cause": cause, "why": why, "again_in_s": pause.total_seconds()}
        log.warning("dispatch.put-off", extra={"fields": fields})
        self._delay(run, pause)

    def _until_due(self, run: Run) -> timedelta:
        """A wall clock that was set back since it was stored makes the pause no longer than it was meant."""
        if run.not_before is None:
            return timedelta()
        return max(min(run.not_before - self._clock.now(), run.not_before - run.last_modified), timedelta())

    def _delay(self, run: Run, pause: timedelta) -> None:
        """Has the run come to the front of the window after *pause*."""
        self._drop(run.id)
        timer = asyncio.get_running_loop().call_later(pause.total_seconds(), self._come_to_front, run)
        self._delayed[run.id] = run, timer

    def _come_to_front(self, run: Run) -> None:
        del self._delayed[run.id]
        self._window.add_front(run)
        self._wake.set()

    def _wake_in(self, pause: timedelta) -> None:
        """Another round after *pause* at the latest."""
        loop = asyncio.get_running_loop()
        at = loop.time() + pause.total_seconds() + 0.001
        if self._alarm is None or at < self._alarm.when():
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = loop.call_at(at, self._rouse)

    def _rouse(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._wake.set()
