"""The driver's errors in the words of the ports: a full disk is NoSpace, everything else Unavailable.

Every call into ``sqlite3`` of this package goes through :func:`translated` or :func:`translate`, so nothing of the driver
reaches a use case.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nexus.kernel.errors import FolderUnusable, NexusError, NoSpace, Unavailable

_LITTLE_BYTES = 1 << 20  # SQLite reports some full disks as an I/O error (growing the shared-memory file): ask the disk itself


def translate(error: sqlite3.Error, path: Path) -> NexusError:
    """The error a caller of a port sees for *error* of the database at *path*."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _nearly_full(path)):
        return NoSpace(
            f"the disk of `{path.parent}` is full; nothing of this request was kept",
            hint="free some space; the service goes on by itself, no restart is needed",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return FolderUnusable(
            f"the database `{path}` is damaged: {error}",
            hint="stop the service and put back a backup, or save what is readable with `sqlite3 FILE .recover`",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(f"another process holds the database `{path}`", hint="close other programs that have it open")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return Unavailable(f"the database `{path}` does not answer: {error} ({name})", hint="`nexus doctor` checks the data folder")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns the driver's errors inside the block into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error


def _nearly_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _LITTLE_BYTES
    except OSError:
        return False
