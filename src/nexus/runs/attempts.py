"""The attempts of a run one by one: when each began and ended, why, and whether its logs are kept. Called by reading.

How an attempt ended is in the store. What is not, because it works, or ended before this version of Nexus, the engine knows.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from enum import StrEnum

import msgspec

from nexus.runs import diagnosis
from nexus.runs.configuration import Configuration
from nexus.runs.model import Exit, ExitKind, Run, Stage
from nexus.runs.ports import Absent, Alive, Ended, Engine, RunStore

MAX_ATTEMPTS = 1_000  # the newest; each costs a look at the engine
_STRIDE = 16


class State(StrEnum):
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"  # it ended before ends were kept, and the engine has forgotten it


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt. ``exit`` is there when it has ended, ``why`` says that in words; ``logs_kept``: they can still be read."""

    number: int
    state: State
    started_at: datetime | None
    logs_kept: bool
    exit: Exit | None = None
    why: str = ""


async def gather(run: Run, store: RunStore, engine: Engine, configuration: Configuration | None) -> list[Attempt]:
    """The newest MAX_ATTEMPTS attempts by number. *configuration*: what their exit codes and limits are explained with."""
    ends = {each.attempt: each.exit for each in await store.attempts(run.id, limit=MAX_ATTEMPTS)}
    newest = max([run.attempt, *ends])
    found = []
    for place, number in enumerate(range(max(1, newest - MAX_ATTEMPTS + 1), newest + 1)):
        if place % _STRIDE == _STRIDE - 1:
            await asyncio.sleep(0)
        status = await engine.status(run.id, number)
        end = ends.get(number) or (status.exit if isinstance(status, Ended) else None)
        found.append(_attempt(run, number, status, end, configuration))
    return found


def _attempt(
    run: Run, number: int, status: Alive | Ended | Absent, end: Exit | None, configuration: Configuration | None
) -> Attempt:
    kept = not isinstance(status, Absent)
    began = run.first_started_at if number == 1 else None
    if end is not None:
        why = explain(run, end, configuration)
        return Attempt(number=number, state=State.ENDED, started_at=end.started_at or began, logs_kept=kept, exit=end, why=why)
    if isinstance(status, Alive):
        return Attempt(number=number, state=State.RUNNING, started_at=status.started_at, logs_kept=kept)
    return Attempt(number=number, state=State.UNKNOWN, started_at=began, logs_kept=kept)


def explain(run: Run, end: Exit, configuration: Configuration | None) -> str:
    """Why an attempt of *run* ended, in words that go on from "attempt 2:"."""
    if end.kind is ExitKind.DEADLINE:
        return "it reached the time limit of the run"
    if end.kind is ExitKind.LAUNCH_FAILED:
        return "it could not be launched"
    if end.kind is ExitKind.CANCELLED:
        return _cancelled(run, end)
    code, words = diagnosis.code_of(end), diagnosis.describe(end, configuration)
    if configuration is not None and code in configuration.fatal_exit_codes:
        return f"{words}, which its template calls fatal"
    if configuration is not None and code in configuration.transient_exit_codes:
        return f"{words}, which its template calls transient"
    return words


def _cancelled(run: Run, end: Exit) -> str:
    if run.stage is Stage.CANCELLED:
        return "it was cancelled with its run"
    if run.stage.final and end.ended_at > run.last_modified:
        return "it was ended because its run was over"
    return "it was ended from outside"
