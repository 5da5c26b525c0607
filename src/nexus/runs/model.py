"""Values of the runs slice. Immutable; built by the use cases, kept by a :class:`~nexus.runs.ports.RunStore`.

They are msgspec structs rather than dataclasses because one is made for each accepted request: construction costs a tenth.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec


class Stage(StrEnum):
    """Where a run stands. The names are those of API v1; :data:`nexus.runs.lifecycle.MOVES` says what may follow what."""

    NEW = "NEW"
    BUFFERED = "BUFFERED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SCHEDULING_FAILED = "SCHEDULING_FAILED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return self in FINAL


FINAL = frozenset({Stage.COMPLETED, Stage.FAILED, Stage.SCHEDULING_FAILED, Stage.DEADLINE_EXCEEDED, Stage.CANCELLED})


class ParentRef(msgspec.Struct, frozen=True, kw_only=True):
    """The run that spawned another."""

    algorithm: str
    run_id: str


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """Where the raw JSON bytes of ``algorithmParameters`` are.

    Inline (``object_key`` is None): in the run's row. Otherwise the bytes ``[offset, offset + size_bytes)`` of that object,
    which is the request body as it came, so that a large payload is written once.
    """

    size_bytes: int
    object_key: str | None = None
    offset: int = 0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run as it is stored.

    ``revision`` grows by one with each stored change. ``waiting`` says that the run wants a start: it is BUFFERED, or
    RUNNING between two attempts; ``not_before`` delays that start. ``attempt`` is the last attempt begun (1 is the first),
    ``counted_failures`` those that count against ``maximumRetries``, ``transient_failures`` those that do not.
    ``overrides`` is the request's ``customConfiguration`` as sent; the applied configuration is derived from it and the
    template at ``template_revision`` whenever it is read.
    """

    id: str
    algorithm: str
    stage: Stage
    received_at: datetime
    last_modified: datetime
    received_by: str
    caller: str
    content_hash: str
    payload: Payload
    template_revision: int
    root_id: str
    api_version: str = ""
    revision: int = 0
    tag: str | None = None
    parent: ParentRef | None = None
    depth: int = 0
    dry_run: bool = False
    overrides: bytes | None = None
    payload_valid_for: timedelta | None = None
    idempotency_key: str | None = None
    fingerprint: bytes | None = None
    waiting: bool = True
    not_before: datetime | None = None
    sent_at: datetime | None = None
    job_uid: str | None = None
    attempt: int = 0
    counted_failures: int = 0
    transient_failures: int = 0
    first_started_at: datetime | None = None
    result_uri: str | None = None
    failure_cause: str | None = None
    failure_details: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an algorithm says at its end. A non-empty ``error_cause`` means it failed."""

    received_at: datetime
    result_uri: str = ""
    error_cause: str = ""
    error_details: str = ""


class ExitKind(StrEnum):
    """How an attempt ended, as the engine saw it."""

    EXITED = "exited"  # by itself, with a code
    SIGNALLED = "signalled"  # by a signal nobody here sent
    OUT_OF_MEMORY = "out-of-memory"  # ended by the memory watch (or the kernel)
    DEADLINE = "deadline"  # ended by the wall-clock watch
    CANCELLED = "cancelled"  # ended because it was asked to
    LAUNCH_FAILED = "launch-failed"  # never became the command
    LOST = "lost"  # the machine or the launcher went away without a word


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one attempt. ``code`` is set for EXITED, ``signal`` for SIGNALLED."""

    kind: ExitKind
    ended_at: datetime
    started_at: datetime | None = None
    code: int | None = None
    signal: int | None = None
    detail: str = ""
    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
