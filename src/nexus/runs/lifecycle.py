"""The one table of moves, and every decision that moves a run. Pure: the store applies them under its guard.

Each function takes the run as stored and returns the run as it should be; the same object means "nothing to write". A store
may call them more than once for one change (compare-and-set), so they must not have effects.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from nexus.kernel.errors import StageConflict
from nexus.runs.model import FINAL, Report, Run, Stage

MOVES: dict[Stage, frozenset[Stage]] = {
    Stage.NEW: frozenset({Stage.BUFFERED, Stage.SCHEDULING_FAILED, Stage.CANCELLED}),
    Stage.BUFFERED: frozenset({Stage.RUNNING}) | FINAL,
    Stage.RUNNING: FINAL,
    **{stage: frozenset() for stage in FINAL},
}

LINGER_S = 600.0  # an algorithm may tidy up after its report: telemetry, caches


def advance(run: Run, to: Stage, now: datetime, **changes: object) -> Run:
    """The run after moving to *to* with *changes*; the same run if it is already there.

    Raises StageConflict when the move is not in MOVES; terminal stages have none. ``last_modified`` never steps back, even
    when the wall clock does.
    """
    if run.stage is to:
        return run
    if to not in MOVES[run.stage]:
        raise StageConflict(
            f"run `{run.algorithm}/{run.id}` is {run.stage} and cannot become {to}",
            hint=f"a finished run is read with `nexus runs result {run.algorithm} {run.id}`" if run.stage.final else "",
        )
    if to.final:
        changes = {"waiting": False, "not_before": None, **changes}
    return replace(run, stage=to, revision=run.revision + 1, last_modified=max(now, run.last_modified), **changes)


def touch(run: Run, now: datetime, **changes: object) -> Run:
    """The run with *changes* and the stage as it is."""
    return replace(run, revision=run.revision + 1, last_modified=max(now, run.last_modified), **changes)


def started(run: Run, job_uid: str, attempt: int, now: datetime) -> Run:
    """The run after the engine confirmed attempt number *attempt*; the same run when it ended meanwhile or this is known.

    Known is also an attempt whose end was stored before its start: the run then waits for the next one.
    """
    if run.stage.final or attempt <= run.attempt:
        return run
    changes: dict[str, object] = {
        "waiting": False,
        "not_before": None,
        "job_uid": job_uid,
        "attempt": attempt,
        "sent_at": run.sent_at or now,
        "first_started_at": run.first_started_at or now,
    }
    if run.stage is Stage.RUNNING:
        return touch(run, now, **changes)
    return advance(run, Stage.RUNNING, now, **changes)


def dry_completed(run: Run, now: datetime) -> Run:
    """A dry run ends where a real one would have been started."""
    if run.stage.final:
        return run
    return advance(run, Stage.COMPLETED, now, sent_at=now, job_uid="dry-run")


def reported(run: Run, report: Report) -> Run:
    """The run after its algorithm's own report; the same run if it is already final (the report is then a late one)."""
    if run.stage.final:
        return run
    if report.error_cause:
        return advance(
            run,
            Stage.FAILED,
            report.received_at,
            failure_cause=report.error_cause,
            failure_details=report.error_details or None,
            result_uri=report.result_uri or run.result_uri,
        )
    return advance(run, Stage.COMPLETED, report.received_at, result_uri=report.result_uri or run.result_uri)


def ended(run: Run, to: Stage, cause: str, details: str, now: datetime) -> Run:
    """The run ended as the service found (an empty *cause* for COMPLETED); the same run if it is already final."""
    if run.stage.final:
        return run
    return advance(run, to, now, failure_cause=cause or None, failure_details=details or None)


def retrying(run: Run, not_before: datetime, now: datetime, *, counted: bool) -> Run:
    """The run between two attempts: RUNNING still, waiting for a start that is due at *not_before*."""
    if run.stage.final or run.waiting:
        return run
    failures = {"counted_failures": run.counted_failures + 1} if counted else {"transient_failures": run.transient_failures + 1}
    return touch(run, now, waiting=True, not_before=not_before, **failures)


def cancelled(run: Run, initiator: str, reason: str, now: datetime, *, by_parent: str = "") -> Run:
    """The run after a cancel; the same run if it had already ended. ``by_parent``: the run whose cancel took this one along."""
    if run.stage.final:
        return run
    why = f"Run cancelled, reason: '{reason}'"
    if by_parent:
        why = f"Run cancelled with its parent {by_parent}, reason: '{reason}'"
    return advance(run, Stage.CANCELLED, now, failure_cause=f"Cancelled by '{initiator}'", failure_details=why)


def uploaded(run: Run, uri: str, now: datetime) -> Run:
    """The run with a result stored through its upload URL; the same run if a report already named another."""
    if run.stage.final or run.result_uri == uri:
        return run
    return touch(run, now, result_uri=uri)


def outstays(run: Run, over_s: float) -> bool:
    """Whether an attempt of this run that still lives should not: the run ended by another's word, or reported long ago.

    *over_s*: seconds since the run ended, if it has.
    """
    told = run.stage in (Stage.COMPLETED, Stage.FAILED)
    return run.stage.final and (not told or over_s > LINGER_S)


def may_spawn(run: Run, over_s: float, *, process_ended: bool) -> bool:
    """Whether the process of this run may submit others: until the run ends, and after its own report while it may linger.

    Existing clients can be told to report first and spawn then. *over_s*: seconds since the run ended, if it has;
    *process_ended*: the store knows how its newest attempt ended.
    """
    return not run.stage.final or not (process_ended or outstays(run, over_s))
