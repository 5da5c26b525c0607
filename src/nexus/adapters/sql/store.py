"""SqliteStore: the embedded adapter of RunStore, ManifestStore and TokenStore.

Three kinds of connection, one file: the writer thread's is the only one that writes and checkpoints; the event loop's own
answers point reads where it stands (15 µs, less than any hop to a thread); two reader threads answer the rest, one what
people list, which may look at many runs, the other what dispatch and supervision ask, so that they never wait for people.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from msgspec.structs import replace

from nexus.adapters import durable
from nexus.adapters.sql import listings, registered
from nexus.adapters.sql.faults import translated
from nexus.adapters.sql.reader import Reader, connect_reader
from nexus.adapters.sql.rows import INLINE_BYTES, SELECT_RUN, decode, is_fresh
from nexus.adapters.sql.schema import prepare
from nexus.adapters.sql.writer import Writer, stopped
from nexus.kernel.access import Token
from nexus.kernel.clock import Clock
from nexus.runs.keeping import not_found
from nexus.runs.model import Report, Run, Stage
from nexus.runs.ports import Accepted, Change, Decide, Ended, Filter, StoredManifest, TreeLimits

T = TypeVar("T")

_LOG_PAGES = 1000  # when the log is copied into the file: more makes the slowest commit slower (stack.md 2)
_LOG_BYTES = 64 << 20  # a log that one large burst made longer is cut back to this
_CACHE_KIB = 16 << 10
_BUSY_S = 5.0

_RUN = f"{SELECT_RUN} WHERE id = ?"
_PAYLOAD = "SELECT inline, body FROM runs LEFT JOIN payloads ON payloads.seq = runs.seq WHERE id = ?"


class SqliteStore:
    """Keeps runs, manifests and tokens in one SQLite file. Belongs to the event loop it was opened on."""

    def __init__(self, path: Path, writer: Writer) -> None:
        """Used by :meth:`open`."""
        self._path = path
        self._writer = writer
        self._point = connect_reader(path, _BUSY_S)
        self._work = Reader(path, "nexus-store-work", _BUSY_S)
        self._lists = Reader(path, "nexus-store-lists", _BUSY_S)
        self._open = True

    @classmethod
    async def open(cls, path: Path | str, *, clock: Clock, on_step: Callable[[str], None] | None = None) -> Self:
        """The store in the file *path*, made or upgraded when needed.

        *clock* dates the backup of an upgrade. *on_step* is called in the writer thread at ``store.begin``,
        ``store.before-commit`` and ``store.after-commit``; fault tests kill the process there. Raises FolderUnusable.
        """
        path = Path(path)
        now = clock.now()
        writer = Writer(path, lambda: _connect_writer(path, now), on_step)
        await writer.start()
        try:
            with translated(path):
                return cls(path, writer)
        except BaseException:
            await writer.close()
            raise

    async def close(self) -> None:
        """Commits what was submitted, empties the log into the file, and refuses what comes later. May be called twice."""
        if self._open:
            self._open = False
            await self._work.close()
            await self._lists.close()
            self._point.close()  # before the writer's, so that the writer is the one that empties the log
        await self._writer.close()

    # ── RunStore: writes ──────────────────────────────────────────────────────────────────────────────────────────────

    async def accept(self, run: Run, inline: bytes | None, limits: TreeLimits) -> Accepted:
        """Stores a run; see S1, S3, S4."""
        if (inline is None or len(inline) <= INLINE_BYTES) and is_fresh(run):
            if run.root_id != run.id:
                run = replace(run, root_id=run.id)
            return await self._writer.submit_fresh((run, inline))  # type: ignore[no-any-return]
        return await self._writer.submit(lambda transaction: transaction.accept(run, inline, limits))  # type: ignore[no-any-return]

    async def change(self, run_id: str, decide: Decide) -> Change:
        """Applies a decision to a run; see S5."""
        return await self._writer.submit(lambda transaction: transaction.change(run_id, decide))  # type: ignore[no-any-return]

    async def change_tree(self, run_id: str, decide: Decide) -> list[Change]:
        """Applies a decision to a run and its descendants; see S6. Parents come before their children."""
        return await self._writer.submit(lambda transaction: transaction.change_tree(run_id, decide))  # type: ignore[no-any-return]

    async def end_attempt(self, ended: Ended, decide: Decide) -> Change:
        """Keeps how an attempt ended and applies a decision to its run; see S13."""
        return await self._writer.submit(lambda transaction: transaction.end_attempt(ended, decide))  # type: ignore[no-any-return]

    async def record_late(self, run_id: str, report: Report) -> None:
        """Keeps a report that came after the run's end."""
        await self._writer.submit(lambda transaction: transaction.record_late(run_id, report))

    # ── RunStore: reads ───────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, algorithm: str, run_id: str) -> Run:
        """The run. Raises RunNotFound."""
        run = await self.find(run_id)
        if run is None or run.algorithm != algorithm:
            raise not_found(run_id, algorithm)
        return run

    async def find(self, run_id: str) -> Run | None:
        """The run of this id, whatever its algorithm."""
        row = self._row(_RUN, run_id)
        return None if row is None else decode(row)

    async def inline_payload(self, run_id: str) -> bytes:
        """The payload kept with the run; empty when it is an object's. Raises RunNotFound."""
        row = self._row(_PAYLOAD, run_id)
        if row is None:
            raise not_found(run_id)
        body: bytes = row[0] if row[0] is not None else row[1] or b""
        return body

    async def tagged(self, tag: str, *, limit: int, before: str | None = None) -> list[Run]:
        """Runs with this tag, newest first."""
        return await self.page(Filter(tag=tag), limit=limit, before=before)

    async def page(self, where: Filter, *, limit: int, before: str | None = None) -> list[Run]:
        """Runs that match, newest first. Raises InvalidInput for a cursor that is no run."""
        if not self._open:
            raise stopped()
        return await self._lists.run(listings.page, where, limit, before)

    async def waiting(self, now: datetime, *, limit: int, exclude: Sequence[str] = ()) -> list[Run]:
        """Runs that want a start and are due, oldest first."""
        return await self._read(listings.waiting, now, limit, exclude)

    async def running(self) -> list[Run]:
        """Every RUNNING run that is not waiting."""
        return await self._read(listings.running)

    async def counts(self) -> dict[Stage, int]:
        """Runs by stage; every stage is there."""
        if not self._open:
            raise stopped()
        counts = self._writer.counts
        return {stage: counts.get(stage, 0) for stage in Stage}

    async def late_reports(self, run_id: str) -> list[Report]:
        """Reports that came after the run's end."""
        return await self._read(listings.late_reports, run_id)

    async def attempts(self, run_id: str, *, limit: int) -> list[Ended]:
        """How the newest ended attempts ended, by number."""
        return await self._read(listings.attempts, run_id, limit)

    # ── ManifestStore ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def put(self, manifests: Sequence[StoredManifest], *, prune: bool = False) -> list[StoredManifest]:
        """Stores manifests and with *prune* removes all others, in one step; returns what was stored, then what was removed."""
        given = tuple(manifests)
        return await self._writer.submit(  # type: ignore[no-any-return]
            lambda transaction: registered.put_manifests(transaction, given, prune=prune)
        )

    async def current(self) -> list[StoredManifest]:
        """The newest revision of every name that is not removed."""
        return await self._read(registered.current_manifests)

    async def at(self, kind: str, name: str, revision: int) -> StoredManifest | None:
        """One revision; None when there is none."""
        return await self._read(registered.manifest_at, kind, name, revision)

    # ── TokenStore ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def add_token(self, token: Token) -> None:
        """Keeps a token. Raises Conflict when its name exists."""
        await self._writer.submit(lambda transaction: registered.add_token(transaction, token))

    async def revoke_token(self, name: str) -> None:
        """Forgets a token. Raises NotFound."""
        await self._writer.submit(lambda transaction: registered.revoke_token(transaction, name))

    async def tokens(self) -> list[Token]:
        """Every token, by name."""
        return await self._read(registered.tokens)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _row(self, query: str, run_id: str) -> Any:
        """One row by primary key, read here and now: no thread is faster."""
        if not self._open:
            raise stopped()
        with translated(self._path):
            return self._point.execute(query, (run_id,)).fetchone()

    async def _read(self, query: Callable[..., T], *arguments: Any) -> T:
        if not self._open:
            raise stopped()
        return await self._work.run(query, *arguments)


def _connect_writer(path: Path, now: datetime) -> sqlite3.Connection:
    """The connection that writes, on a file of the present schema whose name is on disk."""
    with translated(path):
        created = not path.exists()
        if created:
            _create(path)
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            prepare(connection, path, now)
        except BaseException:
            connection.close()
            raise
        return connection


def _create(path: Path) -> None:
    """An empty file only its owner reads, whose name survives a crash. The log beside it takes its mode from it."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    durable.sync_folder(path.parent)
