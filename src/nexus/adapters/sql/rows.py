"""A run as a row and back. Columns, not a blob, so that an operator can read them with any SQLite tool.

Times are whole microseconds since the epoch, durations whole microseconds. ``root_id`` is NULL for a root: it would repeat
the id. A payload of up to ``INLINE_BYTES`` stands in the row, last, so that reading a run never touches it; a larger one has
a row of its own in ``payloads``, because SQLite writes a whole row again at each change of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from nexus.kernel.clock import EPOCH, from_microseconds, to_microseconds
from nexus.runs.model import Exit, ExitKind, ParentRef, Payload, Run, Stage
from nexus.runs.ports import Ended

Row = Sequence[Any]

INLINE_BYTES = 1024
_MICROSECOND = timedelta(microseconds=1)
_STAGES = {stage.value: stage for stage in Stage}

# What every accept writes, in this order; the rest of a fresh root run is known beforehand (FRESH).
ACCEPT_COLUMNS = (
    "id", "algorithm", "stage", "received_at", "last_modified", "received_by", "caller", "content_hash", "payload_size",
    "payload_key", "payload_offset", "template_revision", "api_version", "tag", "dry_run", "overrides", "payload_valid_for",
    "idempotency_key", "fingerprint",
)  # fmt: skip
# What only some accepts write: children, and runs that are not fresh.
OTHER_COLUMNS = (
    "revision", "root_id", "parent_algorithm", "parent_id", "depth", "waiting", "not_before",
    "sent_at", "job_uid", "attempt", "counted_failures", "transient_failures", "first_started_at", "result_uri",
    "failure_cause", "failure_details",
)  # fmt: skip
COLUMNS = ACCEPT_COLUMNS + OTHER_COLUMNS
SELECT_RUN = f"SELECT {', '.join(COLUMNS)} FROM runs"  # noqa: S608 - names from this module


def insert_fresh(count: int) -> str:
    """The statement that inserts *count* fresh root runs at once, leaving out those whose idempotency key is taken.

    One step of SQLite for many rows: each step gives the interpreter lock away and has to get it back.
    """
    values = f"({'?, ' * len(ACCEPT_COLUMNS)}?, 0, 0, 1, 0, 0, 0, 1)"
    names = (
        *ACCEPT_COLUMNS,
        "inline",
        "revision",
        "depth",
        "waiting",
        "attempt",
        "counted_failures",
        "transient_failures",
        "tree_runs",
    )
    return (
        f"INSERT INTO runs ({', '.join(names)}) VALUES {', '.join([values] * count)} "  # noqa: S608
        "ON CONFLICT (caller, algorithm, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
    )


INSERT_ANY = (
    f"INSERT INTO runs ({', '.join(COLUMNS)}, inline, tree_runs) "  # noqa: S608
    f"VALUES ({', '.join('?' * (len(COLUMNS) + 1))}, 1)"
)


def is_fresh(run: Run) -> bool:
    """Whether the run is one that was just accepted, outside any tree: the shortest statement will do."""
    return (
        run.parent is None
        and run.waiting
        and run.revision == 0
        and run.attempt == 0
        and run.depth == 0
        and run.not_before is None
        and run.sent_at is None
        and run.job_uid is None
        and run.first_started_at is None
        and run.result_uri is None
        and run.failure_cause is None
        and run.failure_details is None
        and run.counted_failures == 0
        and run.transient_failures == 0
    )


def encode_fresh(run: Run) -> tuple[Any, ...]:
    """The values of ACCEPT_COLUMNS. The hottest lines of the store: plain types only, because others go through adapters."""
    payload = run.payload
    received = (run.received_at - EPOCH) // _MICROSECOND
    return (
        run.id,
        run.algorithm,
        "BUFFERED" if run.stage is Stage.BUFFERED else run.stage.value,
        received,
        received if run.last_modified is run.received_at else to_microseconds(run.last_modified),
        run.received_by,
        run.caller,
        run.content_hash,
        payload.size_bytes,
        payload.object_key,
        payload.offset,
        run.template_revision,
        run.api_version,
        run.tag,
        1 if run.dry_run else 0,
        run.overrides,
        None if run.payload_valid_for is None else run.payload_valid_for // _MICROSECOND,
        run.idempotency_key,
        run.fingerprint,
    )


def encode(run: Run) -> tuple[Any, ...]:
    """The values of COLUMNS."""
    parent = run.parent
    return (
        *encode_fresh(run),
        run.revision,
        None if run.root_id == run.id else run.root_id,
        None if parent is None else parent.algorithm,
        None if parent is None else parent.run_id,
        run.depth,
        1 if run.waiting else 0,
        _instant(run.not_before),
        _instant(run.sent_at),
        run.job_uid,
        run.attempt,
        run.counted_failures,
        run.transient_failures,
        _instant(run.first_started_at),
        run.result_uri,
        run.failure_cause,
        run.failure_details,
    )


def decode(row: Row) -> Run:
    """The run of a row of SELECT_RUN."""
    received = from_microseconds(row[3])
    return Run(
        id=row[0],
        algorithm=row[1],
        stage=_STAGES[row[2]],
        received_at=received,
        last_modified=received if row[4] == row[3] else from_microseconds(row[4]),
        received_by=row[5],
        caller=row[6],
        content_hash=row[7],
        payload=Payload(size_bytes=row[8], object_key=row[9], offset=row[10]),
        template_revision=row[11],
        api_version=row[12],
        tag=row[13],
        dry_run=bool(row[14]),
        overrides=row[15],
        payload_valid_for=None if row[16] is None else timedelta(microseconds=row[16]),
        idempotency_key=row[17],
        fingerprint=row[18],
        revision=row[19],
        root_id=row[20] or row[0],
        parent=None if row[22] is None else ParentRef(algorithm=row[21], run_id=row[22]),
        depth=row[23],
        waiting=bool(row[24]),
        not_before=_datetime(row[25]),
        sent_at=_datetime(row[26]),
        job_uid=row[27],
        attempt=row[28],
        counted_failures=row[29],
        transient_failures=row[30],
        first_started_at=_datetime(row[31]),
        result_uri=row[32],
        failure_cause=row[33],
        failure_details=row[34],
    )


def encode_end(ended: Ended) -> tuple[Any, ...]:
    """The values of a row of ``attempts``. What an engine tells in words is kept as far as it is Unicode."""
    end = ended.exit
    detail = end.detail.encode("utf-8", "replace").decode()
    return (
        ended.run_id,
        ended.attempt,
        end.kind.value,
        _instant(end.started_at),
        to_microseconds(end.ended_at),
        end.code,
        end.signal,
        detail,
        end.peak_memory_bytes,
        end.cpu_s,
    )


def decode_exit(row: Row) -> Exit:
    """The exit of a row of ``attempts``, from its kind on."""
    return Exit(
        kind=ExitKind(row[0]),
        started_at=_datetime(row[1]),
        ended_at=from_microseconds(row[2]),
        code=row[3],
        signal=row[4],
        detail=row[5],
        peak_memory_bytes=row[6],
        cpu_s=row[7],
    )


def differences(before: Run, after: Run) -> tuple[tuple[str, ...], list[Any]]:
    """Names and values of the columns in which *after* differs.

    A run's id, place in its tree and payload never change, so they are not looked at.
    """
    names, values = [], []
    for name, encoder in _CHANGING:
        value = getattr(after, name)
        if value is not getattr(before, name):
            names.append(name)
            values.append(value if encoder is None else encoder(value))
    return tuple(names), values


def _instant(value: datetime | None) -> int | None:
    return None if value is None else to_microseconds(value)


def _datetime(value: int | None) -> datetime | None:
    return None if value is None else from_microseconds(value)


def _stage(value: Stage) -> str:
    return value.value


def _duration(value: timedelta | None) -> int | None:
    return None if value is None else value // _MICROSECOND


_CHANGING: tuple[tuple[str, Callable[[Any], Any] | None], ...] = (
    ("stage", _stage),
    ("revision", None),
    ("last_modified", to_microseconds),
    ("waiting", int),
    ("not_before", _instant),
    ("sent_at", _instant),
    ("job_uid", None),
    ("attempt", None),
    ("counted_failures", None),
    ("transient_failures", None),
    ("first_started_at", _instant),
    ("result_uri", None),
    ("failure_cause", None),
    ("failure_details", None),
    ("tag", None),
    ("received_at", to_microseconds),
    ("received_by", None),
    ("caller", None),
    ("content_hash", None),
    ("template_revision", None),
    ("api_version", None),
    ("dry_run", int),
    ("overrides", None),
    ("payload_valid_for", _duration),
    ("idempotency_key", None),
    ("fingerprint", None),
)
