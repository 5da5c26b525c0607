"""The dispatcher: what waits is started once, in order, within bounds, whatever fails on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from nexus.runs.model import Report, Stage
from nexus.runs.ports import Launch, LaunchFailed
from tests.unit.runs.rig import HeldBack, Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(places=2, window=4)
    yield rig
    rig.close()


@pytest.fixture
def narrow() -> Iterator[Rig]:
    """One place, and a window of two."""
    rig = Rig(places=1, window=2)
    yield rig
    rig.close()


def test_runs_are_started_in_order_within_the_places_there_are(rig: Rig) -> None:
    """Two places, five runs: the first two work; each end starts the next, also those the window had no room for."""
    ids = [rig.submit() for _ in range(9)]
    rig.settle()
    assert rig.at_work() == ids[:2]
    for run_id in ids:
        rig.finish(run_id)
    assert [launch.run_id for launch in rig.machine.launched] == ids
    rig.check()


def test_a_dry_run_of_a_started_parent_is_not_started(rig: Rig) -> None:
    """A child that is a dry run completes without a process, as any dry run does."""
    parent = rig.begin()
    child = rig.begin(parent, dry=True)
    assert rig.run(child).stage is Stage.COMPLETED
    assert rig.at_work() == [parent]


def test_dry_runs_pass_a_full_window(narrow: Rig) -> None:
    """A dry run holds nothing of the machine: it does not wait behind runs that do."""
    for _ in range(6):
        narrow.begin()
    assert narrow.run(narrow.begin(dry=True)).stage is Stage.COMPLETED


def test_a_start_that_failed_for_now_is_tried_again_after_a_pause(rig: Rig) -> None:
    """The first pause is two seconds, the next four; the run waits meanwhile, and others may start."""
    rig.failures += [LaunchFailed("no launcher", permanent=False), LaunchFailed("no launcher", permanent=False)]
    run_id = rig.begin()
    assert rig.run(run_id).stage is Stage.BUFFERED
    assert len(rig.failures) == 1, "it was tried again at once"
    other = None
    rig.wait(2.1)
    assert not rig.failures
    assert rig.run(run_id).stage is Stage.BUFFERED
    other = rig.begin()
    assert rig.at_work() == [other]
    rig.wait(4.1)
    assert rig.at_work() == [other, run_id]


def test_a_start_that_can_never_succeed_ends_the_run(rig: Rig) -> None:
    """The cause is the engine's, the stage SCHEDULING_FAILED, and the place is free."""
    rig.failures.append(LaunchFailed("no such program", "`x` is not on the PATH"))
    run = rig.run(rig.begin())
    assert (run.stage, run.failure_cause, run.failure_details) == (
        Stage.SCHEDULING_FAILED, "no such program", "`x` is not on the PATH",
    )  # fmt: skip
    assert not rig.life.dispatcher.held()


def test_a_run_whose_workgroup_was_removed_ends(narrow: Rig) -> None:
    """A workgroup that goes while its runs wait leaves none of them BUFFERED for ever (weakness 7)."""
    workgroup = "\n---\napiVersion: science.sneaksanddata.com/v1\nkind: NexusAlgorithmWorkgroup\nmetadata: {name: fast}\n"
    workgroup += "spec: {description: d, cluster: c}\n"
    narrow.apply(more="workgroupRef: {name: fast, group: science.sneaksanddata.com, kind: NexusAlgorithmWorkgroup}", also=workgroup)
    first, second = narrow.begin(), narrow.begin()
    narrow.apply(prune=True)
    narrow.finish(first)
    run = narrow.run(second)
    assert run.stage is Stage.SCHEDULING_FAILED
    assert "fast" in (run.failure_details or "")


def test_what_nobody_foresaw_ends_no_loop_and_loses_no_run(rig: Rig) -> None:
    """An error in one launch is counted; the run is tried again, its place is free meanwhile."""
    create = rig.life.engine.create
    calls = []

    async def fail_once(launch: Launch) -> str:
        calls.append(launch)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return await create(launch)

    rig.life.engine.create = fail_once  # type: ignore[method-assign]
    run_id = rig.begin()
    assert rig.life.dispatcher.faults == 1
    assert not rig.life.dispatcher.held()
    rig.wait(3.0)
    assert rig.at_work() == [run_id]
    rig.check()


