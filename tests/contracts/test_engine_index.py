"""However many ended attempts are kept, a start and a sweep look at those that live, and at those that are old enough to go."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from nexus.adapters.process import attempts as records
from nexus.adapters.process import folders
from nexus.adapters.process.index import Index
from nexus.runs.model import ExitKind
from nexus.runs.ports import Absent, Ended, LaunchFailed
from nexus.testing.suites.engine import LATER
from tests.contracts.engine_subject import PATIENCE_S, ProcessSubject

HOUR = 3600
THEN = 1_790_000_000


@pytest.fixture
async def subject(tmp_path: Path) -> AsyncIterator[ProcessSubject]:
    made = ProcessSubject(tmp_path)
    await made.start()
    yield made
    await made.close()


def keep(subject: ProcessSubject, run_id: str, ended_s: float = THEN) -> Path:
    """The folder of an attempt that ended, without a mark."""
    folder = subject.folder / "engine" / "attempts" / run_id / "1"
    folder.mkdir(parents=True)
    times = {"started_us": int(ended_s * 1e6), "ended_us": int(ended_s * 1e6)}
    (folder / folders.LOCK).write_text(json.dumps({"pid": 1, "start": 1, "uid": "local-1-1", "taken_us": times["started_us"]}))
    (folder / folders.EXIT).write_text(json.dumps({"kind": "exited", "code": 0, **times}))
    return folder


def marks(subject: ProcessSubject) -> list[str]:
    """Every mark, wherever it is."""
    engine = subject.folder / "engine"
    return [path.name for place in ("live", "ended") for path in (engine / place).rglob("*.*") if path.is_file()]


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _noted(read: list[object], real: Callable[[object], object], folder: object) -> object:
    read.append(folder)
    return real(folder)


async def test_a_start_reads_nothing_of_what_is_settled(subject: ProcessSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty attempts that ended long ago are kept; a start and a look at what lives open none of their folders."""
    ends = [((f"run-{number}", 1), moment(THEN + number * HOUR)) for number in range(50)]
    for (run_id, _), ended_at in ends:
        keep(subject, run_id, ended_at.timestamp())
    subject.engine._index.settle(ends)
    read: list[object] = []
    for name in ("read_exit", "names"):
        real = getattr(records, name)
        monkeypatch.setattr(records, name, partial(_noted, read, real))
    await subject.restart()
    assert await subject.engine.live() == []
    assert [path for path in read if "attempts" in str(path)] == []
    assert subject.ends == []
    assert isinstance(await subject.engine.status("run-7", 1), Ended)


async def test_what_is_old_is_found_by_its_end(subject: ProcessSubject) -> None:
    """Exactly those that ended before the moment, to the second, whichever hour they ended in."""
    times = {"a": THEN, "b": THEN + 1, "c": THEN + HOUR, "d": THEN + 30 * HOUR}
    for run_id, ended_s in times.items():
        keep(subject, run_id, ended_s)
    subject.engine._index.settle([((run_id, 1), moment(ended_s)) for run_id, ended_s in times.items()])
    for bound in (THEN, THEN + 1, THEN + 2, THEN + HOUR + 1, THEN + 31 * HOUR):
        expected = [(run_id, 1) for run_id, ended_s in times.items() if ended_s < bound]
        assert await subject.engine.old(moment(bound)) == expected
    for run_id in times:
        await subject.engine.forget(run_id)
    assert marks(subject) == []
    assert await subject.engine.old(LATER) == []
    assert list((subject.folder / "engine" / "ended").iterdir()) == []


async def test_a_folder_without_marks_is_marked_once(subject: ProcessSubject) -> None:
    """What an earlier version kept is found by the first start: what ended as old, what has no record of its end as lost."""
    await subject.engine.stop()
    for name in ("live", "ended"):
        shutil.rmtree(subject.folder / "engine" / name)
    keep(subject, "earlier")
    (keep(subject, "cut-off") / folders.EXIT).unlink()
    await subject.restart()
    assert (await subject.ended("cut-off")).exit.kind is ExitKind.LOST
    assert await subject.engine.live() == [("cut-off", 1)]
    assert await subject.engine.old(moment(THEN + 1)) == [("earlier", 1)]


