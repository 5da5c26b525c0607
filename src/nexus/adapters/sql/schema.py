"""Tables of the embedded store, and how an older file becomes a newer one.

``PRAGMA user_version`` holds the version. STEPS[n] turns version n into n + 1; a new file goes through all of them. Before
an upgrade the old file is copied beside itself; a file of a newer Nexus is refused, because writing it would lose what this
version does not know.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from nexus.adapters.sql.faults import translated
from nexus.kernel.errors import FolderUnusable

APPLICATION_ID = 0x4E585553  # "NXUS": tells `file` and us what this database is

_FIRST = """
CREATE TABLE runs (
    seq INTEGER PRIMARY KEY,  -- order of acceptance; listings and "oldest first" go by it, whatever the clock did
    id TEXT NOT NULL UNIQUE,
    algorithm TEXT NOT NULL,
    stage TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    last_modified INTEGER NOT NULL,
    received_by TEXT NOT NULL,
    caller TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    payload_size INTEGER NOT NULL,
    payload_key TEXT,
    payload_offset INTEGER NOT NULL,
    template_revision INTEGER NOT NULL,
    api_version TEXT NOT NULL,
    tag TEXT,
    dry_run INTEGER NOT NULL,
    overrides BLOB,
    payload_valid_for INTEGER,
    revision INTEGER NOT NULL,
    root_id TEXT,             -- NULL: this run is the root of its tree
    parent_algorithm TEXT,
    parent_id TEXT,
    depth INTEGER NOT NULL,
    idempotency_key TEXT,
    fingerprint BLOB,
    waiting INTEGER NOT NULL,
    not_before INTEGER,
    sent_at INTEGER,
    job_uid TEXT,
    attempt INTEGER NOT NULL,
    counted_failures INTEGER NOT NULL,
    transient_failures INTEGER NOT NULL,
    first_started_at INTEGER,
    result_uri TEXT,
    failure_cause TEXT,
    failure_details TEXT,
    tree_runs INTEGER NOT NULL,  -- kept on the root: runs in the tree
    inline BLOB
);
CREATE UNIQUE INDEX runs_by_key ON runs (caller, algorithm, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_waiting ON runs (not_before) WHERE waiting = 1;
CREATE INDEX runs_by_tag ON runs (tag) WHERE tag IS NOT NULL;
CREATE INDEX runs_by_root ON runs (root_id) WHERE root_id IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX runs_notable ON runs (stage)
    WHERE stage IN ('RUNNING', 'FAILED', 'SCHEDULING_FAILED', 'DEADLINE_EXCEEDED', 'CANCELLED');

CREATE TABLE payloads (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE counters (stage TEXT PRIMARY KEY, runs INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE late_reports (
    seq INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    result_uri TEXT NOT NULL,
    error_cause TEXT NOT NULL,
    error_details TEXT NOT NULL
);
CREATE INDEX late_reports_by_run ON late_reports (run_id);

CREATE TABLE manifests (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    body BLOB NOT NULL,
    source TEXT NOT NULL,
    trusted INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    PRIMARY KEY (kind, name, revision)
);
CREATE TABLE manifest_heads (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE tokens (
    name TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) WITHOUT ROWID;
"""

_ATTEMPTS = """
CREATE TABLE attempts (  -- how each attempt ended; one that is under way has no row yet
    run_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,
    started_at INTEGER,
    ended_at INTEGER NOT NULL,
    code INTEGER,
    signal INTEGER,
    detail TEXT NOT NULL,
    peak_memory_bytes INTEGER,
    cpu_s REAL,
    PRIMARY KEY (run_id, attempt)
) WITHOUT ROWID;
"""

STEPS: tuple[str, ...] = (_FIRST, _ATTEMPTS)


def prepare(connection: sqlite3.Connection, path: Path, now: datetime, steps: Sequence[str] | None = None) -> None:
    """Brings the database at *path* to the version of *steps* (default: STEPS).

    Raises FolderUnusable for a file that is damaged, is no database of Nexus, or belongs to a newer version.
    """
    steps = STEPS if steps is None else steps
    with translated(path):
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        marker = int(connection.execute("PRAGMA application_id").fetchone()[0])
        tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
        if tables and marker != APPLICATION_ID:
            raise FolderUnusable(f"`{path}` is not a database of Nexus", hint="choose another folder with `--data-dir`")
        if version > len(steps):
            raise FolderUnusable(
                f"`{path}` has schema version {version}; this Nexus knows versions up to {len(steps)}",
                hint="start the newer Nexus that wrote it, or put back the backup made by its upgrade",
            )
        if version == len(steps):
            return
        if tables:
            back_up(connection, path, f"{path.name}.v{version}-{now:%Y%m%dT%H%M%SZ}.backup")
        script = "\n".join(steps[version:])
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {len(steps)}; COMMIT;"
        )


def back_up(connection: sqlite3.Connection, path: Path, name: str) -> Path:
    """A complete copy of the database named *name* beside it, on disk when this returns."""
    copy = path.with_name(name)
    copy.touch(mode=0o600)
    target = sqlite3.connect(copy)
    try:
        connection.backup(target)
    finally:
        target.close()
    for part in (copy, copy.parent):
        handle = os.open(part, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    return copy
