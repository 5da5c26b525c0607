"""Environments are built for runs that wait: a build nobody waits for any more is given up, one that another needs goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from nexus.kernel.errors import Unavailable
from nexus.runs.building import Revision, last_line
from nexus.runs.model import Stage
from tests.unit.runs.rig import Rig

PROJECT = "local.nexus/project: p"


class Builder:
    """Stands in for an engine's ``prepare``: each call takes until the test lets it go on. ``given_up``: calls that were."""

    def __init__(self, rig: Rig) -> None:
        self.begun = 0
        self.given_up = 0
        self.go_on = asyncio.Event()
        self.attach(rig)

    def attach(self, rig: Rig) -> None:
        rig.life.engine.prepare = self  # type: ignore[method-assign, assignment]

    async def __call__(self, local: dict[str, str]) -> None:
        self.begun += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(places=2, window=2)
    rig.apply(annotations=PROJECT)
    yield rig
    rig.close()


@pytest.fixture
def builder(rig: Rig) -> Builder:
    return Builder(rig)


def cancel(rig: Rig, run_id: str) -> None:
    rig.cancel(run_id)
    rig.settle()


@pytest.mark.parametrize(
    ("details", "why"),
    [
        ("resolving\n  no solution \n", "no solution"),
        ("what it installs was refused: `idna` is vulnerable\nhint: pin 3.7", "what it installs was refused: `idna` is vulnerable"),
        ("hint: try again", ""),
        ("", ""),
    ],
)
def test_a_log_tells_why_and_not_the_hint(details: str, why: str) -> None:
    """The last line that is no hint."""
    assert last_line(details) == why


def test_the_build_of_a_cancelled_run_is_given_up(rig: Rig, builder: Builder) -> None:
    """Nobody waits for it any more; the next run that needs it has it built afresh and starts."""
    cancel(rig, rig.begin())
    assert (builder.begun, builder.given_up) == (1, 1)
    builder.go_on.set()
    run_id = rig.begin()
    assert builder.begun > 1
    assert rig.at_work() == [run_id]


def test_a_build_another_run_waits_for_goes_on(rig: Rig, builder: Builder) -> None:
    """It is given up with the last of those who wait, whichever that is."""
    first, second = rig.begin(), rig.begin()
    cancel(rig, first)
    assert (builder.begun, builder.given_up) == (1, 0)
    cancel(rig, second)
    assert (builder.begun, builder.given_up) == (1, 1)


def test_a_build_goes_on_for_runs_the_window_has_no_room_for(rig: Rig, builder: Builder) -> None:
    """What waits in the store alone counts too: cancelling all that is in memory gives nothing up."""
    ids = [rig.begin() for _ in range(5)]
    for run_id in ids[:4]:
        cancel(rig, run_id)
    assert builder.given_up == 0
    builder.go_on.set()
    rig.settle()
    assert rig.at_work() == ids[4:]


def test_a_build_goes_on_for_a_run_of_another_revision(rig: Rig, builder: Builder) -> None:
    """Two revisions of a template with the same annotations share a build; cancelling one's run leaves it to the other's."""
    first = rig.begin()
    rig.apply(annotations=PROJECT, more="runtimeEnvironment: {deadlineSeconds: 600}")
    second = rig.begin()
    cancel(rig, first)
    assert (builder.begun, builder.given_up) == (1, 0)
    cancel(rig, second)
    assert builder.given_up == 1


def test_a_doubt_outlives_a_store_that_does_not_answer(rig: Rig, builder: Builder) -> None:
    """Whether anyone still waits could not be asked: it is asked again, and the build given up then."""
    run = rig.run(rig.begin())
    builds = rig.life.dispatcher._builds

    async def away(revisions: set[Revision]) -> bool:
        raise Unavailable("the disk is away")

    async def nobody(revisions: set[Revision]) -> bool:
        return False

    assert builds.doubt(run)
    with pytest.raises(Unavailable):
        rig.do(builds.end_unwanted(away))
    rig.do(builds.end_unwanted(nobody))
    rig.carry_on(10)
    assert builder.given_up == 1


def test_a_cancelled_tree_gives_its_build_up_once(rig: Rig, builder: Builder) -> None:
    """Cancelling many runs at once is one question whether anyone still waits."""
    parent = rig.begin()
    for _ in range(4):
        rig.begin(parent)
    cancel(rig, parent)
    assert (builder.begun, builder.given_up) == (1, 1)
    assert not rig.life.dispatcher.backlog()


def test_a_launch_that_builds_anew_is_given_up_with_its_run(rig: Rig, builder: Builder) -> None:
    """Files may change after the build: then the launch builds, and ends with its run; the place is free at once."""
    builder.go_on.set()
    rig.finish(rig.begin())
    builder.go_on.clear()
    run_id = rig.begin()
    assert rig.life.dispatcher.launching(run_id) is not None
    cancel(rig, run_id)
    assert builder.given_up == 1
    assert rig.life.dispatcher.launching(run_id) is None
    assert not rig.life.dispatcher.held()
    assert rig.run(run_id).stage is Stage.CANCELLED
    assert rig.starts(run_id) == 0


def test_a_stop_waits_for_no_launch_that_builds(rig: Rig, builder: Builder) -> None:
    """A dispatcher that is stopped gives up what is being built, and the run waits for the next life."""
    builder.go_on.set()
    rig.finish(rig.begin())
    builder.go_on.clear()
    run_id = rig.begin()
    began = rig.loop.time()
    dispatching = rig.life.loops[0]
    dispatching.cancel()
    rig.do(_quietly(dispatching))
    assert rig.loop.time() == began
    assert builder.given_up == 1
    assert rig.run(run_id).stage is Stage.BUFFERED


async def _quietly(task: asyncio.Task[None]) -> None:
    await asyncio.gather(task, return_exceptions=True)
