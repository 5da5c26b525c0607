"""The checks of ``nexus doctor``. Each looks at one thing and says what it saw; none changes anything that stays."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nexus.kernel.units import format_bytes

if TYPE_CHECKING:
    from nexus.cli.connection import Service

Status = Literal["ok", "note", "warning", "missing"]

OLDEST, NEWEST_TESTED = (3, 11), (3, 13)
OLDEST_SQLITE = (3, 35, 0)  # RETURNING
_LITTLE_ROOM, _NO_ROOM = 5 * 2**30, 100 * 2**20
_PR_GET_CHILD_SUBREAPER = 37
_LONGEST_SKEW_S = 5.0
_FEW_FILES = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What one look found. ``missing`` is what the service cannot work without."""

    check: str
    status: Status
    detail: str
    what_to_do: str = ""

    def row(self) -> dict[str, Any]:
        return {"check": self.check, "status": self.status, "detail": self.detail, "what_to_do": self.what_to_do}


def examine(folder: Path, host: str, port: int, service: Service) -> list[Check]:
    """Every check, in the order of what depends on what."""
    existing = _nearest(folder)
    found = [python(sys.version_info[:3]), system(), uv(), data_folder(folder, existing)]
    if os.access(existing, os.W_OK):
        found.append(sqlite(existing))
    found += [file_system(existing), room(shutil.disk_usage(existing).free)]
    reached, skew_s = reach(service)
    found += [listening(host, port, reached.status == "ok"), reached, clock(datetime.now(UTC), skew_s)]
    found += [processes(), files(), cores(), memory()]
    return found


def python(version: tuple[int, ...]) -> Check:
    text = ".".join(map(str, version))
    if version[:2] < OLDEST:
        return Check(check="python", status="missing", detail=text, what_to_do="install Python 3.11 or newer")
    if version[:2] > NEWEST_TESTED:
        return Check(check="python", status="warning", detail=f"{text}, newer than tested", what_to_do="3.11 to 3.13 are tested")
    return Check(check="python", status="ok", detail=text)


def system() -> Check:
    name = platform.system()
    detail = f"{name} {platform.release()}, {platform.machine()}"
    if name == "Linux":
        return Check(check="system", status="ok", detail=detail)
    if name == "Darwin":
        off = "best effort: no sub-reaper, no pidfd, memory is watched only"
        return Check(check="system", status="warning", detail=f"{detail}; {off}", what_to_do="use Linux for real work")
    return Check(check="system", status="missing", detail=detail, what_to_do="Linux is supported; on Windows use WSL 2")


def uv() -> Check:
    from nexus.adapters.uvprogram import find_packaged

    path = find_packaged() or shutil.which("uv")
    if path:
        return Check(check="uv", status="ok", detail=path)
    detail = "not found; local environments of algorithms cannot be built"
    return Check(check="uv", status="missing", detail=detail, what_to_do=f"{sys.executable} -m pip install uv")


def data_folder(folder: Path, existing: Path) -> Check:
    if not folder.exists() and os.access(existing, os.W_OK):
        return Check(check="data folder", status="ok", detail=f"{folder} (made at the first start)")
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        what = f"make `{existing}` writable for this user, or give --data-dir another folder"
        return Check(check="data folder", status="missing", detail=f"{folder} cannot be written", what_to_do=what)
    if existing.stat().st_mode & 0o077:
        return Check(check="data folder", status="note", detail=f"{folder} can be read by others", what_to_do=f"chmod 700 {folder}")
    return Check(check="data folder", status="ok", detail=str(folder))


def sqlite(folder: Path) -> Check:
    """The version, and whether write-ahead logging works on this folder's disk."""
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        what = "use a Python that is built with SQLite 3.35 or newer"
        return Check(check="sqlite", status="missing", detail=version, what_to_do=what)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".nexus-doctor-") as scratch:
            connection = sqlite3.connect(Path(scratch) / "probe.db")
            try:
                mode = connection.execute("pragma journal_mode=wal").fetchone()[0]
                connection.execute("create table probe (x)")
                connection.commit()
            finally:
                connection.close()
    except (sqlite3.Error, OSError) as error:
        mode = str(error)
    if mode != "wal":
        return Check(check="sqlite", status="missing", detail=f"{version}; WAL fails on this disk: {mode}",
                     what_to_do="put the data folder on a local disk")  # fmt: skip
    return Check(check="sqlite", status="ok", detail=f"{version}, WAL works")


