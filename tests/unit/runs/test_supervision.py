"""Supervision: every end is judged once, what events missed is found, and nothing ends the loops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from msgspec.structs import replace

from nexus.kernel.errors import NoSpace
from nexus.runs.model import Exit, ExitKind, Run, Stage
from nexus.runs.ports import Change, Decide, Ended
from tests.unit.runs.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(places=2, window=4)
    yield rig
    rig.close()


def exited(rig: Rig, run_id: str, attempt: int = 1, code: int = 1) -> Ended:
    return Ended(run_id=run_id, attempt=attempt, exit=Exit(kind=ExitKind.EXITED, code=code, ended_at=rig.clock.now()))


def test_an_end_told_twice_counts_once(rig: Rig) -> None:
    """The engine may tell an end more than once: one failure is counted, one retry is made."""
    run_id = rig.begin(retries=5)
    rig.finish(run_id, code=1)
    rig.life.supervision.heard(exited(rig, run_id))
    rig.life.supervision.heard(exited(rig, run_id))
    rig.settle()
    assert rig.run(run_id).counted_failures == 1
    rig.wait(1.5)
    assert rig.starts(run_id) == 2


def test_the_end_of_an_older_attempt_changes_nothing(rig: Rig) -> None:
    """While attempt 2 works, attempt 1's end is old news."""
    run_id = rig.begin(retries=5)
    rig.finish(run_id, code=1)
    rig.wait(1.5)
    before = rig.run(run_id)
    rig.life.supervision.heard(exited(rig, run_id, 1))
    rig.settle()
    assert rig.run(run_id) is before


def test_exit_0_waits_for_a_report_on_its_way_to_the_disk(rig: Rig) -> None:
    """The run whose process ended while its report was being stored is COMPLETED, not FAILED for want of a report."""
    run_id = rig.begin()
    gate = asyncio.Event()
    change = rig.store.change
    first = []

    async def slowly(run: str, decide: Decide) -> Change:
        if not first:
            first.append(run)
            await gate.wait()
        return await change(run, decide)

    rig.store.change = slowly  # type: ignore[method-assign]
    rig.report(run_id)
    rig.carry_on(5)
    rig.life.engine.finish(run_id)
    rig.carry_on(50)
    assert rig.run(run_id).stage is Stage.RUNNING
    gate.set()
    rig.settle()
    assert (rig.run(run_id).stage, rig.run(run_id).result_uri) == (Stage.COMPLETED, f"r/{run_id}")


def test_a_lost_end_is_found_by_comparing(rig: Rig) -> None:
    """An end nobody told of is found within one comparison, and so is an attempt the engine does not know."""
    silent, vanished = rig.begin(), rig.begin()
    tell, rig.life.engine._on_end = rig.life.engine._on_end, None
    rig.life.engine.finish(silent)
    del rig.machine.attempts[vanished, 1]
    rig.life.engine._on_end = tell
    rig.do(rig.life.supervision.reconcile())
    assert rig.run(silent).failure_cause == "Algorithm ended without reporting."
    assert (
        rig.run(vanished).failure_cause
        == "Algorithm failed: its process was lost: the machine restarted, or its launcher was killed."
    )
    assert not rig.life.dispatcher.held()


def test_one_run_that_cannot_be_judged_keeps_no_other_from_it(rig: Rig) -> None:
    """A run whose template revision is gone is logged at each comparison; the others are judged all the same."""
    bad, good = rig.begin(), rig.begin()
    rig.do(rig.store.change(bad, lambda run: replace(run, template_revision=99)))
    tell, rig.life.engine._on_end = rig.life.engine._on_end, None
    rig.life.engine.finish(bad)
    rig.life.engine.finish(good)
    rig.life.engine._on_end = tell
    rig.do(rig.life.supervision.reconcile())
    assert rig.run(good).stage is Stage.FAILED
    rig.again()  # nor does it keep the service from starting
    rig.check()


def test_a_full_disk_delays_an_end_and_loses_none(rig: Rig) -> None:
    """What could not be stored is found by a later comparison."""
    run_id = rig.begin()
    rig.store.room_bytes = 0
    rig.finish(run_id)
    assert rig.run(run_id).stage is Stage.RUNNING
    rig.store.room_bytes = None
    rig.wait(61.0)
    assert rig.run(run_id).stage is Stage.FAILED
    rig.check()


def test_a_bug_in_a_comparison_is_counted_and_survived(rig: Rig) -> None:
    """The loops go on; the fault is counted."""
    running = rig.store.running

    async def broken() -> list[Run]:
        raise RuntimeError("a bug")

    rig.store.running = broken  # type: ignore[method-assign]
    rig.wait(61.0)
    rig.store.running = running  # type: ignore[method-assign]
    assert rig.life.supervision.faults == 1
    rig.check()


