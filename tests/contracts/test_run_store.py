"""RunStore: SQLite, SQLite on a disk that fills up, and the in-memory twin keep the promises S1 to S13."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus.kernel.clock import SystemClock
from nexus.testing.memory import MemoryStore
from nexus.testing.suites.store import RunStoreSuite, StoreSubject
from tests.contracts.durable import Ballast, kill_after, position, small_disk, sqlite_file, start_child, trace


class TestSqlite(RunStoreSuite):
    """The embedded store on an ordinary disk; "full" is SQLite's own page limit."""

    @pytest.fixture
    async def subject(self, tmp_path: Path) -> AsyncIterator[StoreSubject]:
        async with sqlite_file(tmp_path) as files:

            async def fill() -> None:
                await files.limit_pages(8)

            async def make_room() -> None:
                await files.limit_pages(1 << 20)

            yield StoreSubject(files.store, files.reopen, fill, make_room)


class TestSqliteOnAFullDisk:
    """The embedded store on a real disk of 4 MiB."""

    async def test_s12_a_full_disk_refuses_and_recovers(self, tmp_path: Path) -> None:
        """With no byte left on the disk accept() raises NoSpace, and works again when there is room."""
        with small_disk(tmp_path / "disk", "4m") as disk:
            async with sqlite_file(disk) as files:
                ballast = Ballast(disk)
                subject = StoreSubject(files.store, files.reopen, ballast.fill, ballast.make_room)
                await RunStoreSuite().test_s12_a_full_disk_refuses_and_recovers(subject)


class TestMemory(RunStoreSuite):
    """The in-memory twin; "the next process" is itself, since its promises end with the process."""

    @pytest.fixture
    async def subject(self) -> StoreSubject:
        store = MemoryStore(SystemClock())

        async def reopen() -> MemoryStore:
            return store

        async def fill() -> None:
            store.room_bytes = 10_000

        async def make_room() -> None:
            store.room_bytes = None

        return StoreSubject(store, reopen, fill, make_room)


def test_s1_the_sync_returns_before_the_answer(tmp_path: Path) -> None:
    """A trace shows: the log of the database is written, then synced, and only then is the run acknowledged."""
    calls = trace("accept-one", tmp_path / "nexus.db")
    answer = position(calls, ("write",), '"ACK ')
    first = position(calls, ("pwrite64", "write"), "nexus.db-wal>")
    (run_id,) = re.findall(r'"ACK ([0-9a-f-]+)', calls[answer][1])
    written = position(calls, ("pwrite64", "write"), "nexus.db-wal>", run_id)
    synced = position(calls, ("fdatasync", "fsync"), "nexus.db-wal>", "= 0", last_before=answer)
    folder = position(calls, ("fsync", "fdatasync"), f"{tmp_path}>", "= 0", last_before=answer)
    assert written < synced < answer
    assert first < folder < answer, "the name of the log must be on disk too"


@pytest.mark.faults
@pytest.mark.parametrize("answers", [1, 40, 400])
async def test_s1_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path, answers: int) -> None:
    """After SIGKILL in the middle of writing every acknowledged run is there once, with its payload, and counters agree."""
    child = start_child("accept", tmp_path / "nexus.db")
    acknowledged = kill_after(child, answers)
    assert len(acknowledged) >= answers
    async with sqlite_file(tmp_path) as files:
        for run_id in acknowledged:
            run = await files.store.find(run_id)
            assert run is not None
            payload = await files.store.inline_payload(run_id)
            assert payload == run_id.encode() * (len(payload) // len(run_id))
            assert payload
        with contextlib.closing(sqlite3.connect(files.path)) as connection:
            rows = connection.execute("SELECT stage, count(*) FROM runs GROUP BY stage").fetchall()
        counts = {stage.value: count for stage, count in (await files.store.counts()).items() if count}
        assert counts == dict(rows)


@pytest.mark.faults
async def test_s1_a_torn_log_costs_only_what_was_not_acknowledged(tmp_path: Path) -> None:
    """A log whose end is half written, as after a power cut, opens, with every acknowledged run."""
    acknowledged = kill_after(start_child("accept", tmp_path / "nexus.db"), 100)
    with (tmp_path / "nexus.db-wal").open("ab") as log:
        log.write(b"\x37\x7f\x06\x82" + bytes(range(256)) * 11)
    (tmp_path / "nexus.db-shm").unlink()
    async with sqlite_file(tmp_path) as files:
        assert all([await files.store.find(run_id) for run_id in acknowledged])