def test_a_run_that_cannot_be_read_stops_no_other(rig: Rig) -> None:
    """A waiting run whose template revision is gone ends; those behind it are started."""
    rig.life.dispatcher.paused = True
    bad, good = rig.begin(), rig.begin()
    rig.do(rig.store.change(bad, lambda run: _with(run, template_revision=99)))
    rig.again()
    assert rig.run(bad).stage is Stage.SCHEDULING_FAILED
    assert rig.at_work() == [good]


def test_the_retry_of_a_child_is_not_kept_behind_a_full_window(narrow: Rig) -> None:
    """A parent lends its only place to its child; the child's retry comes forward although others fill the window."""
    parent = narrow.begin()
    child = narrow.begin(parent)
    for _ in range(8):
        narrow.begin()
    narrow.finish(child, code=75)
    narrow.wait(1.5)
    assert narrow.starts(child) == 2
    narrow.check()


def test_children_of_a_retried_parent_come_forward(narrow: Rig) -> None:
    """A parent that is tried again finds its waiting children before what came meanwhile."""
    parent = narrow.begin(retries=3)
    narrow.begin()
    narrow.begin()
    narrow.begin()
    narrow.finish(parent, code=1)  # the next run takes the place
    child = narrow.begin(parent)
    narrow.wait(2.0)
    narrow.finish(narrow.at_work()[0])
    assert set(narrow.at_work()) == {parent, child}


def test_every_retry_is_remembered_over_a_restart(rig: Rig) -> None:
    """Retries that are due at different times are all started again by the next life, each when it is due."""
    first, second = rig.begin(retries=9), rig.begin(retries=9)
    rig.finish(first, code=1)
    for _ in range(3):  # the second one's pause is longer by now
        rig.finish(second, code=1)
        rig.wait(9.0)
        if first in rig.at_work():
            rig.finish(first, code=1)
    rig.finish(second, code=1)
    before = rig.starts(first), rig.starts(second)
    rig.again()
    rig.wait(30.0)
    assert (rig.starts(first), rig.starts(second)) == (before[0] + 1, before[1] + 1)


def test_a_clock_set_back_before_a_restart_makes_no_pause_longer(rig: Rig) -> None:
    """The retry is due after the pause that was meant, not when the wall clock has caught up."""
    run_id = rig.begin(retries=1)
    rig.finish(run_id, code=1)
    rig.clock.ahead -= timedelta(hours=5)
    rig.again()
    rig.wait(2.0)
    assert rig.starts(run_id) == 2


def test_an_end_that_is_told_again_frees_nothing(narrow: Rig) -> None:
    """After a restart the engine tells of all ends it keeps; the first attempt's does not free what the second holds."""
    run_id = narrow.begin(retries=1)
    narrow.finish(run_id, code=1)
    narrow.wait(2.0)
    narrow.begin()
    narrow.again()
    assert narrow.at_work() == [run_id]
    narrow.check()


def test_the_end_of_an_attempt_may_come_before_its_start_is_stored(rig: Rig) -> None:
    """The retry stands, one failure is counted, and the next attempt is started once."""
    create = rig.life.engine.create

    async def end_first(launch: Launch) -> str:
        uid = await create(launch)
        rig.life.engine.finish(launch.run_id, launch.attempt, code=1)
        for _ in range(20):
            await asyncio.sleep(0)
        return uid

    rig.life.engine.create = end_first  # type: ignore[method-assign]
    run_id = rig.begin(retries=3)
    rig.carry_on(50)
    run = rig.run(run_id)
    assert (run.waiting, run.counted_failures, run.attempt) == (True, 1, 1)
    rig.do(rig.life.supervision.reconcile())
    assert rig.run(run_id).counted_failures == 1
    rig.wait(1.5)
    assert rig.starts(run_id) == 2


def test_an_algorithm_that_reports_before_its_start_is_stored_may_tidy_up(rig: Rig) -> None:
    """Its process is not ended because its run has completed already."""
    create = rig.life.engine.create

    async def report_first(launch: Launch) -> str:
        uid = await create(launch)
        await rig.life.completion.report("demand", launch.run_id, Report(received_at=rig.clock.now(), result_uri="r"))
        return uid

    rig.life.engine.create = report_first  # type: ignore[method-assign]
    run_id = rig.begin()
    rig.carry_on(50)
    assert rig.run(run_id).stage is Stage.COMPLETED
    assert rig.at_work() == [run_id]


