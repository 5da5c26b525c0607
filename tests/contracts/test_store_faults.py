"""What can go wrong around the SQLite store: bad neighbours in a group, failing commits, old, newer and damaged files."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from nexus.adapters.sql import SqliteStore, listings, rows, schema, transaction
from nexus.kernel.access import Scope, Token
from nexus.kernel.clock import SystemClock
from nexus.kernel.errors import FolderUnusable, InvalidInput, NoSpace, Unavailable
from nexus.runs import lifecycle
from nexus.runs.model import Exit, ExitKind, Report, Stage
from nexus.runs.ports import Ended, Filter, TreeLimits
from nexus.testing.builders import NOON, build_run
from nexus.testing.suites.manifests import build_manifest
from tests.contracts.durable import sqlite_file

LIMITS = TreeLimits()


async def test_one_bad_run_does_not_fail_its_group(tmp_path: Path) -> None:
    """Of forty runs handed over together the one that cannot be stored is refused, the others are kept."""
    async with sqlite_file(tmp_path) as files:
        runs = [build_run(tag="\ud800" if index == 21 else None) for index in range(40)]
        results = await asyncio.gather(*(files.store.accept(run, b"{}", LIMITS) for run in runs), return_exceptions=True)
        assert [index for index, result in enumerate(results) if isinstance(result, InvalidInput)] == [21]
        assert (await files.store.counts())[Stage.BUFFERED] == 39


async def test_a_failed_commit_is_told_to_every_caller(tmp_path: Path) -> None:
    """When the commit of a group fails none of it is stored, every caller hears so, and the next group works."""
    failing = False

    def fail(step: str) -> None:
        if failing and step == "store.before-commit":
            raise sqlite3.OperationalError("disk I/O error")

    store = await SqliteStore.open(tmp_path / "nexus.db", clock=SystemClock(), on_step=fail)
    first = (await store.accept(build_run(), b"{}", LIMITS)).run
    failing = True
    calls = [store.accept(build_run(), b"{}", LIMITS) for _ in range(5)]
    results = await asyncio.gather(*calls, store.change(first.id, lambda run: replace(run, revision=9)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 6
    failing = False
    assert await store.page(Filter(), limit=9) == [first]
    assert (await store.counts())[Stage.BUFFERED] == 1
    await store.accept(build_run(), b"{}", LIMITS)
    assert (await store.counts())[Stage.BUFFERED] == 2
    await store.close()


async def test_an_end_that_cannot_be_stored_ends_nothing(tmp_path: Path) -> None:
    """Beside others in a group: neither the end is kept nor the run changed, and the others are."""
    async with sqlite_file(tmp_path) as files:
        run, other = [(await files.store.accept(build_run(), b"{}", LIMITS)).run for _ in range(2)]
        ends = [
            Ended(run_id=each.id, attempt=1, exit=Exit(kind=ExitKind.EXITED, code=code, ended_at=NOON))
            for each, code in ((run, 2**70), (other, 1))
        ]
        told = [files.store.end_attempt(each, lambda run: lifecycle.started(run, "uid", 1, NOON)) for each in ends]
        results = await asyncio.gather(*told, return_exceptions=True)
        assert isinstance(results[0], InvalidInput)
        assert await files.store.get(run.algorithm, run.id) == run
        assert await files.store.attempts(run.id, limit=9) == []
        assert await files.store.attempts(other.id, limit=9) == ends[1:]
        assert [(await files.store.counts())[stage] for stage in (Stage.BUFFERED, Stage.RUNNING)] == [1, 1]


async def test_the_steps_are_told_in_order(tmp_path: Path) -> None:
    """The hook of the kill tool sees begin, before-commit and after-commit of each group."""
    steps: list[str] = []
    store = await SqliteStore.open(tmp_path / "nexus.db", clock=SystemClock(), on_step=steps.append)
    await store.accept(build_run(), b"{}", LIMITS)
    await store.close()
    assert steps == ["store.begin", "store.before-commit", "store.after-commit"]


async def test_small_calls_survive_a_group_that_does_not_fit(tmp_path: Path) -> None:
    """When the disk has no room for a large payload, a small change handed over with it is stored all the same."""
    async with sqlite_file(tmp_path) as files:
        run = (await files.store.accept(build_run(), b"{}", LIMITS)).run
        await files.limit_pages(10)
        large, small = await asyncio.gather(
            files.store.accept(build_run(), b"x" * 120_000, LIMITS),
            files.store.change(run.id, lambda before: lifecycle.cancelled(before, "me", "", NOON)),
            return_exceptions=True,
        )
        assert isinstance(large, NoSpace)
        assert small.after.stage is Stage.CANCELLED
        assert {stage: count for stage, count in (await files.store.counts()).items() if count} == {Stage.CANCELLED: 1}


async def test_closing_answers_every_caller(tmp_path: Path) -> None:
    """What was submitted before close() is stored; what comes after is refused; nobody waits for ever."""
    async with sqlite_file(tmp_path) as files:
        store = files.store
        calls = [asyncio.ensure_future(store.accept(build_run(), b"{}", LIMITS)) for _ in range(100)]
        await asyncio.sleep(0)
        await store.close()
        assert all(isinstance(result.run.id, str) for result in await asyncio.gather(*calls))
        for call in (store.accept(build_run(), None, LIMITS), store.find("x"), store.page(Filter(), limit=1), store.counts()):
            with pytest.raises(Unavailable, match="closed"):
                await call
        await store.close()
        assert (await (await files.reopen()).counts())[Stage.BUFFERED] == 100


async def test_a_broken_writer_leaves_nobody_waiting(tmp_path: Path) -> None:
    """When the writer thread itself ends, callers under way and later ones are refused, and close() returns."""

    def break_down(step: str) -> None:
        raise SystemExit

    store = await SqliteStore.open(tmp_path / "nexus.db", clock=SystemClock(), on_step=break_down)
    results = await asyncio.gather(*(store.accept(build_run(), b"{}", LIMITS) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 5
    with pytest.raises(Unavailable):
        await store.accept(build_run(), b"{}", LIMITS)
    await store.close()


async def test_a_caller_that_gives_up_harms_nobody(tmp_path: Path) -> None:
    """A cancelled caller's run is stored or not; its neighbours' are."""
    async with sqlite_file(tmp_path) as files:
        calls = [asyncio.ensure_future(files.store.accept(build_run(), b"{}", LIMITS)) for _ in range(10)]
        await asyncio.sleep(0)
        calls[4].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 1
        assert (await files.store.counts())[Stage.BUFFERED] >= 9


async def test_an_emptied_log_stays_behind_nobody(tmp_path: Path) -> None:
    """After close() everything is in the one file, which can be copied alone."""
    async with sqlite_file(tmp_path) as files:
        await files.store.accept(build_run(), b"{}", LIMITS)
    assert [path.name for path in tmp_path.iterdir()] == ["nexus.db"]
    assert (tmp_path / "nexus.db").stat().st_mode & 0o077 == 0


async def test_an_older_file_is_upgraded_with_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening an older file runs the missing steps, keeps its runs, and leaves a copy of the old file beside it."""
    async with sqlite_file(tmp_path) as files:
        run = (await files.store.accept(build_run(), b"{}", LIMITS)).run
        await files.store.close()
        monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, "CREATE TABLE something_new (x)"))
        store = await files.reopen()
        assert await store.get("demand", run.id) == run
    newest = len(schema.STEPS)
    (backup,) = tmp_path.glob(f"nexus.db.v{newest - 1}-*.backup")
    assert backup.stat().st_mode & 0o077 == 0
    assert version(backup) == newest - 1
    assert version(tmp_path / "nexus.db") == newest
    assert version(backup, "SELECT count(*) FROM runs") == 1


