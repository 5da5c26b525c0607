"""Starts what waits: a bounded window of the store's waiting runs in memory, and the loop that carries out the plans of
:mod:`nexus.runs.dispatch`.

What waits lives in the store. The window is filled by each accepted run while it has room; once it had none, it is refilled
from the store, oldest first, so that recovered and delayed runs stand before newer ones. A lost window costs one refill.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta

from nexus.kernel.clock import Clock
from nexus.kernel.errors import NexusError, UnknownAlgorithm
from nexus.runs import diagnosis, dispatch, launching, lifecycle
from nexus.runs.algorithms import Algorithms
from nexus.runs.configuration import merge
from nexus.runs.model import Run, Stage
from nexus.runs.ports import Change, Engine, Filter, LaunchFailed, RunStore
from nexus.runs.templates import Template
from nexus.runs.urls import Signer

log = logging.getLogger("nexus.dispatcher")

WINDOW = 2_000
_DRY_BATCH = 512
_RETRY_ENGINE = timedelta(seconds=2)

Local = frozenset[tuple[str, str]]  # a template's local annotations, as a key


class Dispatcher:
    """The one who starts runs. ``offer`` and ``observe`` are called on the event loop and never block.

    ``make_folder`` makes a run's own result folder before its process starts.
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
        self._limit = window
        self._window: dict[str, Run] = {}  # in order of start
        self._dry: dict[str, Run] = {}  # the same for dry runs, which hold nothing of the machine
        self._kin: dict[str, Run] = {}  # children of started runs: never left to the store alone, or trees could block
        self._claims: dict[str, dispatch.Claim] = {}
        self._busy: set[str] = set()  # between the window and the engine's answer
        self._prepared: set[Local] = set()
        self._building: set[Local] = set()
        self._overflow = True  # at the start everything that waits is in the store
        self._missed = False
        self._waiting = 0
        self._wake = asyncio.Event()
        self._pace = dispatch.Pace(tokens=float(capacity.burst), at_s=clock.monotonic())
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self.paused = False

    # ── what others tell it ──────────────────────────────────────────────────────────────────────────────────────────

    def offer(self, run: Run) -> None:
        """A run was stored and wants a start."""
        self._waiting += 1
        if run.parent is not None and run.parent.run_id in self._claims:
            self._kin[run.id] = run
        elif self._overflow or self._room() <= 0:
            self._overflow = self._missed = True
        else:
            (self._dry if run.dry_run else self._window)[run.id] = run
        self._wake.set()

    def observe(self, change: Change) -> None:
        """A run was changed in the store."""
        self._waiting += change.after.waiting - change.before.waiting
        if change.after.waiting and not change.before.waiting:
            self._overflow = True
            self._at(change.after.not_before or self._clock.now())
        elif change.before.waiting and not change.after.waiting:
            for place in (self._window, self._dry, self._kin):
                place.pop(change.after.id, None)

    def release(self, run_id: str) -> None:
        """An attempt of this run ended: what it held is free."""
        if self._claims.pop(run_id, None) is not None:
            self._wake.set()

    def backlog(self) -> int:
        """How many stored runs wait for a start."""
        return self._waiting

    def load(self) -> dict[str, object]:
        """What is held now of what there is, for people."""
        held = list(self._claims.values())
        return {
            "runs": len(held),
            "maxRuns": self._capacity.runs,
            "cpuMillicores": sum(claim.cpu_millicores for claim in held),
            "maxCpuMillicores": self._capacity.cpu_millicores,
            "memoryBytes": sum(claim.memory_bytes for claim in held),
            "maxMemoryBytes": self._capacity.memory_bytes,
        }

    # ── its life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def recover(self, started: Iterable[Run]) -> None:
        """Called once before :meth:`run`: *started* are the runs whose attempts an engine still executes."""
        counts = await self._store.counts()
        self._waiting = counts.get(Stage.BUFFERED, 0) + counts.get(Stage.NEW, 0)
        for run in started:
            template = await self._algorithms.at(run.algorithm, run.template_revision)
            self._claims[run.id] = launching.claim_of(run, merge(template, run.overrides))
        for parent_id in list(self._claims):
            for child in await self._store.page(Filter(parent_id=parent_id), limit=1_000):
                if child.waiting:
                    self._kin[child.id] = child
        due = await self._store.next_due()
        if due is not None:
            self._at(due)
        self._wake.set()

    async def run(self) -> None:
        """Starts runs until cancelled; attempts that are being started then are carried through."""
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
                    self._later(_RETRY_ENGINE)
        finally:
            for timer in self._timers:
                timer.cancel()
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def resume(self) -> None:
        """Takes up work after ``paused`` was set."""
        self.paused = False
        self._wake.set()

    # ── one round ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _round(self) -> None:
        if self._overflow and self._room() >= self._limit // 2:
            await self._refill()
        if self._dry:
            await self._complete_dry(list(itertools.islice(self._dry.values(), _DRY_BATCH)))
            self._wake.set()
        await self._start_some()

    def _room(self) -> int:
        return self._limit - len(self._window) - len(self._dry)

    async def _refill(self) -> None:
        self._missed = False
        room = self._room()
        known = [*self._window, *self._dry, *self._kin, *self._busy]
        found = await self._store.waiting(self._clock.now(), limit=room, exclude=known)
        merged = {**self._window, **{run.id: run for run in found if not run.dry_run and run.id not in self._busy}}
        self._window = {run_id: merged[run_id] for run_id in sorted(merged)}  # ids are in order of arrival
        self._dry.update((run.id, run) for run in found if run.dry_run)
        if len(found) < room and not self._missed:
            self._overflow = False

    async def _complete_dry(self, runs: list[Run]) -> None:
        for run in runs:
            del self._dry[run.id]
        now = self._clock.now()
        outcomes = await asyncio.gather(
            *(self._store.change(run.id, lambda each: lifecycle.dry_completed(each, now)) for run in runs),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):  # a full disk, for instance: they are in the store and come again
                self._overflow = True
                raise outcome

    async def _start_some(self) -> None:
        """Plans over the children of started runs and as many of the oldest others as could start at all."""
        claims: list[dispatch.Claim] = []
        runs: list[Run] = []
        most = len(self._kin) + self._capacity.runs + 1
        for run in [*self._kin.values(), *self._window.values()]:
            if len(runs) >= most:
                break
            try:
                template = await self._algorithms.at(run.algorithm, run.template_revision)
            except UnknownAlgorithm as error:
                await self._fail(run, "Its template is not kept any more.", error.message)
                continue
            if self._is_built(template):
                claims.append(launching.claim_of(run, merge(template, run.overrides)))
                runs.append(run)
        plan = dispatch.plan(claims, self._claims.values(), self._capacity, self._pace, self._clock.monotonic())
        self._pace = plan.pace
        for index in plan.start:
            self._begin(runs[index], claims[index])
        if plan.wait_s is not None:
            self._later(timedelta(seconds=plan.wait_s))

    def _is_built(self, template: Template) -> bool:
        """Whether the template's local environment is there; if not, sees to it that it is being built."""
        if not template.trusted or not template.local:
            return True
        key = frozenset(template.local.items())
        if key in self._prepared:
            return True
        if key not in self._building:
            self._building.add(key)
            self._spawn(self._build(template, key), f"build {template.name}")
        return False

    async def _build(self, template: Template, key: Local) -> None:
        try:
            await self._engine.prepare(template.local)
            self._prepared.add(key)
        except LaunchFailed as failure:
            log.error("environment.failed", extra={"fields": {"algorithm": template.name, "cause": failure.cause}})
            for run in [*self._kin.values(), *self._window.values()]:
                if run.algorithm == template.name and run.template_revision == template.revision:
                    await self._fail(run, failure.cause, failure.details)
        finally:
            self._building.discard(key)
            self._wake.set()

    def _begin(self, run: Run, claim: dispatch.Claim) -> None:
        self._window.pop(run.id, None)
        self._kin.pop(run.id, None)
        self._busy.add(run.id)
        self._claims[run.id] = claim
        self._spawn(self._launch(run), f"launch {run.id}")

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── one launch ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _launch(self, run: Run) -> None:
        """Starts one attempt. Whatever goes wrong, the claim is released and the run ends or waits again."""
        try:
            await self._launch_or_raise(run)
        except LaunchFailed as failure:
            self.release(run.id)
            if failure.permanent:
                await self._fail(run, failure.cause, failure.details)
            else:
                self._come_back()
        except NexusError as error:
            self.release(run.id)
            log.error("dispatch.launch-failed", extra={"fields": {"run": run.id, "code": error.code, "error": error.message}})
            self._come_back()
        finally:
            self._busy.discard(run.id)

    async def _launch_or_raise(self, run: Run) -> None:
        now = self._clock.now()
        template = await self._algorithms.at(run.algorithm, run.template_revision)
        configuration = merge(template, run.overrides)
        end = diagnosis.overdue(run, configuration, now)
        if end is not None:
            self.release(run.id)
            await self._store.change(run.id, lambda each: lifecycle.ended(each, end.stage, end.cause, end.details, now))
            return
        workgroup = self._algorithms.workgroup_of(configuration)
        launch = launching.launch_of(
            run, template, configuration, workgroup, addresses=self._addresses(), signer=self._signer, now=now
        )
        self._make_folder(run.id)
        self._on_step("dispatch.before-create")
        uid = await self._engine.create(launch)
        self._on_step("dispatch.after-create")
        at = self._clock.now()
        change = await self._store.change(run.id, lambda each: lifecycle.started(each, uid, launch.attempt, at))
        self._on_step("dispatch.after-store")
        if change.after.stage.final:
            await self._engine.cancel(run.id, launch.attempt)

    async def _fail(self, run: Run, cause: str, details: str) -> None:
        now = self._clock.now()
        await self._store.change(run.id, lambda each: lifecycle.ended(each, Stage.SCHEDULING_FAILED, cause, details, now))

    # ── later ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _come_back(self) -> None:
        """The run still waits in the store: look there again soon."""
        self._overflow = True
        self._later(_RETRY_ENGINE)

    def _at(self, when: datetime) -> None:
        self._later(max(when - self._clock.now(), timedelta()))

    def _later(self, pause: timedelta) -> None:
        def ring() -> None:
            self._timers.discard(timer)
            self._overflow = True
            self._wake.set()

        timer = asyncio.get_running_loop().call_later(pause.total_seconds() + 0.001, ring)
        self._timers.add(timer)
