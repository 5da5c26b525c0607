"""What the engine reads and writes in the folders of attempts. Blocking: called from a thread where it may take long."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from nexus.adapters.process import folders, logs, watch
from nexus.kernel.clock import from_microseconds, to_microseconds
from nexus.runs.model import Exit, ExitKind

Key = tuple[str, int]
_Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # what a store has room for


class ExitRecord(msgspec.Struct):
    """The exit file. Times in microseconds since the epoch, memory in bytes, CPU in seconds."""

    kind: ExitKind
    ended_us: int
    started_us: int | None = None
    code: _Number | None = None
    signal: _Number | None = None
    peak: _Number | None = None
    cpu_s: float | None = None
    detail: str = ""


def read_exit(folder: str) -> Exit | None:
    """How the attempt ended; None while there is no record of it."""
    path = Path(folder, folders.EXIT)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return _exit_of(msgspec.json.decode(content, type=ExitRecord))
    except (msgspec.DecodeError, OverflowError):
        ended_us = path.stat().st_mtime_ns // 1000
        return _exit_of(ExitRecord(kind=ExitKind.LOST, ended_us=ended_us, detail="the record of its end cannot be read"))


def _exit_of(record: ExitRecord) -> Exit:
    return Exit(
        kind=record.kind,
        ended_at=from_microseconds(record.ended_us),
        started_at=None if record.started_us is None else from_microseconds(record.started_us),
        code=record.code,
        signal=record.signal,
        detail=record.detail,
        peak_memory_bytes=record.peak,
        cpu_s=record.cpu_s,
    )


def record_lost(folder: str, marker: str, now: datetime) -> Exit | None:
    """Ends what a dead launcher left running and writes that the attempt was lost, unless its end is written already.

    None when there is no attempt (it was forgotten meanwhile). Raises OSError when the record cannot be written.
    """
    known = read_exit(folder)
    lock = folders.read_record(folder, folders.LOCK)
    if known is not None or lock is None:
        return known
    watch.end_marked(marker)
    for stream in logs.STREAMS:
        logs.finish(folder, stream)
    taken = lock.get("taken_us")
    started_us = taken if isinstance(taken, int) else None
    record = ExitRecord(
        kind=ExitKind.LOST,
        started_us=started_us,
        ended_us=max(to_microseconds(now), started_us or 0),
        detail="its launcher went away without a word: it was killed, or the machine went down",
    )
    folders.write_once(str(Path(folder, folders.EXIT)), msgspec.json.encode(record))
    return read_exit(folder)


def walk(root: Path) -> Iterator[Key]:
    """Every attempt that has a folder."""
    for run_id in names(root):
        yield from ((run_id, int(name)) for name in names(root / run_id) if name.isdigit())


def part(root: Path, keys: Iterable[Key]) -> tuple[list[Key], list[Key]]:
    """Of these attempts, those whose launcher holds its lock, and those that ended (with or without a record)."""
    alive: list[Key] = []
    ended: list[Key] = []
    for key in keys:
        folder = root / key[0] / str(key[1])
        if (folder / folders.LOCK).exists():
            over = (folder / folders.EXIT).exists() or not folders.is_held(str(folder))
            (ended if over else alive).append(key)
    return alive, ended


def open_launcher(folder: str) -> int | None:
    """A descriptor of the launcher that holds the attempt's lock; None when it is gone or the system has no such descriptors.

    Pid and start time are compared after opening: a pid that was given to another process meanwhile is not mistaken for it.
    """
    lock = folders.read_record(folder, folders.LOCK) or {}
    pid = lock.get("pid")
    if not isinstance(pid, int) or not hasattr(os, "pidfd_open") or not folders.is_held(folder):
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    if watch.start_time(pid) == lock.get("start"):
        return fd
    os.close(fd)
    return None


def signal_launcher(folder: str, fd: int | None) -> None:
    """Tells the launcher to end its attempt: by its descriptor, else by its pid if the lock shows that it is still the one."""
    try:
        if fd is not None:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
        elif folders.is_held(folder):
            lock = folders.read_record(folder, folders.LOCK) or {}
            pid = lock.get("pid")
            if isinstance(pid, int) and watch.start_time(pid) == (lock.get("start") or None):
                os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def remove_ended(run: Path, trash: Path) -> list[tuple[Key, datetime | None]]:
    """Removes the folders of a run's attempts that ended, or never began; which they were, and when they ended.

    Each leaves its place in one step, so none is ever half there.
    """
    removed: list[tuple[Key, datetime | None]] = []
    for name in names(run):
        folder = run / name
        if folders.is_held(str(folder)):
            continue
        end = read_exit(str(folder))
        trash.mkdir(exist_ok=True, mode=0o700)
        place = trash / f"{run.name}.{name}.{time.time_ns()}"
        folder.rename(place)
        _remove(place)
        if name.isdigit():
            removed.append(((run.name, int(name)), end.ended_at if end is not None else None))
    with contextlib.suppress(OSError):  # an attempt of it is alive, or it was never there
        run.rmdir()
    return removed


def empty_trash(trash: Path) -> None:
    """Removes what a crash left of folders being removed."""
    for name in names(trash):
        _remove(trash / name)


def _remove(folder: Path) -> None:
    """Removes a tree in which an algorithm may have taken permissions away."""
    for path, names, _ in os.walk(folder):
        for name in names:
            child = Path(path, name)
            with contextlib.suppress(FileNotFoundError):  # another removes it too
                if not child.is_symlink():
                    child.chmod(stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)


def names(folder: Path) -> list[str]:
    """What is in a folder; nothing when it is none."""
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
