"""A service simulated whole: the real use cases and decisions over the in-memory twins, in virtual time, step by step.

A :class:`Simulation` is one data folder and one machine over many lives of a service. Operations are begun and carried on by a
number of turns of the event loop, so that a test chooses where they interleave and where the service dies; hours pass at
once. Everything is deterministic: the same calls give the same history. :meth:`Simulation.check` holds the invariants.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

from nexus.kernel.errors import NexusError
from nexus.runs.algorithms import Algorithms
from nexus.runs.cancellation import Cancellation
from nexus.runs.completion import Completion
from nexus.runs.diagnosis import BackOff
from nexus.runs.dispatch import Capacity
from nexus.runs.dispatcher import Dispatcher
from nexus.runs.launching import Addresses
from nexus.runs.model import ParentRef, Payload, Report, Run, Stage
from nexus.runs.observing import ObservedStore
from nexus.runs.ports import Filter, Launch, TreeLimits
from nexus.runs.reading import Reading
from nexus.runs.submission import Submission, Submit
from nexus.runs.supervision import Supervision
from nexus.runs.templates import read_manifests
from nexus.runs.urls import Signer
from nexus.testing.builders import NOON
from nexus.testing.engine import FakeEngine, FakeMachine
from nexus.testing.memory import MemoryObjects, MemoryStore

MANIFEST = """
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {name: demand}
spec:
  container: {image: none, registry: none, versionTag: v1}
  command: work
  errorHandlingBehaviour: {transientExitCodes: [75], fatalExitCodes: [134]}
"""
_A_WHILE_S = 900.0


class _Jumping(selectors.SelectSelector):
    """Instead of waiting, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            if timeout is None:
                raise RuntimeError("nothing will ever happen: every task waits for another")
            self.elapsed += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which an hour takes no time. ``elapsed``: seconds since it was made."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.elapsed


class SteppingClock:
    """The clock of a simulation; ``ahead`` is how far its wall clock was set ahead of the time that passed."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.ahead = timedelta()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self._loop.time()) + self.ahead

    def monotonic(self) -> float:
        return self._loop.time()


class _Life:
    """One life of the service: what a process holds in memory. Built as `nexus.app.wiring` does."""

    def __init__(self, simulation: Simulation) -> None:
        clock, kept = simulation.clock, simulation.store
        store = ObservedStore(kept)
        self.engine = FakeEngine(clock, simulation.machine)
        self.engine.failures = simulation.failures
        self.algorithms = Algorithms(kept, clock)
        self.completion = Completion(store, clock)
        objects = MemoryObjects()
        self.reading = Reading(store, objects, self.algorithms, self.engine, objects_root="/objects")
        self.dispatcher = Dispatcher(
            store,
            self.engine,
            self.algorithms,
            clock,
            capacity=simulation.capacity,
            addresses=lambda: Addresses(scheduler="http://s", receiver="http://r", results_root="/objects"),
            signer=Signer(b"k" * 32, clock),
            window=simulation.window,
        )
        self.supervision = Supervision(
            store,
            self.engine,
            self.reading,
            self.completion,
            self.dispatcher,
            clock,
            back_off=BackOff(base=timedelta(seconds=1), ceiling=timedelta(minutes=1)),
            every=timedelta(seconds=60),
        )
        self.cancellation = Cancellation(store, clock, self.supervision)
        self.submission = Submission(
            store,
            objects,
            self.algorithms,
            clock,
            host="simulated",
            offer=self.dispatcher.offer,
            backlog=self.dispatcher.backlog,
            tree_limits=TreeLimits(max_depth=4, max_runs=12),
        )
        store.listeners += [self.dispatcher.observe, self.reading.observe]
        self.loops: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Starts in the order of `nexus.app.roles`."""
        await self.algorithms.load()
        await self.engine.start(self.supervision.heard)
        await self.dispatcher.recover(await self.supervision.adopt())
        self.loops = [asyncio.create_task(self.dispatcher.run()), asyncio.create_task(self.supervision.run())]


