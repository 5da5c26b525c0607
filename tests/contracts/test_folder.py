"""The data folder: one holder, safe keys, clear refusals."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nexus.adapters.files import FileObjects
from nexus.adapters.folder import DataFolder, default_data_folder, network_file_system
from nexus.adapters.sql import SqliteStore
from nexus.kernel.clock import SystemClock
from nexus.kernel.errors import FolderInUse, FolderUnusable, NoSpace
from nexus.runs.ports import TreeLimits
from nexus.testing.builders import build_run
from nexus.testing.suites.objects import get, put
from tests.contracts.durable import Ballast, small_disk

HOLD = """
import sys, time
from nexus.adapters.folder import DataFolder
with DataFolder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
ENTER_AS_NOBODY = """
import os, sys
from nexus.adapters.folder import DataFolder
from nexus.kernel.errors import NexusError
os.setuid(65534)
try:
    with DataFolder(sys.argv[1]):
        print("entered")
except NexusError as error:
    print(error.text())
"""


def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """The folder is made with its parents and sub-folders, and nobody else may look into it."""
    with DataFolder(tmp_path / "a/b") as folder:
        for path in (folder.path, folder.path / "objects", folder.path / "engine", folder.path / "environments"):
            assert path.stat().st_mode & 0o777 == 0o700
        assert folder.free_bytes() > 0


def test_a_second_service_is_refused(tmp_path: Path) -> None:
    """While a process holds the folder another one is told so, with the holder's pid; after its end the folder is free."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(FolderInUse, match=f"`{child.pid}`"):
        DataFolder(tmp_path).__enter__()
    child.kill()
    child.communicate()
    with DataFolder(tmp_path):
        pass


def test_a_refused_folder_may_be_entered_later(tmp_path: Path) -> None:
    """The refusal of a second holder leaves nothing behind that would keep out the next."""
    with DataFolder(tmp_path), pytest.raises(FolderInUse):
        DataFolder(tmp_path).__enter__()
    with DataFolder(tmp_path):
        pass


class Wall:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.mark.parametrize("jump", [timedelta(days=-1), timedelta(days=1)])
def test_promises_last_by_one_clock_over_all_starts(tmp_path: Path, jump: timedelta) -> None:
    """The clock of a folder goes on where it was although the wall clock was set, and nobody else may write its file."""
    wall = Wall()
    folder = DataFolder(tmp_path)
    first = folder.clock(wall)
    assert abs(first.now() - wall.now()) < timedelta(minutes=1)
    wall.ahead = jump
    second = DataFolder(tmp_path).clock(wall)
    assert abs(second.now() - first.now()) < timedelta(minutes=1)
    assert (tmp_path / "clock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kept", [b"", b"\xff\x00", b"00000000-0000-0000-0000-000000000000 1\n", b"x 1\n", b"1" * 5000])
def test_a_clock_of_another_start_of_the_machine_or_a_damaged_one_is_set_anew(tmp_path: Path, kept: bytes) -> None:
    """What was kept before the machine started again, or is unreadable, counts no more: the wall clock does."""
    (tmp_path / "clock").write_bytes(kept)
    wall = Wall()
    wall.ahead = timedelta(days=3)
    assert abs(DataFolder(tmp_path).clock(wall).now() - wall.now()) < timedelta(minutes=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_folder_that_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    """A folder of somebody else gives a message with the path, the reason and the next action, not a traceback."""
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(path.stat().st_mode | 0o055)
    told = subprocess.run([sys.executable, "-c", ENTER_AS_NOBODY, str(tmp_path)], capture_output=True, text=True, check=True)
    assert told.stdout.startswith(f"error[NX302]: the data folder `{tmp_path}` cannot be used: Permission denied\nhint: ")


def test_a_read_only_disk_is_refused_in_words(tmp_path: Path) -> None:
    """A folder on a disk mounted read-only is refused with that reason."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(FolderUnusable, match="Read-only file system"):
            DataFolder(disk / "data").__enter__()


