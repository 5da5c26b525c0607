"""The table of moves, and the decisions that use it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.kernel.errors import StageConflict
from nexus.runs import lifecycle
from nexus.runs.model import FINAL, Payload, Report, Run, Stage

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=3)


def run(stage: Stage = Stage.BUFFERED, **changes: object) -> Run:
    values: dict[str, object] = {
        "id": "01a1fe58-842d-7001-a1d7-411db6405cc0",
        "algorithm": "demand",
        "stage": stage,
        "received_at": NOW,
        "last_modified": NOW,
        "received_by": "here",
        "caller": "anonymous",
        "content_hash": "x",
        "payload": Payload(size_bytes=2),
        "template_revision": 1,
        "root_id": "01a1fe58-842d-7001-a1d7-411db6405cc0",
        "waiting": stage in (Stage.NEW, Stage.BUFFERED),
    }
    return Run(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("to", list(Stage))
def test_only_the_moves_of_the_table_are_possible(stage: Stage, to: Stage) -> None:
    """A move is made exactly when the table has it; anything else raises and names both stages."""
    before = run(stage)
    if to is stage:
        assert lifecycle.advance(before, to, LATER) is before
    elif to in lifecycle.MOVES[stage]:
        after = lifecycle.advance(before, to, LATER)
        assert (after.stage, after.revision, after.last_modified) == (to, before.revision + 1, LATER)
    else:
        with pytest.raises(StageConflict, match=f"is {stage} and cannot become {to}"):
            lifecycle.advance(before, to, LATER)


def test_final_stages_have_no_moves() -> None:
    """Terminal stages never change."""
    assert {stage for stage, moves in lifecycle.MOVES.items() if not moves} == FINAL


@pytest.mark.parametrize("stage", sorted(FINAL))
def test_no_decision_touches_a_finished_run(stage: Stage) -> None:
    """Start, report, failure, cancel, retry and upload all leave a finished run exactly as it is (weaknesses 4 and 15)."""
    done = run(stage, waiting=False)
    report = Report(received_at=LATER, result_uri="s3://b/k")
    assert lifecycle.started(done, "uid", 1, LATER) is done
    assert lifecycle.reported(done, report) is done
    assert lifecycle.ended(done, Stage.FAILED, "cause", "", LATER) is done
    assert lifecycle.cancelled(done, "me", "why", LATER) is done
    assert lifecycle.retrying(done, LATER, LATER, counted=True) is done
    assert lifecycle.uploaded(done, "nexus:x", LATER) is done
    assert lifecycle.dry_completed(done, LATER) is done


def test_a_report_before_the_start_is_stored_is_accepted() -> None:
    """A fast algorithm may report while its run is still BUFFERED; the start that comes after changes nothing."""
    done = lifecycle.reported(run(), Report(received_at=LATER, result_uri="file:///r"))
    assert (done.stage, done.result_uri, done.waiting) == (Stage.COMPLETED, "file:///r", False)
    assert lifecycle.started(done, "uid", 1, LATER) is done


def test_an_error_cause_means_failed_and_keeps_the_details() -> None:
    """A report with an error cause fails the run with the cause and the traceback the algorithm gave."""
    failed = lifecycle.reported(run(Stage.RUNNING), Report(received_at=LATER, error_cause="ValueError: x", error_details="tb"))
    assert (failed.stage, failed.failure_cause, failed.failure_details) == (Stage.FAILED, "ValueError: x", "tb")


def test_the_first_start_is_remembered_over_retries() -> None:
    """``sent_at`` and ``first_started_at`` stay those of attempt 1, the uid becomes that of the newest attempt."""
    first = lifecycle.started(run(), "uid-1", 1, NOW)
    between = lifecycle.retrying(first, LATER, LATER, counted=True)
    assert (between.stage, between.waiting, between.not_before, between.counted_failures) == (Stage.RUNNING, True, LATER, 1)
    second = lifecycle.started(between, "uid-2", 2, LATER)
    assert (second.attempt, second.job_uid, second.sent_at, second.first_started_at) == (2, "uid-2", NOW, NOW)
    assert not second.waiting
    assert second.not_before is None


def test_a_repeated_start_is_not_written_twice() -> None:
    """The engine may confirm an attempt twice (adoption); the second time nothing changes."""
    first = lifecycle.started(run(), "uid-1", 1, NOW)
    assert lifecycle.started(first, "uid-1", 1, LATER) is first


@given(st.integers(min_value=-(10**6), max_value=10**6))
def test_last_modified_never_steps_back(seconds: int) -> None:
    """A wall clock that jumps back does not make a run look older."""
    after = lifecycle.advance(run(), Stage.RUNNING, NOW + timedelta(seconds=seconds))
    assert after.last_modified >= NOW


def test_a_run_cancelled_with_its_parent_says_so() -> None:
    """The details of a cancelled child name the run whose cancel took it along."""
    child = lifecycle.cancelled(run(), "ops", "too slow", LATER, by_parent="abc")
    assert child.failure_cause == "Cancelled by 'ops'"
    assert child.failure_details == "Run cancelled with its parent abc, reason: 'too slow'"