class Simulation:
    """A store and a machine that outlive the service, and the service that lives now.

    ``acknowledged``: what was answered, in order: (operation, run id). ``failures``: raised by the engine's next starts.
    """

    def __init__(self, *, places: int = 2, window: int = 4) -> None:
        self.loop = VirtualLoop()
        self.clock = SteppingClock(self.loop)
        self.capacity = Capacity(cpu_millicores=100_000, memory_bytes=1 << 40, runs=places)
        self.window = window
        self.store = MemoryStore(self.clock)
        self.machine = FakeMachine()
        self.failures: list[Any] = []
        self.acknowledged: list[tuple[str, str]] = []
        self.began: list[str] = []
        self._ends: dict[str, tuple[Stage, str | None, str | None]] = {}
        self._ids = 0
        self._operations: set[asyncio.Task[None]] = set()
        manifests, _ = read_manifests(MANIFEST, "demand.yaml")
        algorithms = Algorithms(self.store, self.clock)
        self.loop.run_until_complete(algorithms.apply(manifests, trusted=True))
        self.start()

    # ── lives ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begins a life."""
        self.life = _Life(self)
        self.loop.run_until_complete(self.life.begin())

    def crash(self) -> None:
        """Ends a life where it stands: no task of it does anything more."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._operations.clear()

    def close(self) -> None:
        """Ends it all."""
        self.crash()
        self.loop.close()

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, parent: str | None = None, *, retries: int = 0, deadline_s: int = 0, dry: bool = False) -> str:
        """Begins to submit a run and returns its id; it is there once acknowledged."""
        self._ids += 1
        run_id = f"00000000-0000-7000-8000-{self._ids:012d}"
        environment = b'{"runtimeEnvironment":{"maximumRetries":%d,"deadlineSeconds":%d}}' % (retries, deadline_s)
        request = Submit(
            run_id=run_id,
            algorithm="demand",
            payload=Payload(size_bytes=2),
            inline=b"{}",
            content_hash="0",
            caller="simulated",
            dry_run=dry,
            parent=None if parent is None else ParentRef(algorithm="demand", run_id=parent),
            overrides=environment,
        )
        self.began.append(run_id)
        self._begin("submit", run_id, lambda: self.life.submission.submit(request))
        return run_id

    def report(self, run_id: str, cause: str = "") -> None:
        """Begins a report of a run."""
        report = Report(received_at=self.clock.now(), result_uri=f"r/{run_id}", error_cause=cause)
        self._begin("report", run_id, lambda: self.life.completion.report("demand", run_id, report))

    def cancel(self, run_id: str, policy: str = "Background") -> None:
        """Begins a cancel."""
        words: dict[str, Any] = {"policy": policy, "initiator": "simulated", "reason": "chance"}
        self._begin(f"cancel-{policy}", run_id, lambda: self.life.cancellation.cancel("demand", run_id, **words))

    def carry_on(self, turns: int) -> None:
        """Lets everything go on for some turns of the event loop."""

        async def take() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(take())

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.life.engine.tick()
        self.carry_on(20)

    def settle(self) -> None:
        """Lets what was begun be done, and its consequences."""
        if self._operations:
            self.loop.run_until_complete(asyncio.gather(*self._operations))
        self.carry_on(100)

    def wind_up(self) -> None:
        """Ends every attempt with exit 0 as it comes, until every run has ended or too long has passed; then a while more."""
        self.settle()
        for _ in range(100):
            for launch in self.alive():
                self.life.engine.finish(launch.run_id, launch.attempt)
            self.wait(10.0)
            if all(run.stage.final for run in self.runs()):
                break
        self.wait(_A_WHILE_S)

    # ── what can be seen ─────────────────────────────────────────────────────────────────────────────────────────────

    def runs(self) -> list[Run]:
        """Every run as it is stored, newest first."""
        return self.loop.run_until_complete(self.store.page(Filter(), limit=1_000_000))

    def run(self, run_id: str) -> Run:
        """One run as it is stored."""
        return self.loop.run_until_complete(self.store.get("demand", run_id))

    def alive(self) -> list[Launch]:
        """The attempts that work now."""
        return self.life.engine.alive()

    def check(self) -> None:
        """Holds the invariants. Raises AssertionError, and what ended a loop of the service."""
        for task in self.life.loops:
            if task.done():
                task.result()
                raise AssertionError("a loop of the service ended by itself")
        runs = {run.id: run for run in self.runs()}
        for operation, run_id in self.acknowledged:
            assert run_id in runs, f"{run_id} was acknowledged and is gone"
            stage = runs[run_id].stage
            assert stage.final or not operation.startswith(("report", "cancel")), f"{operation} of {run_id} is lost: {stage}"
        self._check_ends(runs)
        self._check_attempts(runs)
        self._check_trees(runs)

    def _check_ends(self, runs: dict[str, Run]) -> None:
        """An end never changes."""
        for run in runs.values():
            end = (run.stage, run.result_uri, run.failure_cause)
            if run.stage.final:
                assert self._ends.setdefault(run.id, end) == end, f"{run.id} had ended: {self._ends[run.id]} became {end}"
            else:
                assert run.id not in self._ends, f"{run.id} had ended and is {run.stage}"

    def _check_attempts(self, runs: dict[str, Run]) -> None:
        """At most one live attempt a run, none started twice, no more at once than places (a parent lends its own)."""
        started = [(launch.run_id, launch.attempt) for launch in self.machine.launched]
        assert len(started) == len(set(started)), "an attempt was started twice"
        alive = [launch.run_id for launch in self.alive()]
        assert len(alive) == len(set(alive)), "a run has two live attempts"
        parents = {run.parent.run_id for run in runs.values() if run.parent is not None}
        counted = [run_id for run_id in alive if not runs[run_id].stage.final and run_id not in parents]  # those that never lent
        assert len(counted) <= self.capacity.runs, f"{len(counted)} at once, {self.capacity.runs} places"
        for run in runs.values():
            assert not run.dry_run or run.id not in alive, "a dry run was started"

    def _check_trees(self, runs: dict[str, Run]) -> None:
        """Under a cancelled root of a tree cancel nothing is left."""
        for operation, run_id in self.acknowledged:
            if operation not in ("cancel-Background", "cancel-Foreground") or runs[run_id].stage is not Stage.CANCELLED:
                continue
            for run in runs.values():
                assert run.stage.final or run_id not in _ancestors(run, runs), f"{run.id} lives under the cancelled {run_id}"

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, operation: str, run_id: str, act: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        async def work() -> None:
            try:
                await act()
            except NexusError:
                return  # refused: nothing was acknowledged
            self.acknowledged.append((operation, run_id))

        task = self.loop.create_task(work())
        self._operations.add(task)
        task.add_done_callback(self._operations.discard)


def _ancestors(run: Run, runs: dict[str, Run]) -> list[str]:
    found = []
    while run.parent is not None:
        run = runs[run.parent.run_id]
        found.append(run.id)
    return found
