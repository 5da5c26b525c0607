"""Attempts one by one: what each run shows of them, in words a person understands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from nexus.runs import attempts
from nexus.runs.attempts import Attempt, State
from nexus.runs.model import ExitKind, Stage
from tests.unit.runs.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(places=2, window=4)
    yield rig
    rig.close()


def shown(rig: Rig, run_id: str) -> list[Attempt]:
    return rig.do(rig.life.reading.attempts(rig.run(run_id)))


def test_each_attempt_says_when_and_why_it_ended(rig: Rig) -> None:
    """A retried crash, a transient code, a signal, and the one that works now, which has no end yet."""
    run_id = rig.begin(retries=5)
    for code, pause in ((3, 1.5), (75, 1.5)):
        rig.wait(10.0)
        rig.finish(run_id, code=code)
        rig.wait(pause)
    rig.life.engine.finish(run_id, kind=ExitKind.SIGNALLED, signal=11)
    rig.settle()
    rig.wait(2.5)
    first, second, third, fourth = shown(rig, run_id)
    assert [each.number for each in (first, second, third, fourth)] == [1, 2, 3, 4]
    assert (first.state, first.why) == (State.ENDED, "it exited with code 3")
    assert first.started_at is not None
    assert first.exit is not None
    assert first.exit.ended_at - first.started_at == timedelta(seconds=10)
    assert second.why == "it exited with code 75, which its template calls transient"
    assert third.why == "it was ended by signal 11 (SIGSEGV)"
    assert (fourth.state, fourth.exit, fourth.why) == (State.RUNNING, None, "")
    assert fourth.started_at is not None
    assert all(each.logs_kept for each in (first, second, third, fourth))


@pytest.mark.parametrize(
    ("kind", "code", "why"),
    [
        (ExitKind.EXITED, 134, "it exited with code 134, which its template calls fatal"),
        (ExitKind.EXITED, 0, "it exited with code 0"),
        (ExitKind.DEADLINE, None, "it reached the time limit of the run"),
        (ExitKind.LAUNCH_FAILED, None, "it could not be launched"),
        (ExitKind.OUT_OF_MEMORY, None, "it ran out of memory"),
        (ExitKind.CANCELLED, None, "it was ended from outside"),
    ],
)
def test_every_kind_of_end_has_its_words(rig: Rig, kind: ExitKind, code: int | None, why: str) -> None:
    """Exit codes with what the template says of them, limits, and ends that came from outside."""
    run_id = rig.begin()
    rig.life.engine.finish(run_id, kind=kind, code=code)
    rig.settle()
    assert [each.why for each in shown(rig, run_id)] == [why]


def test_a_cancelled_attempt_says_so(rig: Rig) -> None:
    """A cancel of the run is the reason; after a report it is that the process stayed too long."""
    cancelled, reported = rig.begin(), rig.begin()
    rig.cancel(cancelled)
    rig.report(reported)
    rig.settle()
    rig.wait(720.0)
    assert [each.why for each in shown(rig, cancelled)] == ["it was cancelled with its run"]
    assert [each.why for each in shown(rig, reported)] == ["it was ended because its run was over"]


def test_what_the_engine_forgot_is_still_told(rig: Rig) -> None:
    """When its logs are gone an attempt is shown as it ended, and says that there are no logs."""
    run_id = rig.begin()
    rig.finish(run_id, code=3)
    rig.wait(timedelta(days=8).total_seconds())
    (only,) = shown(rig, run_id)
    assert (only.state, only.why, only.logs_kept) == (State.ENDED, "it exited with code 3", False)


def test_an_end_the_store_has_not_heard_of_comes_from_the_engine(rig: Rig) -> None:
    """Runs of an older data folder show their attempts as long as the engine keeps them; after that nobody knows."""
    run_id = rig.begin()
    rig.finish(run_id, code=3)
    rig.store._ends.clear()
    assert [each.why for each in shown(rig, run_id)] == ["it exited with code 3"]
    rig.machine.attempts.clear()
    (only,) = shown(rig, run_id)
    assert (only.state, only.exit, only.why) == (State.UNKNOWN, None, "")
    assert only.started_at == rig.run(run_id).first_started_at


def test_a_template_that_is_gone_keeps_nobody_from_reading(rig: Rig) -> None:
    """The end is told without what the template would have said of it."""
    from msgspec.structs import replace

    run_id = rig.begin()
    rig.finish(run_id, code=134)
    rig.do(rig.store.change(run_id, lambda run: replace(run, template_revision=99)))
    assert [each.why for each in shown(rig, run_id)] == ["it exited with code 134"]


def test_of_very_many_attempts_the_newest_are_shown(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number is bounded; the run says how many there were."""
    monkeypatch.setattr(attempts, "MAX_ATTEMPTS", 3)
    run_id = rig.begin(retries=50)
    for _ in range(5):
        rig.finish(run_id, code=1)
        rig.wait(65.0)
    assert rig.run(run_id).attempt == 6
    assert [each.number for each in shown(rig, run_id)] == [4, 5, 6]


def test_a_run_that_never_started_has_none(rig: Rig) -> None:
    """Dry runs and runs that wait have no attempts."""
    run_id = rig.begin(dry=True)
    rig.settle()
    assert rig.run(run_id).stage is Stage.COMPLETED
    assert shown(rig, run_id) == []
