"""What the end of an attempt means for its run. Pure; supervision applies the verdict.

Retries follow Kubernetes' Job: exit codes a template calls transient are retried without counting, fatal ones fail at once,
all others count against ``maximumRetries``. A signal counts as the code 128 + its number, as a shell and the kubelet report it.
"""

from __future__ import annotations

import signal as signals
from datetime import datetime, timedelta

import msgspec

from nexus.kernel.units import format_bytes, format_duration
from nexus.runs.configuration import Configuration
from nexus.runs.model import Exit, ExitKind, Run, Stage

TRANSIENT_CAP = 100  # "without counting" still ends somewhere
# how the cause of a run begins that FAILED by our judgement; every other cause of a FAILED run is the algorithm's own text
_JUDGED = (
    "Algorithm ended without reporting.", "Algorithm encountered a fatal error: ", "Algorithm failed: ", "Retries exhausted: ",
)  # fmt: skip
_KILLED = 128 + int(signals.SIGKILL)


class BackOff(msgspec.Struct, frozen=True, kw_only=True):
    """The pause before the n-th retry: ``base`` doubled n - 1 times, at most ``ceiling``."""

    base: timedelta = timedelta(seconds=1)
    ceiling: timedelta = timedelta(minutes=6)

    def pause(self, retry: int) -> timedelta:
        doublings: int = 2 ** min(max(retry - 1, 0), 30)
        return min(self.base * doublings, self.ceiling)


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The run is over. A COMPLETED end has no cause."""

    stage: Stage
    cause: str = ""
    details: str = ""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Another attempt is due at ``not_before``; ``counted`` says against which counter the last one goes."""

    counted: bool
    not_before: datetime


def judge(run: Run, exit_: Exit, configuration: Configuration, now: datetime, back_off: BackOff, *, used_s: float) -> End | Retry:
    """What follows from this end of the run's newest attempt, its report (if any) being stored already.

    *used_s*: seconds since the run's first start, as :mod:`nexus.runs.elapsed` counts them.
    """
    if exit_.kind is ExitKind.DEADLINE:
        return _deadline(configuration, exit_.detail)
    if exit_.kind is ExitKind.LAUNCH_FAILED:
        cause = "Algorithm submission was buffered, but failed to launch: please review configuration and try again."
        return End(stage=Stage.SCHEDULING_FAILED, cause=cause, details=exit_.detail)
    if exit_.kind is ExitKind.EXITED and exit_.code == 0:
        if configuration.completion == "exit-code":
            return End(stage=Stage.COMPLETED)
        kept = " The uploaded result is kept." if run.result_uri else ""
        details = f"The process exited with 0 but had not reported a result.{kept}"
        return End(stage=Stage.FAILED, cause="Algorithm ended without reporting.", details=details)
    following = _after_failure(run, exit_, configuration, now, back_off)
    left_s = time_left(configuration, used_s)
    if isinstance(following, Retry) and left_s is not None and left_s <= (following.not_before - now).total_seconds():
        return _deadline(configuration, "There was no time left for another attempt.")
    return following


def overdue(configuration: Configuration, used_s: float) -> End | None:
    """The end of a run whose time limit has passed since its first start; None while there is time or no limit."""
    left_s = time_left(configuration, used_s)
    return _deadline(configuration, "") if left_s is not None and left_s <= 0 else None


def time_left(configuration: Configuration, used_s: float) -> float | None:
    """Seconds left of the run's time limit, which covers all attempts; None without a limit."""
    return None if configuration.deadline_s is None else configuration.deadline_s - used_s


def _after_failure(run: Run, exit_: Exit, configuration: Configuration, now: datetime, back_off: BackOff) -> End | Retry:
    code, what = code_of(exit_), describe(exit_, configuration)
    if code is not None and code in configuration.fatal_exit_codes:
        return End(stage=Stage.FAILED, cause=f"Algorithm encountered a fatal error: {what}.", details=exit_.detail)
    if code is not None and code in configuration.transient_exit_codes:
        if run.transient_failures >= TRANSIENT_CAP:
            cause = f"Retries exhausted: {TRANSIENT_CAP} transient failures, the last one: {what}."
            return End(stage=Stage.FAILED, cause=cause, details=exit_.detail)
        return Retry(counted=False, not_before=now + back_off.pause(run.transient_failures + 1))
    if run.counted_failures >= configuration.maximum_retries:
        first = f"Algorithm failed: {what}."
        attempts = run.counted_failures + 1
        exhausted = f"Retries exhausted: {attempts} attempts failed, the last one: {what}."
        return End(stage=Stage.FAILED, cause=exhausted if configuration.maximum_retries else first, details=exit_.detail)
    return Retry(counted=True, not_before=now + back_off.pause(run.counted_failures + 1))


def is_reported(run: Run) -> bool:
    """Whether the run's cause is what its algorithm said, and so may hold anything, parts of its payload included."""
    return run.stage is Stage.FAILED and not (run.failure_cause or "").startswith(_JUDGED)


def _deadline(configuration: Configuration, details: str) -> End:
    limit = format_duration(configuration.deadline_s or 0.0)
    return End(
        stage=Stage.DEADLINE_EXCEEDED, cause=f"Algorithm exceeded its max allowed run time limit ({limit}).", details=details
    )


def code_of(exit_: Exit) -> int | None:
    """The exit code by which the template's tables judge; None when there is none (a lost process)."""
    if exit_.kind is ExitKind.EXITED:
        return exit_.code
    if exit_.kind is ExitKind.SIGNALLED and exit_.signal is not None:
        return 128 + exit_.signal
    return _KILLED if exit_.kind in (ExitKind.OUT_OF_MEMORY, ExitKind.CANCELLED) else None


def describe(exit_: Exit, configuration: Configuration | None) -> str:
    """The end in words for a person; without the limits where there is no *configuration*."""
    if exit_.kind is ExitKind.EXITED:
        return f"it exited with code {exit_.code}"
    if exit_.kind is ExitKind.SIGNALLED:
        return f"it was ended by signal {exit_.signal} ({_signal_name(exit_.signal)})"
    if exit_.kind is ExitKind.OUT_OF_MEMORY:
        limit = configuration.limits.memory_bytes if configuration is not None else None
        used = f", it used {format_bytes(exit_.peak_memory_bytes)}" if exit_.peak_memory_bytes else ""
        return f"it passed its memory limit of {format_bytes(limit)}{used}" if limit else f"it ran out of memory{used}"
    if exit_.kind is ExitKind.LOST:
        return "its process was lost: the machine restarted, or its launcher was killed"
    return "it was ended from outside"


def _signal_name(number: int | None) -> str:
    try:
        return signals.Signals(number or 0).name
    except ValueError:
        return "unknown"
