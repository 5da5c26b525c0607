"""Reading: waiting for an end, pages, trees, logs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from nexus.kernel.errors import InvalidInput
from nexus.runs import reading
from nexus.runs.model import Run, Stage
from nexus.runs.ports import Filter
from tests.unit.runs.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(places=3)
    yield rig
    rig.close()


def test_a_wait_is_answered_when_the_run_ends(rig: Rig) -> None:
    """Not before, and long before its time is over; several may wait for one run."""
    run_id = rig.begin()

    async def wait_for_it() -> list[Run]:
        waits = [asyncio.create_task(rig.life.reading.run("demand", run_id, wait_s=60)) for _ in range(2)]
        await asyncio.sleep(5)
        assert not any(wait.done() for wait in waits)
        rig.life.engine.finish(run_id)
        return list(await asyncio.gather(*waits))

    began = rig.loop.time()
    assert [run.stage for run in rig.do(wait_for_it())] == [Stage.FAILED] * 2
    assert rig.loop.time() - began < 6
    assert not rig.life.reading._waiters


def test_a_wait_ends_with_its_time(rig: Rig) -> None:
    """The run is shown as it is then, and nothing of the wait is left."""
    run_id = rig.begin()
    assert rig.do(rig.life.reading.run("demand", run_id, wait_s=2)).stage is Stage.RUNNING
    assert not rig.life.reading._waiters


def test_pages_join_without_a_gap(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Walking by cursors, and walking over all, gives every run once, also when the last page is full."""
    ids = [rig.submit(dry=True) for _ in range(6)]
    rig.settle()
    first, cursor = rig.do(rig.life.reading.page(Filter(), limit=4))
    second, end = rig.do(rig.life.reading.page(Filter(), limit=4, before=cursor))
    assert [run.id for run in first + second] == ids[::-1]
    assert end is None
    monkeypatch.setattr(reading, "MAX_PAGE", 3)

    async def walk() -> list[str]:
        return [run.id async for run in reading.every(rig.store, Filter())]

    assert rig.do(walk()) == ids[::-1]
    with pytest.raises(InvalidInput, match="limit"):
        rig.do(rig.life.reading.page(Filter(), limit=0))


def test_a_tree_is_shown_from_its_root(rig: Rig) -> None:
    """Whichever of its runs is asked for: parents stand before their children."""
    root = rig.begin()
    child = rig.begin(root)
    grandchild = rig.begin(child)
    assert [run.id for run in rig.do(rig.life.reading.tree(rig.run(grandchild)))] == [root, child, grandchild]


def test_a_log_is_complete_once_its_attempt_has_ended(rig: Rig) -> None:
    """Pieces join by their offset; the end of the text is the end of the log only when nothing more can come."""
    run_id = rig.begin()
    rig.life.engine.write(run_id, b"hello")
    piece = rig.do(rig.life.reading.log(rig.run(run_id), "stdout"))
    assert (piece.data, piece.next_offset, piece.complete) == (b"hello", 5, False)
    rig.finish(run_id)
    rest = rig.do(rig.life.reading.log(rig.run(run_id), "stdout", offset=piece.next_offset))
    assert (rest.data, rest.complete) == (b"", True)
    with pytest.raises(InvalidInput, match="stdin"):
        rig.do(rig.life.reading.log(rig.run(run_id), "stdin"))


def test_a_log_goes_on_after_the_report(rig: Rig) -> None:
    """What an algorithm writes after its report belongs to the log, which is complete when its process has ended."""
    run_id = rig.begin()
    rig.report(run_id)
    rig.settle()
    assert rig.run(run_id).stage is Stage.COMPLETED
    assert not rig.do(rig.life.reading.log(rig.run(run_id), "stdout")).complete
    rig.life.engine.write(run_id, b"last words")
    rig.finish(run_id)
    piece = rig.do(rig.life.reading.log(rig.run(run_id), "stdout"))
    assert (piece.data, piece.complete) == (b"last words", True)


def test_a_run_is_shown_with_the_template_it_was_accepted_with(rig: Rig) -> None:
    """A newer revision of its algorithm changes nothing of a run that waits."""
    run_id = rig.begin()
    rig.apply(more="computeResources: {cpuLimit: 2}")
    assert rig.do(rig.life.reading.configuration(rig.run(run_id))).limits.cpu_millicores is None
    assert rig.do(rig.life.reading.configuration(rig.run(rig.begin()))).limits.cpu_millicores == 2000
