"""What the runs slice asks of the world, in its own words.

Every promise has a number; each number has a test in the suite of the port (``nexus.testing.suites``), which every adapter
must pass. An adapter that cannot keep one declares it there with its reason.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import msgspec

from nexus.runs.model import Exit, Report, Run, Stage

Decide = Callable[[Run], Run]


class Accepted(msgspec.Struct, frozen=True):
    """``run`` as stored. ``replayed``: the same request was accepted before under its idempotency key, this is that run."""

    run: Run
    replayed: bool = False


class Change(msgspec.Struct, frozen=True):
    """A run before and after; the same object twice when nothing was written."""

    before: Run
    after: Run

    @property
    def written(self) -> bool:
        return self.before is not self.after


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt ended."""

    run_id: str
    attempt: int
    exit: Exit


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs a listing shows; None means any."""

    algorithm: str | None = None
    stage: Stage | None = None
    tag: str | None = None
    root_id: str | None = None
    parent_id: str | None = None


class TreeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How deep (root = 0) and how large (runs, root included) an execution tree may grow."""

    max_depth: int = 16
    max_runs: int = 10_000


class RunStore(Protocol):
    """Keeps runs. Every method may raise NoSpace or Unavailable; nothing else of the driver comes through.

    S1  accept() returns only after the run and its inline payload survive a crash of the process and of the machine.
    S2  What accept() or change() returned is seen by every later read.
    S3  accept() under an idempotency key (scope: caller, algorithm, key) stores one run, also when twins race; the replay
        gets the stored run back, whatever its stage; another fingerprint raises IdempotencyMismatch.
    S4  accept() of a child sets its root and depth from the stored parent, in the same step that looks at the ancestors:
        unknown parent → UnknownParent, cancelled ancestor → CancelledParent, beyond the limits → TreeLimit. Children of
        completed or failed parents are accepted.
    S5  change() applies a pure decision to the run as stored, alone: concurrent changes of one run are serialised, none is
        lost. A decision that returns its argument writes nothing; one that raises writes nothing and its error comes through.
    S6  change_tree() does so for a run and all its descendants in one step: a child accepted meanwhile is either in it or
        refused by S4.
    S7  Unknown ids raise RunNotFound; an id under another algorithm's name is unknown.
    S8  Listings come newest first, pages by a cursor (the last id seen) neither skip nor repeat runs that were there throughout.
    S9  waiting() gives runs that want a start and are due, oldest first, none of `exclude`.
    S10 Times keep their microseconds, payload and overrides their bytes.
    S11 A late report is kept beside the run and changes nothing of it.
    S12 A full disk raises NoSpace, keeps nothing of that call, and the store works again when there is room.
    S13 end_attempt() keeps how an attempt ended in the same step in which it changes the run as S5 says: both or neither. Of
        several ends told of one attempt the first stays.
    """

    async def accept(self, run: Run, inline: bytes | None, limits: TreeLimits) -> Accepted: ...

    async def change(self, run_id: str, decide: Decide) -> Change: ...

    async def end_attempt(self, ended: Ended, decide: Decide) -> Change: ...

    async def change_tree(self, run_id: str, decide: Decide) -> list[Change]: ...

    async def get(self, algorithm: str, run_id: str) -> Run: ...

    async def find(self, run_id: str) -> Run | None:
        """The run of this id, whatever its algorithm; None when there is none."""
        ...

    async def inline_payload(self, run_id: str) -> bytes: ...

    async def tagged(self, tag: str, *, limit: int, before: str | None = None) -> list[Run]: ...

    async def page(self, where: Filter, *, limit: int, before: str | None = None) -> list[Run]: ...

    async def waiting(self, now: datetime, *, limit: int, exclude: Sequence[str] = ()) -> list[Run]: ...

    async def running(self) -> list[Run]:
        """Every RUNNING run that is not waiting: an engine should know each."""
        ...

    async def counts(self) -> dict[Stage, int]:
        """Runs by stage, from counters: costs the same at a million rows."""
        ...

    async def record_late(self, run_id: str, report: Report) -> None: ...

    async def late_reports(self, run_id: str) -> list[Report]: ...

    async def attempts(self, run_id: str, *, limit: int) -> list[Ended]:
        """How the newest *limit* ended attempts of a run ended, by number; none for an unknown run."""
        ...


class StoredManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of a template or workgroup. ``body`` is the manifest as JSON; ``source`` the file it came from;
    ``trusted`` whether its local annotations (code execution) may be followed."""

    kind: str
    name: str
    namespace: str
    revision: int
    body: bytes
    source: str
    trusted: bool
    stored_at: datetime
    removed: bool = False


class ManifestStore(Protocol):
    """Keeps every revision of every manifest.

    M1  put() stores all or nothing. A body equal to the newest revision makes no new one.
    M2  Revisions of a name count up from 1 and never change; a removed name keeps its revisions, and counts on when it returns.
    M3  What put() returned survives a crash.
    M4  put() with *prune* removes, in the same step, every current name of any kind that is not among its manifests.
    """

    async def put(self, manifests: Sequence[StoredManifest], *, prune: bool = False) -> list[StoredManifest]:
        """Stores them; ``revision`` and ``stored_at`` of the arguments are ignored for unchanged ones.

        Returns them as stored, and after them what was pruned, by kind and name.
        """
        ...

    async def current(self) -> list[StoredManifest]: ...

    async def at(self, kind: str, name: str, revision: int) -> StoredManifest | None: ...


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of one run, ready for an engine.

    ``argv`` is complete (payload URL and request id filled in). ``environment`` is what the algorithm's process gets beyond
    the engine's own short list. ``deadline_s`` is what is left of the run's wall-clock limit. ``local`` carries the
    template's ``local.nexus/*`` annotations without that prefix, paths made absolute; empty when there are none.
    """

    run_id: str
    algorithm: str
    attempt: int
    argv: tuple[str, ...]
    environment: dict[str, str]
    local: dict[str, str] = {}
    deadline_s: float | None = None
    cpu_millicores: int | None = None
    memory_bytes: int | None = None


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt runs. ``uid`` names it in the engine's own terms."""

    uid: str
    started_at: datetime


class Absent(msgspec.Struct, frozen=True):
    """The engine has never begun this attempt."""


class LaunchFailed(Exception):
    """The engine could not start the attempt. ``permanent``: trying again would fail the same way."""

    def __init__(self, cause: str, details: str = "", *, permanent: bool = True) -> None:
        super().__init__(cause)
        self.cause = cause
        self.details = details
        self.permanent = permanent


class Engine(Protocol):
    """Executes attempts.

    E1  create() is idempotent by (run id, attempt): the second call returns the same uid and starts nothing, also after a
        restart of the service and while the first is still under way.
    E2  create() returns after the engine has durably taken the attempt: from then on status() is never Absent.
    E3  Every attempt that was taken ends in exactly one Exit, which status() keeps returning until forget().
    E4  The listener hears of an end at least once, soon; a restarted service learns of ends it missed by status().
    E5  cancel() ends the attempt with everything it started, is idempotent, and does nothing for what has ended.
    E6  The attempt ends by itself at its deadline and at its memory limit, with everything it started.
    E7  A service that dies leaves attempts running; the next one sees them as Alive and can cancel them.
    E8  Logs are bounded in size, keep bytes as written, and stay readable after the end until forget().
    E9  start() and live() cost what lives and what ended just now, old() what it gives: however much is kept besides.
    """

    async def start(self, on_end: Callable[[Ended], None]) -> None:
        """Begins work; *on_end* is called on the event loop for each end, at least once."""
        ...

    async def stop(self) -> None:
        """Ends the engine's own work. Attempts go on."""
        ...

    async def prepare(self, local: dict[str, str]) -> None:
        """Builds what an attempt with these annotations needs, ahead of time. Raises LaunchFailed.

        Who cancels it gives up waiting; what nobody else waits for is ended, with all it started.
        """
        ...

    async def create(self, launch: Launch) -> str:
        """Starts the attempt and returns its uid. Raises LaunchFailed."""
        ...

    async def status(self, run_id: str, attempt: int) -> Alive | Ended | Absent: ...

    async def live(self) -> list[tuple[str, int]]:
        """Run and attempt of all that is alive; among them may be some that ended just now or never began."""
        ...

    async def old(self, before: datetime) -> list[tuple[str, int]]:
        """Run and attempt of all that ended before that moment and was not forgotten."""
        ...

    async def cancel(self, run_id: str, attempt: int) -> None: ...

    async def log(self, run_id: str, attempt: int, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Bytes of ``stdout`` or ``stderr`` from *offset*; empty when there is nothing more now."""
        ...

    async def forget(self, run_id: str) -> None:
        """Removes what the engine keeps of a run's ended attempts."""
        ...


class Spool(Protocol):
    """An object being written. Discarded on leaving its context unless committed."""

    async def write(self, chunk: bytes) -> None: ...

    def view(self) -> memoryview:
        """What was written so far, mapped, not copied. Release it before leaving the context."""
        ...

    async def commit(self, key: str) -> int:
        """Makes the object durable under *key* and returns its size. Raises NoSpace, Conflict when the key exists."""
        ...


class Objects(Protocol):
    """Keeps large payloads and results.

    O1  commit() returns after bytes and name survive a crash of the machine; before it, no reader sees the key.
    O2  A key is written once; a second commit raises Conflict and leaves the first.
    O3  read() streams in bounded pieces, any byte range, and holds a few pieces in memory at most.
    O4  A spool that is not committed leaves nothing behind, also after a crash (cleaned at the next start).
    O5  A full disk raises NoSpace and leaves nothing of that object.
    O6  Keys are plain relative names; anything else (absolute, `..`, empty parts, control characters) is refused.
    O7  names() gives the committed keys directly below a folder, none twice; none for a folder that is not there.
    """

    def spool(self) -> AbstractAsyncContextManager[Spool]: ...

    def read(self, key: str, *, offset: int = 0, size_bytes: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of an object. Raises NotFound before the first piece."""
        ...

    async def size(self, key: str) -> int | None:
        """The object's size in bytes; None when there is none."""
        ...

    async def delete(self, key: str) -> None: ...

    async def names(self, folder: str) -> list[str]:
        """The last parts of the keys directly below *folder* (a key without its last part), in no order."""
        ...
