"""What the machine says of processes: who descends from whom, what they hold in memory, which are of an attempt.

Reads /proc; where there is none (macOS) it knows nothing and says so by empty answers: memory is then not watched.
Loaded by the launcher: nothing but small modules of the standard library here, and no pathlib.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

LINUX = sys.platform == "linux"
MARKER = "NEXUS_ATTEMPT"  # in the environment of all an attempt starts: finds what outlived a launcher that was killed
_SWEEPS = 50
_SWEEP_PAUSE_S = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_prctl = ctypes.CDLL(None).prctl if LINUX else None


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent dies."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def become_subreaper() -> None:
    """Makes orphaned descendants children of this process, however they detached."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def name_process(name: str) -> None:
    """What `ps -o comm` and `top` show for this process; at most 15 characters."""
    if _prctl is not None:
        _prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks since boot: with the pid, its identity. None when there is no such process."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def descendants(root: int) -> list[int]:
    """Every process below *root*, parents first. May miss one that is being forked: ask again until it is empty."""
    children = _children if _HAS_CHILDREN else _children_by_scan()
    found: list[int] = []
    level = [root]
    while level:
        level = [child for pid in level for child in children(pid)]
        found.extend(level)
    return found


def resident_bytes(pids: list[int]) -> int:
    """Resident memory of processes together. Cheap; pages they share are counted once for each."""
    return sum(int(text.split()[1]) for pid in pids if (text := _read(f"/proc/{pid}/statm"))) * _PAGE


def proportional_bytes(pids: list[int]) -> int:
    """Resident memory of processes together, shared pages counted once. Costs milliseconds for each gigabyte."""
    return sum(_proportional(pid) for pid in pids)


def oom_kills() -> int:
    """How often the kernel has ended a process of this machine for want of memory."""
    for line in _read("/proc/vmstat").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def volunteer_for_oom() -> None:
    """Makes the kernel take this process before the service when memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass


def marked(value: str, marker: str = MARKER) -> list[int]:
    """Processes of this user whose environment carries the marker with *value*."""
    needle = f"{marker}={value}".encode()
    return [pid for pid in _all() if needle in _environment(pid).split(b"\0")]


def end_marked(value: str, marker: str = MARKER) -> None:
    """Kills every process that carries the marker with *value*, and what they start meanwhile. Blocks for a second at most."""
    for _ in range(_SWEEPS):
        pids = marked(value, marker)
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(_SWEEP_PAUSE_S)


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(word) for thread in threads for word in _read(f"/proc/{pid}/task/{thread}/children").split()]


def _children_by_scan() -> Callable[[int], list[int]]:
    """The same from every process's parent, for kernels that do not list children."""
    children: dict[int, list[int]] = {}
    for pid in _all():
        if fields := _stat(pid):
            children.setdefault(int(fields[1]), []).append(pid)
    return lambda pid: children.get(pid, [])


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on; the name before it may hold spaces and brackets."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _proportional(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if LINUX else []


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")
    except OSError:  # the process ended meanwhile
        return ""
    finally:
        os.close(fd)


_HAS_CHILDREN = os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
