"""Accepting: refused before anything is stored, stored before anything is answered, and nothing half done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from nexus.kernel.errors import InvalidTemplate, NoSpace, QueueFull, UnknownAlgorithm
from nexus.runs.model import Payload, Run
from nexus.runs.observing import ObservedStore
from nexus.runs.ports import Accepted, TreeLimits
from nexus.runs.submission import Submission, Submit
from nexus.testing.builders import make_id
from nexus.testing.memory import MemoryObjects, MemoryStore
from tests.unit.runs.rig import Rig


class Desk:
    """A submission over twins; ``offered`` is what the dispatcher would get."""

    def __init__(self, rig: Rig) -> None:
        self.store: MemoryStore = rig.store
        self.objects = MemoryObjects()
        self.offered: list[Run] = []
        self.backlog = 0
        self.submission = Submission(
            ObservedStore(self.store), self.objects, rig.life.algorithms, rig.clock,
            host="here", offer=self.offered.append, backlog=lambda: self.backlog, max_waiting=3,
        )  # fmt: skip

    def large(self, **changes: object) -> Submit:
        """A request whose payload is an object already."""
        run_id = make_id()
        key = f"payloads/{run_id}"
        self.objects.keep(key, b"{}")
        fields = {"algorithm": "demand", "inline": None, "content_hash": "0", "caller": "ann", **changes}
        return Submit(run_id=run_id, payload=Payload(size_bytes=2, object_key=key), **fields)  # type: ignore[arg-type]

    async def keys(self, request: Submit) -> int | None:
        assert request.payload.object_key is not None
        return await self.objects.size(request.payload.object_key)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def desk(rig: Rig) -> Desk:
    return Desk(rig)


def test_a_stored_run_is_offered_once(rig: Rig, desk: Desk) -> None:
    """What the dispatcher gets is the run as stored, at the template's revision of now."""
    accepted = rig.do(desk.submission.submit(desk.large()))
    assert desk.offered == [accepted.run]
    assert (accepted.run.template_revision, accepted.run.received_by, accepted.run.waiting) == (1, "here", True)


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"algorithm": "nobody"}, UnknownAlgorithm), ({"overrides": b'{"computeResources":{"cpuLimit":"lots"}}'}, InvalidTemplate)],
)
def test_a_refused_run_leaves_nothing(rig: Rig, desk: Desk, changes: dict[str, object], error: type[Exception]) -> None:
    """Its payload's object is removed, nothing is stored and nothing offered (weakness 10)."""
    request = desk.large(**changes)
    with pytest.raises(error):
        rig.do(desk.submission.submit(request))
    assert rig.do(desk.keys(request)) is None
    assert not desk.offered
    assert rig.do(desk.store.find(request.run_id)) is None


def test_a_full_queue_and_a_full_disk_leave_nothing(rig: Rig, desk: Desk) -> None:
    """QueueFull says when to come again; NoSpace keeps nothing of the request."""
    desk.backlog = 3
    request = desk.large()
    with pytest.raises(QueueFull) as caught:
        rig.do(desk.submission.submit(request))
    assert caught.value.retry_after_s > 0
    desk.backlog, desk.store.room_bytes = 0, 0
    other = desk.large()
    with pytest.raises(NoSpace):
        rig.do(desk.submission.submit(other))
    assert (rig.do(desk.keys(request)), rig.do(desk.keys(other))) == (None, None)


def test_a_replay_is_the_first_run_and_is_not_offered_again(rig: Rig, desk: Desk) -> None:
    """The object that came with the replay is removed, the first one's stays."""
    first, second = (desk.large(idempotency_key="k", fingerprint=b"f") for _ in range(2))
    one, two = rig.do(desk.submission.submit(first)), rig.do(desk.submission.submit(second))
    assert (one.replayed, two.replayed, two.run.id) == (False, True, one.run.id)
    assert len(desk.offered) == 1
    assert (rig.do(desk.keys(first)), rig.do(desk.keys(second))) == (2, None)


def test_a_caller_that_is_cancelled_while_the_store_goes_on_loses_nothing(rig: Rig, desk: Desk) -> None:
    """The run is stored all the same: it keeps its payload and is offered, or it would wait for ever without either."""
    accept = desk.store.accept
    written = asyncio.Event()

    async def goes_on(run: Run, inline: bytes | None, limits: TreeLimits) -> Accepted:
        accepted = await accept(run, inline, limits)  # as a writer's thread does, whoever still waits for it
        written.set()
        await asyncio.sleep(3600)
        return accepted

    desk.store.accept = goes_on  # type: ignore[method-assign]
    request = desk.large()
    rig.do(_cut_off(desk.submission, request, written))
    assert [run.id for run in desk.offered] == [request.run_id]
    assert rig.do(desk.keys(request)) == 2


def test_a_caller_that_is_cancelled_before_the_store_leaves_nothing(rig: Rig, desk: Desk) -> None:
    """The object of a run that was never stored is removed."""
    reached = asyncio.Event()

    async def never(run: Run, inline: bytes | None, limits: TreeLimits) -> Accepted:
        reached.set()
        await asyncio.sleep(3600)
        raise AssertionError

    desk.store.accept = never  # type: ignore[method-assign]
    request = desk.large()
    rig.do(_cut_off(desk.submission, request, reached))
    assert not desk.offered
    assert rig.do(desk.keys(request)) is None


async def _cut_off(submission: Submission, request: Submit, at: asyncio.Event) -> None:
    task = asyncio.create_task(submission.submit(request))
    await at.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_payloads_without_a_run_are_tidied_away(rig: Rig, desk: Desk) -> None:
    """What a crash left between payload and row is removed; stored runs keep theirs, and what is newer may be on its way."""
    stored, lost, newer = desk.large(), desk.large(), desk.large()
    rig.do(desk.submission.submit(stored))
    assert rig.do(desk.submission.tidy(newer.run_id)) == 1
    assert rig.do(desk.keys(lost)) is None
    assert rig.do(desk.keys(stored)) == 2
    assert rig.do(desk.keys(newer)) == 2


def test_tidying_leaves_others_their_turn(rig: Rig, desk: Desk) -> None:
    """However many large payloads are kept, a service that just started accepts meanwhile."""
    for _ in range(64):
        rig.do(desk.submission.submit(desk.large()))
    newer = desk.large().run_id

    async def turns() -> int:
        tidying = asyncio.ensure_future(desk.submission.tidy(newer))
        taken = 0
        while not tidying.done():
            await asyncio.sleep(0)
            taken += 1
        return taken

    assert rig.do(turns()) > 3