def file_system(folder: Path, mounts: str | None = None) -> Check:
    """What kind of disk holds *folder*; *mounts* is text in the form of ``/proc/mounts``."""
    from nexus.adapters.folder import file_system_type, network_file_system

    kind = file_system_type(folder, mounts) or "unknown"
    if network_file_system(folder, mounts):
        return Check(check="file system", status="missing", detail=f"{kind}: a network disk does not keep SQLite's promises",
                     what_to_do="put the data folder on a local disk")  # fmt: skip
    if kind in ("tmpfs", "ramfs"):
        return Check(check="file system", status="warning", detail=f"{kind}: memory, gone after a restart of the machine",
                     what_to_do="put the data folder on a disk")  # fmt: skip
    return Check(check="file system", status="ok", detail=kind)


def room(free_bytes: int) -> Check:
    detail = f"{format_bytes(free_bytes)} free"
    if free_bytes < _NO_ROOM:
        return Check(check="free space", status="missing", detail=detail, what_to_do="make room: runs are refused on a full disk")
    status: Status = "warning" if free_bytes < _LITTLE_ROOM else "ok"
    return Check(check="free space", status=status, detail=detail, what_to_do="make room soon" if status == "warning" else "")


def listening(host: str, port: int, ours: bool) -> Check:
    """Whether the service could listen there; *ours* when it already does."""
    place = f"{host}:{port}"
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if ours:
            return Check(check="port", status="ok", detail=f"{place} is taken by the service that answers")
        return Check(check="port", status="warning", detail=f"{place}: {error.strerror}", what_to_do="nexus serve --port 0")
    return Check(check="port", status="ok", detail=f"{place} is free")


def reach(service: Service) -> tuple[Check, float | None]:
    """Whether a service answers, and how far its clock is from ours in seconds."""
    from nexus.kernel.errors import NexusError

    try:
        with service.connect(0.0) as nexus:
            skew_s = nexus.clock_skew_s()
            return Check(check="service", status="ok", detail=f"ready at {nexus.server}"), skew_s
    except NexusError as error:
        return Check(check="service", status="note", detail=error.message, what_to_do=error.hint), None


def clock(now: datetime, skew_s: float | None) -> Check:
    if now.year < 2024:
        return Check(check="clock", status="missing", detail=f"{now:%Y-%m-%d}: the past", what_to_do="set the clock; use NTP")
    if skew_s is not None and abs(skew_s) > _LONGEST_SKEW_S:
        detail = f"{abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead of'} the service: signed URLs may not hold"
        return Check(check="clock", status="warning", detail=detail, what_to_do="use NTP on both machines")
    return Check(
        check="clock", status="ok", detail=f"{now:%Y-%m-%d %H:%M:%S}Z, a tick of {time.get_clock_info('monotonic').resolution:g} s"
    )


def processes() -> Check:
    """What the process engine needs of the kernel: pidfd and the sub-reaper."""
    lacking = []
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        lacking.append("pidfd (Linux 5.3)")
    value = ctypes.c_int()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl") or libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(value), 0, 0, 0) != 0:
        lacking.append("sub-reaper (Linux 3.4)")
    if lacking:
        return Check(check="processes", status="warning", detail=f"no {', no '.join(lacking)}",
                     what_to_do="what algorithms fork may outlive them; use a newer kernel")  # fmt: skip
    return Check(check="processes", status="ok", detail="pidfd and sub-reaper work")


def files() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _FEW_FILES:
        return Check(check="open files", status="warning", detail=f"at most {soft}", what_to_do=f"ulimit -n {min(hard, 65536)}")
    return Check(check="open files", status="ok", detail="unlimited" if soft < 0 else f"at most {soft}")


def cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _cgroup_cores()
    detail = f"{usable}" + (f", limited to {share:g} by the container" if share is not None and share < usable else "")
    return Check(check="cores", status="ok", detail=detail)


def memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _cgroup_memory()
    usable = min(total, limit) if limit is not None else total
    detail = format_bytes(usable) + (f" (container; the machine has {format_bytes(total)})" if usable < total else "")
    if usable < 2**30:
        return Check(check="memory", status="warning", detail=detail, what_to_do="below 1 GiB: set --max-runs")
    return Check(check="memory", status="ok", detail=detail)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    path = folder.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.resolve()


def _cgroup_cores() -> float | None:
    """The CPU share of the container; None without a limit. Version 2, then version 1."""
    text = _first_line("/sys/fs/cgroup/cpu.max")
    if text is None:
        quota, period = _first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), _first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
        text = f"{quota} {period}" if quota and period and int(quota) > 0 else "max 1"
    quota_us, period_us = text.split(" ")
    return None if quota_us == "max" else int(quota_us) / int(period_us)


def _cgroup_memory() -> int | None:
    text = _first_line("/sys/fs/cgroup/memory.max") or _first_line("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    return int(text) if text is not None and text.isdigit() else None


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().splitlines()[0].strip()
    except (OSError, IndexError):
        return None
