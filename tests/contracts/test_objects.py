"""Objects: files and the in-memory twin keep the promises O1 to O6."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from nexus.adapters.files import FileObjects
from nexus.kernel.errors import Conflict, NoSpace, NotFound, Unavailable
from nexus.testing.memory import MemoryObjects
from nexus.testing.suites.objects import MEBIBYTE, ObjectsSubject, ObjectsSuite, get, put
from tests.contracts.durable import Ballast, kill_after, position, small_disk, start_child, trace


def file_subject(folder: Path) -> ObjectsSubject:
    """Files in *folder*; the disk they are on is filled by a large file beside them."""
    root = folder / "objects"
    ballast = Ballast(folder, leave=MEBIBYTE // 2)

    async def reopen() -> FileObjects:
        return FileObjects(root)

    return ObjectsSubject(FileObjects(root), reopen, lambda: len(os.listdir(root / ".spool")), ballast.fill, ballast.make_room)


class TestMemory(ObjectsSuite):
    @pytest.fixture
    async def subject(self) -> ObjectsSubject:
        objects = MemoryObjects()

        async def reopen() -> MemoryObjects:
            return objects

        async def fill() -> None:
            objects.room_bytes = MEBIBYTE // 2

        async def make_room() -> None:
            objects.room_bytes = None

        return ObjectsSubject(objects, reopen, lambda: 0, fill, make_room)


class TestFiles(ObjectsSuite):
    """Files on this machine's disk; and what only files can show."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> ObjectsSubject:
        return file_subject(tmp_path)

    async def test_o5_a_full_disk_refuses_and_recovers(self, subject: ObjectsSubject, tmp_path: Path) -> None:
        """On a real disk of 16 MiB that is full a write raises NoSpace and leaves nothing; with room it works again."""
        with small_disk(tmp_path / "disk", "16m") as disk:
            await super().test_o5_a_full_disk_refuses_and_recovers(file_subject(disk))

    @pytest.mark.parametrize("call", ["write", "fsync", "link"])
    async def test_o5_a_disk_that_fills_at_any_step(
        self, subject: ObjectsSubject, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        """Whichever call finds the disk full, the caller gets NoSpace and nothing of the object is left."""

        def full(*arguments: object, **options: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, call, full)
        with pytest.raises(NoSpace):
            await put(subject.objects, "a/b", b"x" * 2 * MEBIBYTE)
        monkeypatch.undo()
        assert await subject.objects.size("a/b") is None
        assert subject.leftovers() == 0

    async def test_o6_no_symbolic_link_is_followed(self, tmp_path: Path) -> None:
        """What an algorithm links into its result folder from elsewhere is not read, measured or written through."""
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        objects = FileObjects(tmp_path / "objects")
        await put(objects, "results/1/own", b"own")
        (tmp_path / "objects/results/1/file").symlink_to(outside / "secret")
        (tmp_path / "objects/results/1/folder").symlink_to(outside)
        for key in ("results/1/file", "results/1/folder/secret", "results/1/folder"):
            assert await objects.size(key) is None
            with pytest.raises(NotFound):
                await get(objects, key)
        with pytest.raises((Unavailable, Conflict)):
            await put(objects, "results/1/folder/new", b"x")
        assert [path.name for path in outside.iterdir()] == ["secret"]

    async def test_a_pipe_is_no_object(self, tmp_path: Path) -> None:
        """A pipe in a result folder is refused at once; nobody waits for its writer."""
        objects = FileObjects(tmp_path)
        await put(objects, "results/1/own", b"own")
        os.mkfifo(tmp_path / "results/1/pipe")
        assert await objects.size("results/1/pipe") is None
        with pytest.raises(NotFound):
            await asyncio.wait_for(get(objects, "results/1/pipe"), 60)

    async def test_an_interrupted_commit_leaves_nothing(self, tmp_path: Path) -> None:
        """A caller that goes away during its commit leaves no object and no spool behind."""
        objects = FileObjects(tmp_path)
        for turns in range(6):
            task = asyncio.create_task(put(objects, f"payloads/{turns}", b"x" * MEBIBYTE * 2))
            for _ in range(turns * 2):
                await asyncio.sleep(0)
            task.cancel()
            results = await asyncio.gather(task, return_exceptions=True)
            done = not isinstance(results[0], BaseException)
            assert (await objects.size(f"payloads/{turns}") is not None) == done
        assert os.listdir(tmp_path / ".spool") == []

    async def test_others_cannot_read_objects(self, tmp_path: Path) -> None:
        """Objects and their folders are their owner's alone."""
        await put(FileObjects(tmp_path / "objects"), "payloads/1", b"x")
        assert (tmp_path / "objects/payloads/1").stat().st_mode & 0o077 == 0
        assert (tmp_path / "objects/payloads").stat().st_mode & 0o077 == 0

    async def test_a_large_object_needs_little_memory(self, tmp_path: Path) -> None:
        """Writing and reading 100 MB raises anonymous memory by less than 16 MiB."""
        objects = FileObjects(tmp_path)
        chunk = b"x" * 65_536
        await put(objects, "warm", chunk)
        idle = anonymous_bytes()
        highest = 0
        async with objects.spool() as spool:
            for index in range(1526):
                await spool.write(chunk)
                if index % 50 == 0:
                    highest = max(highest, anonymous_bytes())
            view = spool.view()
            assert view[50_000_000:50_000_003] == b"xxx"
            view.release()
            await spool.commit("payloads/1")
        async for piece in objects.read("payloads/1"):
            assert piece
            highest = max(highest, anonymous_bytes())
        assert highest - idle < 16 * MEBIBYTE


def anonymous_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Anonymous line")


def test_o1_file_and_names_are_synced_before_the_answer(tmp_path: Path) -> None:
    """A trace shows: the file is synced, then linked, then its folder and the folder's own name are synced, then the answer."""
    calls = trace("object-one", tmp_path / "objects")
    answer = position(calls, ("write",), '"ACK ')
    link = position(calls, ("link", "linkat"), "payloads", last_before=answer)
    file = position(calls, ("fsync", "fdatasync"), "/.spool/", "= 0", last_before=answer)
    folder = position(calls, ("fsync",), "objects/payloads>", "= 0", last_before=answer)
    parent = position(calls, ("fsync",), "/objects>", "= 0", last_before=answer)
    assert file < link < folder < answer
    assert link < parent < answer


@pytest.mark.faults
async def test_o1_a_killed_process_loses_no_object_it_acknowledged(tmp_path: Path) -> None:
    """After SIGKILL every acknowledged object is whole, and nothing half written is left."""
    acknowledged = kill_after(start_child("objects", tmp_path / "objects"), 30)
    objects = FileObjects(tmp_path / "objects")
    for key in acknowledged:
        assert await get(objects, key) == key.encode() * 10_000
    assert os.listdir(tmp_path / "objects/.spool") == []