def test_a_run_cancelled_while_it_is_launched_never_works(rig: Rig) -> None:
    """The engine is told to end the attempt before it has begun it; its place is free again."""
    gate = HeldBack(rig)
    run_id = rig.begin()
    assert gate.reached.is_set()
    rig.cancel(run_id)
    rig.carry_on(20)
    gate.go_on.set()
    rig.settle()
    assert rig.run(run_id).stage is Stage.CANCELLED
    assert rig.starts(run_id) == 0
    assert not rig.life.dispatcher.held()


def test_the_number_of_waiting_runs_is_right_after_a_restart(rig: Rig) -> None:
    """What is BUFFERED and what waits between two attempts count, also in the next life."""
    first = rig.begin(retries=5)
    for _ in range(5):
        rig.begin()
    rig.finish(first, code=1)
    assert rig.life.dispatcher.backlog() == 4
    rig.again()
    assert rig.life.dispatcher.backlog() == 4


def test_a_full_disk_delays_dry_runs_only(rig: Rig) -> None:
    """What could not be stored is done once there is room; nothing is lost and the loop goes on."""
    rig.life.dispatcher.paused = True
    run_id = rig.begin(dry=True)
    rig.store.room_bytes = 0
    rig.life.dispatcher.paused = False
    rig.do(rig.life.dispatcher.recover([]))
    rig.carry_on(50)
    assert rig.run(run_id).stage is Stage.BUFFERED
    rig.store.room_bytes = None
    rig.wait(3.0)
    assert rig.run(run_id).stage is Stage.COMPLETED


def test_an_index_that_does_not_answer_ends_no_run(rig: Rig) -> None:
    """The environment is built again after ever longer pauses; its runs wait, hold nothing, and start once it is there."""
    rig.apply(annotations="local.nexus/project: p")
    answers = [LaunchFailed("the index does not answer", permanent=False)] * 2
    tries: list[timedelta] = []

    async def prepare(local: dict[str, str]) -> None:
        tries.append(timedelta(seconds=round(rig.loop.time())))
        if answers:
            raise answers.pop()

    rig.life.engine.prepare = prepare  # type: ignore[method-assign]
    run_id = rig.begin()
    assert (rig.run(run_id).stage, rig.life.dispatcher.held()) == (Stage.BUFFERED, [])
    rig.wait(30.0)
    assert rig.at_work() == [run_id]
    assert [later - tries[0] for later in tries] == [timedelta(seconds=each) for each in (0, 2, 6, 6)]  # the launch asks last


def test_an_environment_that_cannot_be_built_ends_its_runs(rig: Rig) -> None:
    """Each run that waits for it ends with the builder's words; others are started."""
    rig.apply("other")
    rig.apply(annotations="local.nexus/project: p")

    async def prepare(local: dict[str, str]) -> None:
        raise LaunchFailed("the environment of `p` could not be built", "no such package")

    rig.life.engine.prepare = prepare  # type: ignore[method-assign]
    ids = [rig.begin(), rig.begin()]
    assert {rig.run(run_id).failure_details for run_id in ids} == {"no such package"}


def test_stopping_does_not_wait_for_a_build(rig: Rig) -> None:
    """A build may take a quarter of an hour; the dispatcher ends at once and the run still waits."""
    rig.apply(annotations="local.nexus/project: p")

    async def prepare(local: dict[str, str]) -> None:
        await asyncio.sleep(900)

    rig.life.engine.prepare = prepare  # type: ignore[method-assign]
    run_id = rig.begin()
    began = rig.loop.time()
    dispatching = rig.life.loops[0]
    dispatching.cancel()
    rig.do(_quietly(dispatching))
    assert rig.loop.time() - began < 1
    assert rig.run(run_id).stage is Stage.BUFFERED


async def _quietly(task: asyncio.Task[None]) -> None:
    await asyncio.gather(task, return_exceptions=True)


def _with(run: object, **changes: object) -> object:
    from msgspec.structs import replace

    return replace(run, **changes)  # type: ignore[type-var]
