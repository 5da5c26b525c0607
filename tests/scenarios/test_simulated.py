"""Random histories of a whole service in virtual time: whatever happens in whatever order, the invariants hold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nexus.runs.model import ExitKind, Stage
from nexus.runs.ports import LaunchFailed
from nexus.testing.simulator import Simulation

turns = st.integers(0, 40)
recent = st.integers(0, 4)  # what happens, happens to one of the newest runs: so that things happen to the same one


class Services(RuleBasedStateMachine):
    """Submits, reports, cancels, ends, lost processes, failing starts, time, clock jumps and crashes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation()

    def newest(self, which: int) -> str:
        begun = self.simulation.began
        return begun[-1 - which % len(begun)]

    @rule(retries=st.integers(0, 2), deadline_s=st.sampled_from([0, 0, 30]), dry=st.sampled_from([False] * 4 + [True]), turns=turns)
    def submit(self, retries: int, deadline_s: int, dry: bool, turns: int) -> None:
        self.simulation.submit(retries=retries, deadline_s=deadline_s, dry=dry)
        self.simulation.carry_on(turns)

    @precondition(lambda self: self.simulation.began)
    @rule(which=recent, retries=st.integers(0, 1), count=st.integers(1, 3), turns=turns)
    def spawn(self, which: int, retries: int, count: int, turns: int) -> None:
        parent = self.newest(which)
        for _ in range(count):
            self.simulation.submit(parent, retries=retries)
        self.simulation.carry_on(turns)

    @precondition(lambda self: self.simulation.began)
    @rule(which=recent, cause=st.sampled_from(["", "", "it failed"]), turns=turns)
    def report(self, which: int, cause: str, turns: int) -> None:
        self.simulation.report(self.newest(which), cause)
        self.simulation.carry_on(turns)

    @precondition(lambda self: self.simulation.began)
    @rule(which=st.integers(0, 9), policy=st.sampled_from(["Background", "Foreground", "Orphan"]), turns=turns)
    def cancel(self, which: int, policy: str, turns: int) -> None:
        self.simulation.cancel(self.newest(which), policy)
        self.simulation.carry_on(turns)

    @rule(which=st.integers(0, 10), code=st.sampled_from([0, 1, 75, 134, None]), turns=turns)
    def attempt_ends(self, which: int, code: int | None, turns: int) -> None:
        alive = self.simulation.alive()
        if alive:
            launch = alive[which % len(alive)]
            kind = ExitKind.LOST if code is None else ExitKind.EXITED
            self.simulation.life.engine.finish(launch.run_id, launch.attempt, kind=kind, code=code)
        self.simulation.carry_on(turns)

    @rule(which=st.integers(0, 10))
    def attempt_is_forgotten(self, which: int) -> None:
        """The machine loses an attempt without a trace."""
        alive = self.simulation.alive()
        if alive:
            launch = alive[which % len(alive)]
            del self.simulation.machine.attempts[launch.run_id, launch.attempt]

    @rule(permanent=st.booleans())
    def next_start_fails(self, permanent: bool) -> None:
        self.simulation.failures.append(LaunchFailed("the machine says no", permanent=permanent))

    @rule(seconds=st.sampled_from([0.01, 1.0, 5.0, 61.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.simulation.wait(seconds)

    @rule(seconds=st.sampled_from([-600.0, -1.0, -0.01, 0.01, 600.0]))
    def clock_jumps(self, seconds: float) -> None:
        self.simulation.clock.ahead += timedelta(seconds=seconds)

    @rule(turns=turns)
    def crash(self, turns: int) -> None:
        self.simulation.carry_on(turns)
        self.simulation.crash()
        self.simulation.start()

    @invariant()
    def holds(self) -> None:
        self.simulation.check()

    def teardown(self) -> None:
        try:
            self.simulation.wind_up()
            self.simulation.check()
            left = [run for run in self.simulation.runs() if not run.stage.final]
            assert not left, f"never ended: {left}"
            assert not self.simulation.life.dispatcher.backlog(), "the backlog is not empty although nothing waits"
        finally:
            self.simulation.close()


class TestServices(Services.TestCase):  # type: ignore[misc, name-defined]
    """A hundred and fifty random histories; after each the service is wound up, and every run must have ended."""

    settings = settings(
        max_examples=150,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes: add it by hand when there is something to shrink
    )


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    simulated = Simulation()
    yield simulated
    simulated.close()


@pytest.mark.parametrize("back_s", [0.005, 1.0, 300.0])
def test_a_retry_survives_a_clock_that_steps_back(simulation: Simulation, back_s: float) -> None:
    """A wall clock that steps back during a pause delays the retry by that, and no longer (it was forgotten once)."""
    run_id = simulation.submit(retries=1)
    simulation.settle()
    simulation.life.engine.finish(run_id, code=1)
    simulation.carry_on(100)
    assert simulation.run(run_id).waiting
    simulation.clock.ahead -= timedelta(seconds=back_s)
    simulation.wait(back_s + 5.0)
    assert [launch.attempt for launch in simulation.alive()] == [2]


def test_a_clock_that_steps_ahead_ends_nothing_early(simulation: Simulation) -> None:
    """A wall clock set ahead by hours neither ends a working run with a deadline nor hurries anything else."""
    run_id = simulation.submit(deadline_s=60)
    simulation.settle()
    simulation.clock.ahead += timedelta(hours=5)
    simulation.wait(30.0)
    assert simulation.run(run_id).stage is Stage.RUNNING
    assert [launch.run_id for launch in simulation.alive()] == [run_id]
    simulation.wait(31.0)
    assert simulation.run(run_id).stage is Stage.DEADLINE_EXCEEDED


def test_the_same_calls_give_the_same_history() -> None:
    """A simulation has no chance of its own: two of them with the same calls end alike."""
    histories = []
    for _ in range(2):
        simulated = Simulation()
        parent = simulated.submit(retries=1)
        simulated.submit(parent)
        simulated.carry_on(7)
        simulated.crash()
        simulated.start()
        simulated.cancel(parent)
        simulated.wind_up()
        histories.append([(run.id, run.stage, run.last_modified, run.revision) for run in simulated.runs()])
        simulated.close()
    assert histories[0] == histories[1]
