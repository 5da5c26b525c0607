"""Queries of the store that read many runs. Each takes a connection that only reads; the store runs them in its reader thread."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from nexus.adapters.sql.rows import SELECT_RUN, decode, decode_exit
from nexus.kernel.clock import from_microseconds, to_microseconds
from nexus.runs.keeping import unknown_cursor
from nexus.runs.model import Report, Run, Stage
from nexus.runs.ports import Ended, Filter

_NOTABLE = "stage IN ('RUNNING', 'FAILED', 'SCHEDULING_FAILED', 'DEADLINE_EXCEEDED', 'CANCELLED')"  # the condition of its index
_NOTABLE_STAGES = frozenset({Stage.RUNNING, Stage.FAILED, Stage.SCHEDULING_FAILED, Stage.DEADLINE_EXCEEDED, Stage.CANCELLED})
_RUNNING = f"{SELECT_RUN} WHERE {_NOTABLE} AND stage = 'RUNNING' AND waiting = 0 ORDER BY seq"
_OF_ROOT = "(root_id = ? OR (id = ? AND root_id IS NULL))"
_LATE = "SELECT received_at, result_uri, error_cause, error_details FROM late_reports WHERE run_id = ? ORDER BY seq"
_ATTEMPTS = (
    "SELECT attempt, kind, started_at, ended_at, code, signal, detail, peak_memory_bytes, cpu_s FROM attempts "
    "WHERE run_id = ? ORDER BY attempt DESC LIMIT ?"
)
_SELECT_NUMBERED = SELECT_RUN.replace("SELECT ", "SELECT seq, ", 1)
# the planner would rather walk all runs in their order than sort the few that are due
_SELECT_WAITING = _SELECT_NUMBERED + " INDEXED BY runs_waiting WHERE waiting = 1"
_WAITING = (
    f"SELECT * FROM ({_SELECT_WAITING} AND not_before IS NULL"  # noqa: S608 - names from rows.py
    " AND id NOT IN (SELECT value FROM json_each(:exclude)) ORDER BY seq LIMIT :limit) "
    f"UNION ALL SELECT * FROM ({_SELECT_WAITING} AND not_before <= :now"
    " AND id NOT IN (SELECT value FROM json_each(:exclude)) ORDER BY seq LIMIT :limit) "
    "ORDER BY seq LIMIT :limit"
)


def page(connection: sqlite3.Connection, where: Filter, limit: int, before: str | None) -> list[Run]:
    """The newest *limit* runs that match, accepted earlier than the run *before*."""
    terms: list[str] = []
    values: list[Any] = []
    if where.algorithm is not None:
        terms.append("algorithm = ?")
        values.append(where.algorithm)
    if where.stage is not None:
        terms.append(f"{_NOTABLE} AND stage = ?" if where.stage in _NOTABLE_STAGES else "stage = ?")
        values.append(where.stage.value)
    if where.tag is not None:
        terms.append("tag = ?")
        values.append(where.tag)
    if where.parent_id is not None:
        terms.append("parent_id = ?")
        values.append(where.parent_id)
    if where.root_id is not None:
        terms.append(_OF_ROOT)
        values += [where.root_id, where.root_id]
    if before is not None:
        terms.append("seq < ?")
        values.append(_position(connection, before))
    condition = f" WHERE {' AND '.join(terms)}" if terms else ""
    rows = connection.execute(f"{SELECT_RUN}{condition} ORDER BY seq DESC LIMIT ?", (*values, limit))
    return [decode(row) for row in rows]


def waiting(connection: sqlite3.Connection, now: datetime, limit: int, exclude: Sequence[str]) -> list[Run]:
    """Runs that want a start and are due, oldest first."""
    values = {"now": to_microseconds(now), "limit": limit, "exclude": json.dumps(list(exclude))}
    return [decode(row[1:]) for row in connection.execute(_WAITING, values)]


def running(connection: sqlite3.Connection) -> list[Run]:
    """Every RUNNING run that is not waiting, oldest first."""
    return [decode(row) for row in connection.execute(_RUNNING)]


def late_reports(connection: sqlite3.Connection, run_id: str) -> list[Report]:
    """The reports that came after the run's end, in the order they came."""
    return [
        Report(received_at=from_microseconds(row[0]), result_uri=row[1], error_cause=row[2], error_details=row[3])
        for row in connection.execute(_LATE, (run_id,))
    ]


def attempts(connection: sqlite3.Connection, run_id: str, limit: int) -> list[Ended]:
    """How the newest *limit* ended attempts of a run ended, in the order of their numbers."""
    rows = connection.execute(_ATTEMPTS, (run_id, limit)).fetchall()
    return [Ended(run_id=run_id, attempt=row[0], exit=decode_exit(row[1:])) for row in reversed(rows)]


def _position(connection: sqlite3.Connection, cursor: str) -> int:
    row = connection.execute("SELECT seq FROM runs WHERE id = ?", (cursor,)).fetchone()
    if row is None:
        raise unknown_cursor(cursor)
    return int(row[0])
