"""What every Objects store promises (O1 to O6 of ``nexus.runs.ports``)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.kernel.errors import Conflict, InvalidInput, NoSpace, NotFound
from nexus.runs.ports import Objects
from nexus.testing.builders import make_id

MEBIBYTE = 1 << 20
STILL = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors, HealthCheck.too_slow]  # both are meant
BAD_KEYS = (
    "", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", ".", "./a", "a/./b", "a//b", "a/", "a\x00b", "a\nb", "a\\b", "a/\x7f",
    ".spool/x", "a/.spool/x", "x" * 300, "a/" * 600 + "a",
)  # fmt: skip


@dataclass
class ObjectsSubject:
    """The objects under test. ``reopen`` gives what a new process finds after this one was killed; ``leftovers`` how many
    unfinished objects lie about; ``fill`` leaves room for less than a mebibyte, ``make_room`` gives it back."""

    objects: Any
    reopen: Callable[[], Awaitable[Any]]
    leftovers: Callable[[], int]
    fill: Callable[[], Awaitable[None]]
    make_room: Callable[[], Awaitable[None]]


async def put(objects: Objects, key: str, *chunks: bytes) -> int:
    async with objects.spool() as spool:
        for chunk in chunks:
            await spool.write(chunk)
        return await spool.commit(key)


async def get(objects: Objects, key: str, **range_: Any) -> bytes:
    return b"".join([piece async for piece in objects.read(key, **range_)])


class ObjectsSuite:
    """Needs a fixture ``subject`` of ObjectsSubject with no objects."""

    async def test_o1_committed_objects_are_there_for_the_next_process(self, subject: ObjectsSubject) -> None:
        """What commit() returned is found, whole, by a process that opens the objects afterwards."""
        size = await put(subject.objects, "results/demand/1/out.bin", b"ab" * MEBIBYTE, b"", b"c")
        objects = await subject.reopen()
        assert size == 2 * MEBIBYTE + 1
        assert await get(objects, "results/demand/1/out.bin") == b"ab" * MEBIBYTE + b"c"

    async def test_o1_nobody_sees_an_object_before_its_commit(self, subject: ObjectsSubject) -> None:
        """Until commit() the key is unknown to readers; its writer sees what was written."""
        async with subject.objects.spool() as spool:
            await spool.write(b"part")
            await spool.write(b"y" * 2 * MEBIBYTE)
            view = spool.view()
            assert bytes(view[:5]) == b"party"
            assert len(view) == 4 + 2 * MEBIBYTE
            view.release()
            assert await subject.objects.size("payloads/1") is None
            await spool.commit("payloads/1")
        assert await subject.objects.size("payloads/1") == 4 + 2 * MEBIBYTE

    async def test_o1_an_empty_object_is_an_object(self, subject: ObjectsSubject) -> None:
        """Nothing written and committed is an object of size 0."""
        async with subject.objects.spool() as spool:
            assert len(spool.view()) == 0
            assert await spool.commit("empty") == 0
        assert await subject.objects.size("empty") == 0
        assert await get(subject.objects, "empty") == b""

    async def test_o2_a_key_is_written_once(self, subject: ObjectsSubject) -> None:
        """A second commit of a key raises Conflict and leaves the first object."""
        await put(subject.objects, "payloads/1", b"first")
        with pytest.raises(Conflict, match="payloads/1"):
            await put(subject.objects, "payloads/1", b"second")
        assert await get(subject.objects, "payloads/1") == b"first"

    async def test_o2_one_of_many_rivals_wins(self, subject: ObjectsSubject) -> None:
        """Of ten commits of one key at once exactly one succeeds, and its bytes are read."""
        results = await asyncio.gather(
            *(put(subject.objects, "a/b/c", str(index).encode()) for index in range(10)), return_exceptions=True
        )
        winners = [index for index, result in enumerate(results) if result == 1]
        assert len(winners) == 1
        assert sum(isinstance(result, Conflict) for result in results) == 9
        assert await get(subject.objects, "a/b/c") == str(winners[0]).encode()

    @settings(max_examples=25, deadline=None, suppress_health_check=STILL)
    @given(size=st.integers(0, 600_000), offset=st.integers(0, 700_000), count=st.none() | st.integers(0, 700_000))
    async def test_o3_any_range_is_read(self, subject: ObjectsSubject, size: int, offset: int, count: int | None) -> None:
        """Any byte range gives exactly those bytes, also across pieces and beyond the end."""
        data = bytes(size // 2) + b"z" * (size - size // 2)
        key = f"ranges/{make_id()}"
        await put(subject.objects, key, data)
        end = None if count is None else offset + count
        assert await get(subject.objects, key, offset=offset, size_bytes=count) == data[offset:end]

    async def test_o3_pieces_are_small(self, subject: ObjectsSubject) -> None:
        """No piece is larger than a mebibyte, however large the object; a reader may leave in the middle."""
        await put(subject.objects, "large", *[b"x" * MEBIBYTE] * 5)
        pieces = subject.objects.read("large")
        first = await anext(pieces)
        await pieces.aclose()
        assert 0 < len(first) <= MEBIBYTE

    async def test_o3_an_unknown_object_is_not_found(self, subject: ObjectsSubject) -> None:
        """Reading a key nobody wrote raises NotFound before the first piece; deleting it is no error."""
        await put(subject.objects, "a/b", b"x")
        for key in ("nothing", "a", "a/b/c"):
            with pytest.raises(NotFound):
                await get(subject.objects, key)
            assert await subject.objects.size(key) is None
        await subject.objects.delete("nothing")

    async def test_o3_a_deleted_object_is_gone(self, subject: ObjectsSubject) -> None:
        """After delete() the key is unknown, and may be written again."""
        await put(subject.objects, "a/b", b"old")
        await subject.objects.delete("a/b")
        assert await subject.objects.size("a/b") is None
        await put(subject.objects, "a/b", b"new")
        assert await get(subject.objects, "a/b") == b"new"

    async def test_o4_a_spool_that_is_not_committed_leaves_nothing(self, subject: ObjectsSubject) -> None:
        """Leaving the context without a commit, by an error, or after a refused commit discards the spool."""
        async with subject.objects.spool() as spool:
            await spool.write(b"x" * 2 * MEBIBYTE)

        async def break_down() -> None:
            async with subject.objects.spool() as spool:
                await spool.write(b"x" * 2 * MEBIBYTE)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await break_down()
        await put(subject.objects, "taken", b"x")
        with pytest.raises(Conflict):
            await put(subject.objects, "taken", b"x")
        assert subject.leftovers() == 0

    async def test_o4_a_killed_writer_leaves_nothing_for_long(self, subject: ObjectsSubject) -> None:
        """What a spool of a killed process left is gone when the objects are opened again; what was committed stays."""
        await put(subject.objects, "kept", b"x")
        spool = await subject.objects.spool().__aenter__()
        await spool.write(b"x" * 2 * MEBIBYTE)
        objects = await subject.reopen()
        assert subject.leftovers() == 0
        assert await get(objects, "kept") == b"x"

    async def test_o5_a_full_disk_refuses_and_recovers(self, subject: ObjectsSubject) -> None:
        """On a full disk writing or committing raises NoSpace and leaves nothing; with room it works again."""
        await put(subject.objects, "kept", b"x")
        await subject.fill()
        with pytest.raises(NoSpace):
            await put(subject.objects, "large", *[b"x" * MEBIBYTE] * 4)
        assert await subject.objects.size("large") is None
        assert subject.leftovers() == 0
        assert await get(subject.objects, "kept") == b"x"
        await subject.make_room()
        assert await put(subject.objects, "large", *[b"x" * MEBIBYTE] * 4) == 4 * MEBIBYTE

    async def test_o7_names_are_those_of_one_folder(self, subject: ObjectsSubject) -> None:
        """What is committed directly below a folder is named; deeper keys, deleted ones and open spools are not."""
        for key in ("payloads/a", "payloads/b", "payloads/deep/c", "results/d"):
            await put(subject.objects, key, b"x")
        await subject.objects.delete("payloads/b")
        async with subject.objects.spool() as spool:
            await spool.write(b"x")
            assert await subject.objects.names("payloads") == ["a"]
        assert await subject.objects.names("nothing") == []

    @pytest.mark.parametrize("key", BAD_KEYS, ids=repr)
    async def test_o6_only_plain_relative_names_are_keys(self, subject: ObjectsSubject, key: str) -> None:
        """Every other key is refused by every call, before anything happens."""
        with pytest.raises(InvalidInput):
            await put(subject.objects, key, b"x")
        with pytest.raises(InvalidInput):
            await get(subject.objects, key)
        with pytest.raises(InvalidInput):
            await subject.objects.size(key)
        with pytest.raises(InvalidInput):
            await subject.objects.delete(key)