async def test_a_mark_without_a_folder_goes(subject: ProcessSubject) -> None:
    """Should a crash come between removing an attempt and its mark, the next look for what is old removes the mark."""
    folder = keep(subject, "gone")
    subject.engine._index.settle([(("gone", 1), moment(THEN))])
    subject.engine._index.add(("never", 1))
    shutil.rmtree(folder.parent)
    assert await subject.engine.old(LATER) == []
    assert marks(subject) == []


async def test_an_attempt_cancelled_before_it_began_can_be_forgotten(subject: ProcessSubject) -> None:
    """It has nothing but the note that it was cancelled; that is found when it is old, and removed."""
    await subject.engine.cancel("unborn", 1)
    await subject.restart()
    assert isinstance(await subject.engine.status("unborn", 1), Absent)
    assert await subject.engine.old(moment(THEN)) == []
    assert await subject.engine.old(LATER) == [("unborn", 1)]
    await subject.engine.forget("unborn")
    assert marks(subject) == []
    assert not (subject.folder / "engine" / "attempts" / "unborn").exists()


async def test_an_attempt_that_cannot_be_marked_is_not_begun(subject: ProcessSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a launch fails for now, and nothing was taken."""

    def full(self: Index, key: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "live")

    monkeypatch.setattr(Index, "add", full)
    launch = subject.launch("exit:0")
    with pytest.raises(LaunchFailed) as caught:
        await subject.engine.create(launch)
    assert not caught.value.permanent
    assert isinstance(await subject.engine.status(launch.run_id, 1), Absent)


async def test_ends_that_cannot_be_settled_are_settled_later(subject: ProcessSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves an ended attempt among what lives, where each start tells it again, until there is room."""
    launch = subject.launch("exit:0")
    await subject.engine.create(launch)
    await subject.ended(launch.run_id)
    with monkeypatch.context() as broken:

        def full(self: Index, ends: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "ended")

        broken.setattr(Index, "settle", full)
        await subject.settled()
    assert await subject.engine.live() == [(launch.run_id, 1)]
    await subject.settled()
    assert await subject.engine.live() == []


async def test_a_foreign_file_among_the_marks_is_passed_over(subject: ProcessSubject) -> None:
    """A file that names no attempt keeps no service from starting."""
    (subject.folder / "engine" / "live" / "README").write_text(str(time.time()))
    await subject.restart()
    assert await subject.engine.live() == []
    assert await subject.engine.old(LATER) == []


async def test_what_is_settled_during_a_look_is_no_error(subject: ProcessSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end may be settled while old ones are looked for: that look misses it or finds it, the next one finds it."""
    keep(subject, "over")
    index, names = subject.engine._index, records.names
    index.add(("over", 1))

    def settled_then(folder: Path) -> list[str]:
        listed = names(folder)
        if folder.name == "live":
            index.settle([(("over", 1), moment(THEN))])
        return listed

    with monkeypatch.context() as patched:
        patched.setattr(records, "names", settled_then)
        assert await subject.engine.old(LATER) in ([], [("over", 1)])
    assert await subject.engine.old(LATER) == [("over", 1)]


async def test_an_end_that_only_a_look_finds_is_marked(subject: ProcessSubject) -> None:
    """Should a crash of the machine take the mark of what it ended, the first look at that attempt brings it back."""
    (keep(subject, "cut-off") / folders.EXIT).unlink()
    status = await subject.engine.status("cut-off", 1)
    assert isinstance(status, Ended)
    assert status.exit.kind is ExitKind.LOST
    await subject.settled()
    assert await subject.engine.old(LATER) == [("cut-off", 1)]


async def test_a_start_does_not_wait_for_what_is_being_removed(subject: ProcessSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash may leave a large folder half removed: the rest of it goes while the service works."""
    await subject.engine.stop()
    litter = subject.folder / "engine" / "trash" / "run.1.1"
    (litter / "scratch").mkdir(parents=True)
    go_on = threading.Event()
    empty_trash = records.empty_trash

    def slowly(trash: Path) -> None:
        assert go_on.wait(PATIENCE_S)
        empty_trash(trash)

    monkeypatch.setattr(records, "empty_trash", slowly)
    await subject.restart()
    launch = subject.launch("exit:0")
    await subject.engine.create(launch)
    await subject.ended(launch.run_id)
    assert litter.exists()
    go_on.set()
    async with asyncio.timeout(PATIENCE_S):
        while litter.exists():
            await asyncio.sleep(0.01)