def test_a_run_between_attempts_ends_when_its_time_is_over(rig: Rig) -> None:
    """A retry that finds no place does not outlive its deadline, however long others hold the machine."""
    run_id = rig.begin(retries=5, deadline_s=30)
    rig.begin()
    rig.begin()
    rig.finish(run_id, code=1)  # the other two hold both places now
    rig.wait(5.0)
    assert rig.run(run_id).stage is Stage.RUNNING
    rig.wait(86.0)
    assert rig.run(run_id).stage is Stage.DEADLINE_EXCEEDED
    assert rig.starts(run_id) == 1
    assert not rig.life.dispatcher.between_attempts()


def test_a_process_that_outstays_its_report_is_ended(rig: Rig) -> None:
    """After its report an algorithm may tidy up for ten minutes; then its process is ended and its place is free."""
    run_id = rig.begin()
    rig.report(run_id)
    rig.settle()
    rig.wait(300.0)
    assert rig.at_work() == [run_id]
    rig.wait(420.0)
    assert rig.at_work() == []
    assert rig.run(run_id).stage is Stage.COMPLETED
    assert not rig.life.dispatcher.held()


def test_a_process_may_tidy_up_however_long_its_run_took(rig: Rig) -> None:
    """Time to tidy up counts from the report, also of a run that was looked at while it worked for hours."""
    run_id = rig.begin()
    rig.wait(timedelta(hours=3).total_seconds())
    rig.report(run_id)
    rig.wait(500.0)
    assert rig.at_work() == [run_id]
    rig.wait(220.0)
    assert rig.at_work() == []


def test_of_a_process_that_is_gone_no_end_is_remembered(rig: Rig) -> None:
    """What is remembered of runs that are over while a process of theirs lives goes with the process, whoever asked of it last."""
    run_id = rig.begin()
    rig.report(run_id)
    rig.wait(60.0)
    elapsed = rig.life.dispatcher.elapsed
    assert elapsed.since_end_s(rig.run(run_id)) > 0.0
    rig.finish(run_id)
    assert elapsed.since_end_s(rig.run(run_id)) > 0.0  # one who asked while it ended
    rig.do(rig.life.supervision.sweep())
    assert not elapsed._over
    assert not elapsed._began


def test_what_a_dying_service_left_alive_under_a_cancel_is_ended_by_the_next(rig: Rig) -> None:
    """The cancel was stored, its effect was not done: the next life does it."""
    run_id = rig.begin()
    rig.crash()
    rig.do(rig.store.change(run_id, lambda run: replace(run, stage=Stage.CANCELLED, waiting=False)))
    rig.start()
    rig.carry_on(100)
    assert rig.at_work() == []


def test_an_attempt_begun_but_not_stored_is_adopted(rig: Rig) -> None:
    """The next life stores the start of what its predecessor had begun, and begins nothing twice."""
    run_id = rig.begin()
    rig.crash()
    before = replace(rig.run(run_id), stage=Stage.BUFFERED, waiting=True, attempt=0, job_uid=None, sent_at=None)
    rig.do(rig.store.change(run_id, lambda run: before))
    rig.start()
    rig.carry_on(100)
    assert (rig.run(run_id).stage, rig.run(run_id).attempt, rig.starts(run_id)) == (Stage.RUNNING, 1, 1)
    assert rig.life.dispatcher.held() == [(run_id, 1)]


def test_old_attempts_are_forgotten_and_others_kept(rig: Rig) -> None:
    """A sweep forgets what ended longer ago than logs are kept, and nothing of what is younger or unfinished."""
    old = rig.begin()
    rig.finish(old)
    rig.wait(timedelta(days=6).total_seconds())
    young, unfinished = rig.begin(), rig.begin()
    rig.finish(young)
    rig.wait(timedelta(days=2).total_seconds())
    assert {run_id for run_id, _ in rig.machine.attempts} == {young, unfinished}


def test_on_a_tight_disk_the_oldest_attempts_go_first(rig: Rig) -> None:
    """Before their time, no more of them than gives room, and none of the last hour."""
    ids = []
    for _ in range(4):  # they end 72, 48, 24 and 0 hours ago
        ids.append(rig.begin())
        rig.finish(ids[-1])
        rig.wait(timedelta(hours=24).total_seconds() if len(ids) < 4 else 0.0)
    supervision = rig.life.supervision
    supervision._is_tight = lambda: ids[0] in kept(rig)
    assert rig.do(supervision.sweep()) == 1
    assert kept(rig) == set(ids[1:])
    supervision._is_tight = lambda: True
    assert rig.do(supervision.sweep()) == 2
    assert kept(rig) == {ids[3]}