async def test_a_full_disk_is_refused_in_words(tmp_path: Path) -> None:
    """Starting on a full disk raises NoSpace, and works when there is room."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        ballast = Ballast(disk)
        await ballast.fill()
        with pytest.raises(NoSpace), DataFolder(disk / "data") as folder:
            folder.keys()
        await ballast.make_room()
        with DataFolder(disk / "data") as folder:
            assert len(folder.keys().signing) == 32


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """A path that is a file is refused with a hint."""
    (tmp_path / "file").touch()
    with pytest.raises(FolderUnusable) as caught:
        DataFolder(tmp_path / "file").__enter__()
    assert "--data-dir" in caught.value.hint


def test_keys_are_made_once(tmp_path: Path) -> None:
    """The signing key is 32 bytes, 0600, the same at each start, different for each folder, and not shown by repr."""
    with DataFolder(tmp_path / "a") as folder:
        first = folder.keys()
    with DataFolder(tmp_path / "a") as folder, DataFolder(tmp_path / "b") as other:
        assert folder.keys() == first
        assert other.keys() != first
    assert len(first.signing) == 32
    assert (tmp_path / "a/signing.key").stat().st_mode & 0o777 == 0o600
    assert first.signing.hex() not in repr(first)
    assert repr(first.signing) not in repr(first)


def test_unsafe_keys_are_refused(tmp_path: Path) -> None:
    """A key file others can read, or that is damaged, is refused with what to do."""
    with DataFolder(tmp_path) as folder:
        folder.keys()
        path = tmp_path / "signing.key"
        path.chmod(0o644)
        with pytest.raises(FolderUnusable, match="read by others"):
            folder.keys()
        path.chmod(0o600)
        path.write_text("nonsense")
        with pytest.raises(FolderUnusable, match="damaged"):
            folder.keys()


async def test_a_backup_is_a_working_folder(tmp_path: Path) -> None:
    """A copy made by back_up() holds the runs, objects and keys, and can be served from."""
    with DataFolder(tmp_path / "data") as folder:
        store = await SqliteStore.open(folder.path / "nexus.db", clock=SystemClock())
        run = (await store.accept(build_run(), b"{}", TreeLimits())).run
        await put(FileObjects(folder.path / "objects"), "payloads/1", b"x")
        keys = folder.keys()
        await asyncio.to_thread(folder.back_up, tmp_path / "copy")  # also while the store is open
        await store.close()
        with pytest.raises(FolderUnusable, match="exists already"):
            folder.back_up(tmp_path / "copy")
    with DataFolder(tmp_path / "copy") as folder:
        store = await SqliteStore.open(folder.path / "nexus.db", clock=SystemClock())
        assert await store.get("demand", run.id) == run
        await store.close()
        assert await get(FileObjects(folder.path / "objects"), "payloads/1") == b"x"
        assert folder.keys() == keys


def test_network_disks_are_known() -> None:
    """The deepest, and of equals the last, mount of a path says whether its disk is a network's."""
    mounts = "\n".join([
        "/dev/vda / ext4 rw 0 0",
        "server:/home /home nfs4 rw 0 0",
        "/dev/vdb /home/local ext4 rw 0 0",
        "//server/share /mnt/my\\040share cifs rw 0 0",
        "damaged line",
    ])  # fmt: skip
    assert network_file_system(Path("/home/me/nexus"), mounts) == "nfs4"
    assert network_file_system(Path("/home/local/nexus"), mounts) is None
    assert network_file_system(Path("/mnt/my share/x"), mounts) == "cifs"
    assert network_file_system(Path("/homestead"), mounts) is None


def test_the_default_folder_is_the_platforms() -> None:
    """Without a word the data goes where the platform keeps a user's data."""
    assert default_data_folder().name == "nexus"
    assert default_data_folder().is_absolute()
