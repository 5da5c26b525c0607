"""The data folder: everything one service keeps. Held by one process at a time; its keys are made here, once.

Opened first and released last by the service (``nexus.app.roles``) and by commands that work without one. What the
sub-folders hold is the business of the adapters they belong to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import sqlite3
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from nexus.adapters import durable
from nexus.kernel.clock import Clock, SteadyClock, from_microseconds, since_boot_s, to_microseconds
from nexus.kernel.errors import FolderInUse, FolderUnusable, NexusError, NoSpace

DATABASE = "nexus.db"
OBJECTS = "objects"
SUB_FOLDERS = (OBJECTS, "engine", "environments")
_LOCK = "nexus.lock"
_KEYS = "signing.key"
_CLOCK = "clock"
_KEY_BYTES = 32
_KEY_LINE = re.compile(rf"([0-9a-f]{{8}}) ([0-9a-f]{{{2 * _KEY_BYTES}}})\n?")
_CLOCK_LINE = re.compile(r"([0-9a-f-]{36}) ([0-9]{1,17})\n")
_NETWORK = (  # beginnings of types: nfs is also nfs4
    "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "smb",
    "fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """The secret that signs URLs and run tokens, and a name by which it can be spoken of."""

    id: str
    signing: bytes = field(repr=False)


class DataFolder:
    """The folder at *path*, used as a context: made when it is not there, and held until the context ends.

    Entering raises FolderInUse while another process holds it, FolderUnusable when it cannot be written, NoSpace.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser().absolute()
        self._lock: int | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._hold()
            for name in SUB_FOLDERS:
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
            durable.sync_folder(self.path)
            durable.sync_folder(self.path.parent)
        except OSError as error:
            self.release()
            raise self._unusable(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        """Lets go of the folder. May be called twice."""
        if self._lock is not None:
            os.close(self._lock)  # closing releases the lock; the file stays, since removing it could free another's
            self._lock = None

    def free_bytes(self) -> int:
        """Room for this user on the folder's disk, in bytes."""
        return shutil.disk_usage(self.path).free

    def keys(self) -> Keys:
        """The keys of this folder, made and on disk at the first call. Raises FolderUnusable when they are not safe to use."""
        path = self.path / _KEYS
        try:
            if not path.exists():
                _write_once(path, f"{secrets.token_hex(4)} {secrets.token_hex(_KEY_BYTES)}\n".encode())
            if path.stat().st_mode & 0o077:
                raise FolderUnusable(
                    f"the key file `{path}` can be read by others", hint=f"`chmod 600 {path}`, or remove it for a new key"
                )
            match = _KEY_LINE.fullmatch(path.read_text("ascii", "replace"))
        except OSError as error:
            raise self._unusable(error) from error
        if match is None:
            raise FolderUnusable(
                f"the key file `{path}` is damaged", hint="remove it for a new key; URLs and run tokens of the old one end with it"
            )
        return Keys(id=match[1], signing=bytes.fromhex(match[2]))

    def clock(self, wall: Clock) -> SteadyClock:
        """The clock by which this folder's promises last: set from *wall* by the first service since the machine started, and
        the same for those that follow, however the machine's clock is set meanwhile.
        """
        path, boot = self.path / _CLOCK, _boot_id()
        try:
            match = _CLOCK_LINE.fullmatch(path.read_text("ascii", "replace"))
        except OSError:
            match = None
        if match is not None and match[1] == boot:
            return SteadyClock(from_microseconds(int(match[2])))
        origin = wall.now() - timedelta(seconds=since_boot_s())
        if boot:
            with contextlib.suppress(OSError):  # a full disk: the next start sets it anew
                durable.write(path, f"{boot} {to_microseconds(origin)}\n".encode(), mode=0o600)
        return SteadyClock(origin)

    def back_up(self, target: Path) -> None:
        """Copies database, objects and keys of the held folder into the new folder *target*; complete when this returns.

        The database first: each object it names was there before. Raises FolderUnusable when *target* exists.
        """
        try:
            target.mkdir(mode=0o700, parents=True)
            database = self.path / DATABASE
            if database.exists():
                _copy_database(database, target / DATABASE)
            shutil.copytree(self.path / OBJECTS, target / OBJECTS, ignore=shutil.ignore_patterns(".spool"), symlinks=True)
            if (self.path / _KEYS).exists():
                _write_once(target / _KEYS, (self.path / _KEYS).read_bytes())
            os.sync()
        except FileExistsError:
            raise FolderUnusable(f"`{target}` exists already", hint="name a folder that does not exist") from None
        except (OSError, shutil.Error) as error:
            raise self._unusable(error) from error
        except sqlite3.Error as error:
            raise FolderUnusable(
                f"`{self.path / DATABASE}` cannot be copied: {error}", hint="`nexus doctor` checks the folder"
            ) from error

    def _hold(self) -> int:
        path = self.path / _LOCK
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise FolderInUse(
                f"the data folder `{self.path}` is in use by process `{holder}`",
                hint="stop that service, talk to it with `--server`, or use another folder with `--data-dir`",
            ) from None
        except BaseException:
            os.close(handle)
            raise
        self._lock = handle
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return handle

    def _unusable(self, error: Exception) -> NexusError:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            return NoSpace(f"the disk of `{self.path}` is full", hint="free some space and start again")
        reason = os.strerror(number) if number else str(error)
        return FolderUnusable(
            f"the data folder `{self.path}` cannot be used: {reason}",
            hint="choose a folder you may write with `--data-dir` (or `NEXUS__DATA_DIR`)",
        )


def default_data_folder() -> Path:
    """Where this platform wants a user's data."""
    from platformdirs import user_data_path

    return user_data_path("nexus", appauthor=False)


def network_file_system(path: Path, mounts: str | None = None) -> str | None:
    """The type of the network file system *path* lies on; None when its disk is local, or nobody says.

    On such disks the write-ahead log of SQLite does not work: it needs memory shared between processes.
    """
    kind = file_system_type(path, mounts)
    return kind if kind.startswith(_NETWORK) else None


def file_system_type(path: Path, mounts: str | None = None) -> str:
    """The type of the file system *path* lies on; empty when nobody says. *mounts* is text in the form of ``/proc/mounts``."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text("utf-8", "replace")
        except OSError:
            return ""
    path = path.absolute()
    found, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1]))
        if path.is_relative_to(point) and len(point.parts) >= found:  # a later mount covers an earlier one
            found, kind = len(point.parts), fields[2]
    return kind


def _write_once(path: Path, data: bytes) -> None:
    """Writes a file only its owner reads, whole or not at all, on disk when this returns. Raises FileExistsError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, data)
        os.fsync(handle)
        os.link(temporary, path)
    finally:
        os.close(handle)
        temporary.unlink()
    durable.sync_folder(path.parent)


def _boot_id() -> str:
    """What names this start of the machine; empty when the system has no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _copy_database(source: Path, target: Path) -> None:
    target.touch(mode=0o600)
    original = sqlite3.connect(source)
    try:
        original.execute("PRAGMA query_only = ON")
        copy = sqlite3.connect(target)
        try:
            original.backup(copy)
        finally:
            copy.close()
    finally:
        original.close()