def kept(rig: Rig) -> set[str]:
    return {run_id for run_id, _ in rig.machine.attempts}


def test_an_effect_that_fails_is_repeated(rig: Rig) -> None:
    """A cancel whose process cannot be ended now (a full disk) is stored and answered; the next comparison ends it."""
    run_id = rig.begin()
    cancel = rig.life.engine.cancel

    async def full(run: str, attempt: int) -> None:
        raise OSError(28, "No space left on device")

    rig.life.engine.cancel = full  # type: ignore[method-assign]
    rig.cancel(run_id)
    rig.settle()
    assert ("cancel-Background", run_id) in rig.acknowledged
    assert rig.at_work() == [run_id]
    rig.life.engine.cancel = cancel  # type: ignore[method-assign]
    rig.wait(61.0)
    assert rig.at_work() == []


def test_adoption_survives_a_full_disk(rig: Rig) -> None:
    """A start that cannot be stored now keeps the service from nothing."""
    run_id = rig.begin()
    rig.crash()
    before = replace(rig.run(run_id), stage=Stage.BUFFERED, waiting=True, attempt=0)
    rig.do(rig.store.change(run_id, lambda run: before))
    rig.store.room_bytes = 0
    with pytest.raises(NoSpace):
        rig.do(rig.store.change(run_id, lambda run: replace(run, tag="x")))
    rig.start()
    rig.carry_on(50)
    rig.store.room_bytes = None
    rig.wait(61.0)
    assert (rig.run(run_id).stage, rig.starts(run_id)) == (Stage.RUNNING, 1)


def ends(rig: Rig, run_id: str) -> list[tuple[int, ExitKind, int | None]]:
    return [(each.attempt, each.exit.kind, each.exit.code) for each in rig.do(rig.store.attempts(run_id, limit=99))]


def test_every_attempt_leaves_its_end_in_the_store(rig: Rig) -> None:
    """Retried ones, the one that decided the run, and one that ended after its report, each once however often it is told."""
    run_id = rig.begin(retries=5)
    rig.finish(run_id, code=3)
    rig.life.supervision.heard(exited(rig, run_id, 1, code=9))
    rig.wait(1.5)
    rig.report(run_id)
    rig.settle()
    assert ends(rig, run_id) == [(1, ExitKind.EXITED, 3)]
    rig.finish(run_id)
    rig.again()
    assert ends(rig, run_id) == [(1, ExitKind.EXITED, 3), (2, ExitKind.EXITED, 0)]
    assert rig.run(run_id).stage is Stage.COMPLETED


def test_a_lost_attempt_is_told_as_such(rig: Rig) -> None:
    """An attempt the engine does not know any more is kept as lost."""
    run_id = rig.begin()
    del rig.machine.attempts[run_id, 1]
    rig.do(rig.life.supervision.reconcile())
    assert ends(rig, run_id) == [(1, ExitKind.LOST, None)]


def test_an_end_that_nobody_heard_is_kept_before_the_engine_forgets_it(rig: Rig) -> None:
    """The attempts of a run that had reported when the service was away are in the store when their logs are gone."""
    run_id = rig.begin(retries=5)
    rig.finish(run_id, code=3)
    rig.wait(1.5)
    rig.report(run_id)
    rig.settle()
    tell, rig.life.engine._on_end = rig.life.engine._on_end, None
    rig.life.engine.finish(run_id)
    rig.life.engine._on_end = tell
    assert len(ends(rig, run_id)) == 1
    rig.wait(timedelta(days=8).total_seconds())
    assert (run_id, 2) not in rig.machine.attempts
    assert ends(rig, run_id) == [(1, ExitKind.EXITED, 3), (2, ExitKind.EXITED, 0)]


def test_nothing_is_forgotten_while_its_end_cannot_be_kept(rig: Rig) -> None:
    """On a full disk the engine goes on keeping what the store has no room for."""
    run_id = rig.begin()
    tell, rig.life.engine._on_end = rig.life.engine._on_end, None
    rig.report(run_id)
    rig.settle()
    rig.life.engine.finish(run_id)
    rig.life.engine._on_end = tell
    rig.store.room_bytes = 0
    rig.wait(timedelta(days=8).total_seconds())
    assert (run_id, 1) in rig.machine.attempts
    rig.store.room_bytes = None
    rig.wait(1200.0)
    assert (run_id, 1) not in rig.machine.attempts
    assert ends(rig, run_id) == [(1, ExitKind.EXITED, 0)]
