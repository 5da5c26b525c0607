"""Cancelling: stored first, effects second, one run or its tree, answered when the processes ended if asked so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nexus.kernel.errors import InvalidInput, RunNotFound
from nexus.runs.cancellation import Cancelled
from nexus.runs.model import ExitKind, Stage
from tests.unit.runs.rig import HeldBack, Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(places=4, window=8)
    yield rig
    rig.close()


WORDS = {"initiator": "ann", "reason": "enough"}


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_a_cancel_takes_the_whole_tree(rig: Rig, policy: str) -> None:
    """Parent, children and grandchildren end, those that work and those that wait; each says by whom and why."""
    parent = rig.begin()
    child = rig.begin(parent)
    grandchild = rig.begin(child)
    rig.cancel(parent, policy)
    rig.settle()
    for run_id in (parent, child, grandchild):
        assert rig.run(run_id).stage is Stage.CANCELLED
        assert rig.run(run_id).failure_cause == "Cancelled by 'simulated'"
    assert not rig.at_work()
    assert parent in (rig.run(child).failure_details or "")


def test_orphan_takes_this_run_alone(rig: Rig) -> None:
    """The run's own process is ended; its child goes on."""
    parent = rig.begin()
    child = rig.begin(parent)
    rig.cancel(parent, "Orphan")
    rig.settle()
    assert (rig.run(parent).stage, rig.at_work()) == (Stage.CANCELLED, [child])


def test_a_finished_run_stays_as_it_is(rig: Rig) -> None:
    """Cancelling it is no error and changes nothing (weakness 15)."""
    run_id = rig.begin()
    rig.report(run_id)
    rig.settle()
    before = rig.run(run_id)
    assert rig.do(rig.life.cancellation.cancel("demand", run_id, policy=None, **WORDS)) == Cancelled(runs=[])
    assert rig.run(run_id) is before


def test_a_run_between_two_attempts_is_cancelled(rig: Rig) -> None:
    """Its next attempt never begins (weakness 14)."""
    run_id = rig.begin(retries=5)
    rig.finish(run_id, code=1)
    rig.cancel(run_id)
    rig.settle()
    rig.wait(30.0)
    assert (rig.run(run_id).stage, rig.starts(run_id)) == (Stage.CANCELLED, 1)
    assert rig.life.dispatcher.backlog() == 0


def test_foreground_answers_after_the_processes_ended(rig: Rig) -> None:
    """While a process takes its time to end, the cancel is stored but not answered."""
    run_id = rig.begin()
    told: list[tuple[str, int]] = []

    async def ask(run: str, attempt: int) -> None:
        told.append((run, attempt))

    rig.life.engine.cancel = ask  # type: ignore[method-assign]
    rig.cancel(run_id, "Foreground")
    rig.carry_on(100)
    assert rig.run(run_id).stage is Stage.CANCELLED
    assert told == [(run_id, 1)]
    assert ("cancel-Foreground", run_id) not in rig.acknowledged
    rig.life.engine.finish(run_id, kind=ExitKind.CANCELLED)
    rig.carry_on(100)
    assert ("cancel-Foreground", run_id) in rig.acknowledged


def test_foreground_waits_for_a_launch_under_way(rig: Rig) -> None:
    """A run that is being launched counts as a process until the engine has answered."""
    gate = HeldBack(rig)
    run_id = rig.begin()
    rig.cancel(run_id, "Foreground")
    rig.carry_on(100)
    assert ("cancel-Foreground", run_id) not in rig.acknowledged
    gate.go_on.set()
    rig.settle()
    assert ("cancel-Foreground", run_id) in rig.acknowledged
    assert not rig.at_work()


@pytest.mark.parametrize("wait_s", [30.0, 5.0, 0.0])
def test_foreground_says_whether_the_processes_are_gone(rig: Rig, wait_s: float) -> None:
    """It waits as long as was asked for, and then tells that something is left; the service goes on ending it."""
    run_id, quick = rig.begin(), rig.begin()
    cancel = rig.life.engine.cancel

    async def not_that_one(run: str, attempt: int) -> None:
        if run != run_id:
            await cancel(run, attempt)

    rig.life.engine.cancel = not_that_one  # type: ignore[method-assign]
    words = {"policy": "Foreground", **WORDS}
    assert rig.do(rig.life.cancellation.cancel("demand", quick, **words)).gone
    began = rig.loop.time()
    done = rig.do(rig.life.cancellation.cancel("demand", run_id, wait_s=wait_s, **words))
    assert ([run.id for run in done.runs], done.gone) == ([run_id], False)
    assert rig.loop.time() - began == pytest.approx(wait_s, abs=0.1)
    rig.life.engine.cancel = cancel  # type: ignore[method-assign]
    rig.wait(61.0)
    assert rig.at_work() == []


def test_foreground_does_not_wait_for_ever(rig: Rig) -> None:
    """A process nobody can end holds the answer for half a minute."""
    run_id = rig.begin()

    async def nothing(run: str, attempt: int) -> None:
        pass

    rig.life.engine.cancel = nothing  # type: ignore[method-assign]
    rig.cancel(run_id, "Foreground")
    rig.wait(31.0)
    assert ("cancel-Foreground", run_id) in rig.acknowledged


def test_another_policy_and_another_name_are_refused(rig: Rig) -> None:
    """An unknown policy is the caller's error; the right id under another algorithm's name is unknown (weakness 11)."""
    run_id = rig.begin()
    with pytest.raises(InvalidInput, match="Gently"):
        rig.do(rig.life.cancellation.cancel("demand", run_id, policy="Gently", **WORDS))
    with pytest.raises(RunNotFound):
        rig.do(rig.life.cancellation.cancel("other", run_id, policy=None, **WORDS))
    assert rig.run(run_id).stage is Stage.RUNNING
