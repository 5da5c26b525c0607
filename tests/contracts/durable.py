"""What the durability tests share: subjects on a disk, a disk of their own that can be full, and traces of system calls."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus.adapters.sql import SqliteStore
from nexus.kernel.clock import SystemClock

ROOT = Path(__file__).parents[2]
_CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(.*)$")


class Reopening:
    """A SqliteStore and its successors on the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store: Any = None

    async def reopen(self) -> Any:
        if self.store is not None:
            await self.store.close()
        self.store = await SqliteStore.open(self.path, clock=SystemClock())
        return self.store

    async def limit_pages(self, more: int) -> None:
        """Lets the database grow by *more* pages only: SQLite then reports a full disk itself."""

        def limit(transaction: Any) -> None:
            (pages,) = transaction.connection.execute("PRAGMA page_count").fetchone()
            transaction.connection.execute(f"PRAGMA max_page_count = {pages + more}")

        await self.store._writer.submit(limit)


@contextlib.asynccontextmanager
async def sqlite_file(folder: Path) -> AsyncIterator[Reopening]:
    """An open store on a new file in *folder*, closed at the end."""
    files = Reopening(folder / "nexus.db")
    await files.reopen()
    try:
        yield files
    finally:
        await files.store.close()


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of *size* (as mount knows it) mounted at *folder*; skips where this user may not mount."""
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"a real full disk needs the right to mount a tmpfs: {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Ballast:
    """A file that takes all the room of a disk."""

    def __init__(self, folder: Path, leave: int = 0) -> None:
        self.path = folder / "ballast"
        self.leave = leave

    async def fill(self) -> None:
        with self.path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        if self.leave:
            os.truncate(self.path, self.path.stat().st_size - self.leave)

    async def make_room(self) -> None:
        self.path.unlink()


def start_child(mode: str, path: Path, *, tracer: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """``durable_child`` in a process of its own."""
    command = [*tracer, sys.executable, "-m", "tests.contracts.durable_child", mode, str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def kill_after(child: subprocess.Popen[bytes], answers: int) -> list[str]:
    """The ids the child acknowledged until it was killed, a little after the first *answers* of them."""
    assert child.stdout is not None
    acknowledged = [child.stdout.readline() for _ in range(answers)]
    child.send_signal(signal.SIGKILL)
    acknowledged += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return [line.split()[1].decode() for line in acknowledged if line.startswith(b"ACK ") and line.endswith(b"\n")]


def trace(mode: str, path: Path) -> list[tuple[str, str]]:
    """The system calls of the child in the order in which they ended, as (name, the rest of strace's line)."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("showing that the sync came before the answer needs strace")
    out = path.parent / "trace.txt"
    tracer = (
        strace,
        "-f",
        "-y",
        "-s",
        "4200",  # whole pages
        "-e",
        "trace=write,pwrite64,fsync,fdatasync,link,linkat,rename,mkdir,mkdirat",
        "-o",
        str(out),
    )
    child = start_child(mode, path, tracer=tracer)
    child.communicate()
    if child.returncode:
        pytest.skip("strace may not trace here (ptrace is refused)")
    return ended_calls(out.read_text(errors="replace"))


def ended_calls(text: str) -> list[tuple[str, str]]:
    """Calls of several threads interleave as ``<unfinished ...>`` and ``<... resumed>``: both halves go to the end."""
    begun: dict[str, str] = {}
    calls = []
    for line in text.splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        thread, name, rest = match.groups()
        if rest.endswith("<unfinished ...>"):
            begun[thread] = rest.removesuffix("<unfinished ...>")
        elif rest.startswith(" resumed>"):
            calls.append((name, begun.pop(thread, "") + rest.removeprefix(" resumed>")))
        else:
            calls.append((name, rest))
    return calls


def position(calls: list[tuple[str, str]], names: tuple[str, ...], *parts: str, last_before: int | None = None) -> int:
    """Where the first (or the last before a place) of the successful calls *names* with all *parts* in its line is."""
    found = [
        index
        for index, (name, rest) in enumerate(calls[:last_before])
        if name in names and all(part in rest for part in parts) and not re.search(r"= -1 ", rest)
    ]
    assert found, f"no {names} with {parts} among {len(calls)} calls"
    return found[0] if last_before is None else found[-1]