async def test_a_folder_of_the_first_version_keeps_everything_and_learns_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs, payloads, counters, manifests and tokens of a version 1 file are as they were; its runs take ends of attempts now."""
    async with sqlite_file_of_version(tmp_path, 1, monkeypatch) as old:
        run = (await old.accept(build_run(idempotency_key="k", fingerprint=b"f"), b'{"n": 1}', LIMITS)).run
        run = (await old.change(run.id, lambda each: lifecycle.started(each, "job", 1, NOON))).after
        waiting = (await old.accept(build_run(), b"x" * 5000, LIMITS)).run
        await old.record_late(run.id, Report(received_at=NOON, result_uri="late"))
        manifests = await old.put([build_manifest()])
        await old.add_token(Token(name="ann", digest=b"d", scopes=frozenset({Scope.READ}), created_at=NOON))
    async with sqlite_file(tmp_path) as files:
        store = files.store
        assert version(files.path) == len(schema.STEPS) > 1
        assert [await store.get("demand", each.id) for each in (run, waiting)] == [run, waiting]
        assert await store.inline_payload(waiting.id) == b"x" * 5000
        assert {stage: count for stage, count in (await store.counts()).items() if count} == {Stage.RUNNING: 1, Stage.BUFFERED: 1}
        assert len(await store.late_reports(run.id)) == 1
        assert await store.current() == manifests
        assert [token.name for token in await store.tokens()] == ["ann"]
        assert (await store.accept(build_run(idempotency_key="k", fingerprint=b"f"), b"{}", LIMITS)).run == run
        assert await store.attempts(run.id, limit=9) == []
        end = Ended(run_id=run.id, attempt=1, exit=Exit(kind=ExitKind.EXITED, code=0, ended_at=NOON))
        await store.end_attempt(end, lambda each: each)
        assert await store.attempts(run.id, limit=9) == [end]
    assert len(list(tmp_path.glob("nexus.db.v1-*.backup"))) == 1


async def test_a_failing_upgrade_changes_nothing(tmp_path: Path) -> None:
    """An upgrade that fails in the middle leaves the file at its old version, readable as before."""
    async with sqlite_file(tmp_path) as files:
        await files.store.accept(build_run(), b"{}", LIMITS)
    connection = sqlite3.connect(tmp_path / "nexus.db", isolation_level=None)
    with pytest.raises(Unavailable, match="syntax"):
        schema.prepare(connection, tmp_path / "nexus.db", datetime.now(UTC), (*schema.STEPS, "CREATE TABLE fine (x); NONSENSE"))
    connection.close()
    assert version(tmp_path / "nexus.db") == len(schema.STEPS)
    assert version(tmp_path / "nexus.db", "SELECT count(*) FROM sqlite_schema WHERE name = 'fine'") == 0


@pytest.mark.parametrize(
    ("statements", "told"),
    [("PRAGMA user_version = 99", "schema version 99"), ("PRAGMA application_id = 7", "not a database of Nexus")],
)
async def test_files_that_are_not_ours_are_refused(tmp_path: Path, statements: str, told: str) -> None:
    """A file of a newer Nexus, or of another program, is refused and left as it is."""
    async with sqlite_file(tmp_path) as files:
        await files.store.close()
        connection = sqlite3.connect(files.path)
        connection.execute(statements)
        connection.close()
        before = files.path.read_bytes()
        with pytest.raises(FolderUnusable, match=told):
            await SqliteStore.open(files.path, clock=SystemClock())
        assert files.path.read_bytes() == before


async def test_a_damaged_file_is_a_clear_error(tmp_path: Path) -> None:
    """A file that is no database any more is refused by name, with what to do, and not overwritten."""
    path = tmp_path / "nexus.db"
    path.write_bytes(b"this was a database once " * 400)
    with pytest.raises(FolderUnusable) as caught:
        await SqliteStore.open(path, clock=SystemClock())
    assert str(path) in caught.value.message
    assert "backup" in caught.value.hint
    assert path.read_bytes().startswith(b"this was")


async def test_damage_met_later_is_a_clear_error(tmp_path: Path) -> None:
    """A page damaged on disk fails the calls that meet it with FolderUnusable, not with the driver's error."""
    async with sqlite_file(tmp_path) as files:
        for _ in range(200):
            await files.store.accept(build_run(), b"x" * 900, LIMITS)
    data = bytearray((tmp_path / "nexus.db").read_bytes())
    data[150_000:] = b"\xa5" * (len(data) - 150_000)
    (tmp_path / "nexus.db").write_bytes(data)
    async with sqlite_file(tmp_path) as files:
        with pytest.raises(FolderUnusable, match="damaged"):
            await files.store.page(Filter(), limit=1000)


async def test_another_program_that_holds_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write lock held elsewhere makes calls Unavailable after the wait, and they work again when it is gone."""
    monkeypatch.setattr("nexus.adapters.sql.store._BUSY_S", 0.05)
    async with sqlite_file(tmp_path) as files:
        rival = sqlite3.connect(files.path, isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another process"):
            await files.store.accept(build_run(), b"{}", LIMITS)
        rival.execute("ROLLBACK")
        rival.close()
        await files.store.accept(build_run(), b"{}", LIMITS)


@contextlib.asynccontextmanager
async def sqlite_file_of_version(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteStore]:
    """A store on a new file as that version of Nexus made it, closed at the end."""
    with monkeypatch.context() as patched:
        patched.setattr(schema, "STEPS", schema.STEPS[:number])
        store = await SqliteStore.open(folder / "nexus.db", clock=SystemClock())
    try:
        yield store
    finally:
        await store.close()


def version(path: Path, query: str = "PRAGMA user_version") -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


PLANS = {
    "a run by id": f"{rows.SELECT_RUN} WHERE id = 'x'",
    "a run by its key": transaction._BY_KEY,
    "a tree": transaction._TREE,
    "cancelled ancestors": transaction._CANCELLED_ANCESTOR,
    "waiting runs": listings._WAITING,
    "running runs": listings._RUNNING,
    "late reports": listings._LATE,
    "ended attempts": listings._ATTEMPTS,
    "a tag": f"{rows.SELECT_RUN} WHERE tag = 'x' AND seq < 9 ORDER BY seq DESC LIMIT 9",
    "failed runs": f"{rows.SELECT_RUN} WHERE {listings._NOTABLE} AND stage = 'FAILED' ORDER BY seq DESC LIMIT 9",
    "children": f"{rows.SELECT_RUN} WHERE parent_id = 'x' ORDER BY seq DESC LIMIT 9",
    "a whole tree": f"{rows.SELECT_RUN} WHERE {listings._OF_ROOT} ORDER BY seq DESC LIMIT 9",
}


@pytest.mark.parametrize("name", PLANS)
async def test_no_query_looks_at_every_run(tmp_path: Path, name: str) -> None:
    """Every query of the store's daily work finds its rows by an index, so that a million runs cost no more than ten."""
    async with sqlite_file(tmp_path) as files:
        connection = sqlite3.connect(files.path)
        values = {"now": 1, "limit": 1, "exclude": "[]"} if ":now" in PLANS[name] else ["x"] * PLANS[name].count("?")
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {PLANS[name]}", values)]
        connection.close()
        assert not [step for step in plan if step.startswith("SCAN") and step.split()[1] in ("runs", "late_reports", "attempts")], (
            plan
        )
