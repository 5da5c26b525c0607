"""What every RunStore promises (S1 to S13 of ``nexus.runs.ports``)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nexus.kernel.errors import (
    CancelledParent,
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    NoSpace,
    RunNotFound,
    StageConflict,
    TreeLimit,
    UnknownParent,
)
from nexus.runs import lifecycle
from nexus.runs.model import Exit, ExitKind, ParentRef, Payload, Report, Run, Stage
from nexus.runs.ports import Ended, Filter, RunStore, TreeLimits
from nexus.testing.builders import NOON, build_child, build_run, make_id

LIMITS = TreeLimits()
SMALL = TreeLimits(max_depth=2, max_runs=3)
# a suite is run by several classes, and an example adds to the store of its test: both are meant
STILL = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors, HealthCheck.too_slow]


@dataclass
class StoreSubject:
    """The store under test. ``reopen`` gives what a new process finds; ``fill`` takes all room, ``make_room`` gives it back."""

    store: Any
    reopen: Callable[[], Awaitable[Any]]
    fill: Callable[[], Awaitable[None]]
    make_room: Callable[[], Awaitable[None]]


def cancel(run: Run) -> Run:
    return lifecycle.cancelled(run, "tester", "because", NOON)


def start(run: Run) -> Run:
    return lifecycle.started(run, "job", run.attempt + 1, NOON)


def finish(run: Run) -> Run:
    return lifecycle.reported(lifecycle.started(run, "job", run.attempt + 1, NOON), Report(received_at=NOON, result_uri="r"))


def end(run: Run, attempt: int, **changes: Any) -> Ended:
    fields: dict[str, Any] = {"kind": ExitKind.EXITED, "ended_at": NOON, "code": 1, **changes}
    return Ended(run_id=run.id, attempt=attempt, exit=Exit(**fields))


async def accepted(store: RunStore, run: Run, inline: bytes | None = b"{}") -> Run:
    return (await store.accept(run, inline, LIMITS)).run


class RunStoreSuite:
    """Needs a fixture ``subject`` of StoreSubject with an empty store."""

    async def test_s1_accepted_runs_and_payloads_are_there_for_the_next_process(self, subject: StoreSubject) -> None:
        """What accept() returned is found, whole, by a process that opens the store afterwards."""
        small = await accepted(subject.store, build_run(), b'{"a": 1}')
        large = await accepted(subject.store, build_run(payload=Payload(size_bytes=60_000)), b"x" * 60_000)
        store = await subject.reopen()
        assert await store.get("demand", small.id) == small
        assert await store.get("demand", large.id) == large
        assert await store.inline_payload(small.id) == b'{"a": 1}'
        assert await store.inline_payload(large.id) == b"x" * 60_000

    async def test_s1_counters_are_those_of_the_runs_for_the_next_process(self, subject: StoreSubject) -> None:
        """Counters by stage agree with the runs after the store was opened again."""
        runs = [await accepted(subject.store, build_run()) for _ in range(5)]
        await subject.store.change(runs[0].id, finish)
        await subject.store.change(runs[1].id, cancel)
        store = await subject.reopen()
        counts = await store.counts()
        assert {stage: count for stage, count in counts.items() if count} == {
            Stage.BUFFERED: 3, Stage.COMPLETED: 1, Stage.CANCELLED: 1,
        }  # fmt: skip

    async def test_s2_every_read_sees_what_a_write_returned(self, subject: StoreSubject) -> None:
        """A run that was just accepted or changed is in every read that concerns it."""
        store = subject.store
        run = await accepted(store, build_run(tag="t"))
        assert await store.get("demand", run.id) == await store.find(run.id) == run
        assert await store.tagged("t", limit=9) == await store.page(Filter(), limit=9) == [run]
        assert await store.waiting(NOON, limit=9) == [run]
        assert (await store.counts())[Stage.BUFFERED] == 1
        after = (await store.change(run.id, start)).after
        assert await store.get("demand", run.id) == after
        assert await store.running() == await store.page(Filter(stage=Stage.RUNNING), limit=9) == [after]
        assert await store.waiting(NOON, limit=9) == []
        assert (await store.counts())[Stage.RUNNING] == 1

    async def test_s3_twins_under_one_key_are_one_run(self, subject: StoreSubject) -> None:
        """Requests that race under one idempotency key store one run, and all get it."""
        twins = [build_run(idempotency_key="k", fingerprint=b"f") for _ in range(20)]
        answers = await asyncio.gather(*(subject.store.accept(twin, b"{}", LIMITS) for twin in twins))
        assert len({answer.run.id for answer in answers}) == 1
        assert sum(not answer.replayed for answer in answers) == 1
        assert len(await subject.store.page(Filter(), limit=99)) == 1

    async def test_s3_a_replay_gets_the_run_as_it_is_now(self, subject: StoreSubject) -> None:
        """The key gives the stored run back, also when it has ended meanwhile; its payload stays the first one."""
        first = await accepted(subject.store, build_run(idempotency_key="k", fingerprint=b"f"), b"first")
        ended = (await subject.store.change(first.id, finish)).after
        again = await subject.store.accept(build_run(idempotency_key="k", fingerprint=b"f"), b"second", LIMITS)
        assert again.replayed
        assert again.run == ended
        assert await subject.store.inline_payload(first.id) == b"first"

    async def test_s3_another_request_under_the_key_is_refused(self, subject: StoreSubject) -> None:
        """Another fingerprint under a used key raises IdempotencyMismatch and stores nothing."""
        await accepted(subject.store, build_run(idempotency_key="k", fingerprint=b"f"))
        with pytest.raises(IdempotencyMismatch, match="`k`"):
            await accepted(subject.store, build_run(idempotency_key="k", fingerprint=b"other"))
        assert (await subject.store.counts())[Stage.BUFFERED] == 1

    @pytest.mark.parametrize("scope", [{"caller": "other"}, {"algorithm": "other"}, {"idempotency_key": "other"}])
    async def test_s3_the_scope_of_a_key(self, subject: StoreSubject, scope: dict[str, str]) -> None:
        """The same key of another caller, for another algorithm, or another key is another request."""
        first = await accepted(subject.store, build_run(idempotency_key="k", fingerprint=b"f"))
        other = await accepted(subject.store, build_run(**{"idempotency_key": "k", "fingerprint": b"f", **scope}))
        assert first.id != other.id

    async def test_s4_a_child_gets_root_and_depth_from_its_parent(self, subject: StoreSubject) -> None:
        """Root and depth come from the stored tree, whatever the caller wrote; a root's root is itself."""
        root = await accepted(subject.store, build_run(root_id="nonsense"))
        child = await accepted(subject.store, build_child(root, root_id="nonsense", depth=9))
        grandchild = await accepted(subject.store, build_child(child))
        assert (root.root_id, root.depth) == (root.id, 0)
        assert (child.root_id, child.depth) == (root.id, 1)
        assert (grandchild.root_id, grandchild.depth) == (root.id, 2)
        assert await subject.store.get("demand", grandchild.id) == grandchild
        assert await subject.store.page(Filter(root_id=root.id), limit=9) == [grandchild, child, root]
        assert await subject.store.page(Filter(parent_id=root.id), limit=9) == [child]

    async def test_s4_an_unknown_parent_is_refused(self, subject: StoreSubject) -> None:
        """A parent nobody stored, or stored under another algorithm, raises UnknownParent."""
        root = await accepted(subject.store, build_run())
        for parent in (ParentRef(algorithm="demand", run_id=make_id()), ParentRef(algorithm="other", run_id=root.id)):
            with pytest.raises(UnknownParent):
                await accepted(subject.store, build_run(parent=parent))

    async def test_s4_a_cancelled_ancestor_refuses_children(self, subject: StoreSubject) -> None:
        """A run whose grandparent was cancelled takes no children, though it was not cancelled itself."""
        root = await accepted(subject.store, build_run())
        child = await accepted(subject.store, build_child(root))
        await subject.store.change(root.id, cancel)
        with pytest.raises(CancelledParent, match=root.id):
            await accepted(subject.store, build_child(child))

    @pytest.mark.parametrize("end", [finish, lambda run: lifecycle.advance(run, Stage.FAILED, NOON, failure_cause="broke")])
    async def test_s4_a_parent_that_has_ended_takes_children(self, subject: StoreSubject, end: Callable[[Run], Run]) -> None:
        """Children of completed and of failed parents are accepted."""
        root = await accepted(subject.store, build_run())
        await subject.store.change(root.id, end)
        assert (await accepted(subject.store, build_child(root))).depth == 1

    async def test_s4_trees_have_limits(self, subject: StoreSubject) -> None:
        """Beyond the depth or the number of runs a child raises TreeLimit; at the limit it is accepted."""
        root = await accepted(subject.store, build_run())
        child = (await subject.store.accept(build_child(root), None, SMALL)).run
        deepest = (await subject.store.accept(build_child(child), None, SMALL)).run
        with pytest.raises(TreeLimit, match="depth 3"):
            await subject.store.accept(build_child(deepest), None, SMALL)
        with pytest.raises(TreeLimit, match="4 runs"):
            await subject.store.accept(build_child(root), None, SMALL)

    async def test_s4_a_keyed_child_is_stored_once(self, subject: StoreSubject) -> None:
        """A replayed child counts once in its tree, and is answered also after its parent was cancelled."""
        root = await accepted(subject.store, build_run())
        first = await accepted(subject.store, build_child(root, idempotency_key="k", fingerprint=b"f"))
        await subject.store.change(root.id, cancel)
        again = await subject.store.accept(build_child(root, idempotency_key="k", fingerprint=b"f"), None, LIMITS)
        assert again.replayed
        assert again.run.id == first.id

    async def test_s5_concurrent_changes_are_all_applied(self, subject: StoreSubject) -> None:
        """Fifty changes of one run at once are fifty revisions: none is lost."""
        run = await accepted(subject.store, build_run())

        def count(before: Run) -> Run:
            return lifecycle.touch(before, NOON, counted_failures=before.counted_failures + 1)

        await asyncio.gather(*(subject.store.change(run.id, count) for _ in range(50)))
        after = await subject.store.get("demand", run.id)
        assert (after.counted_failures, after.revision) == (50, 50)

    async def test_s5_one_of_two_rivals_wins(self, subject: StoreSubject) -> None:
        """Of a report and a cancel that race exactly one changes the run."""
        run = await accepted(subject.store, build_run())
        changes = await asyncio.gather(subject.store.change(run.id, finish), subject.store.change(run.id, cancel))
        assert [change.written for change in changes].count(True) == 1

    async def test_s5_a_decision_may_leave_the_run_as_it_is(self, subject: StoreSubject) -> None:
        """A decision that returns its argument writes nothing."""
        run = await accepted(subject.store, build_run())
        change = await subject.store.change(run.id, lambda before: before)
        assert not change.written
        assert await subject.store.get("demand", run.id) == run

    async def test_s5_an_error_of_a_decision_comes_through(self, subject: StoreSubject) -> None:
        """A decision that raises writes nothing, its caller gets the error, and its neighbours in time are unharmed."""
        run = await accepted(subject.store, build_run())

        def refuse(before: Run) -> Run:
            raise StageConflict("no")

        def break_down(before: Run) -> Run:
            raise ValueError("a decision's own mistake")

        results = await asyncio.gather(
            subject.store.change(run.id, refuse),
            subject.store.change(run.id, break_down),
            subject.store.accept(build_run(), None, LIMITS),
            return_exceptions=True,
        )
        assert [type(result) for result in results[:2]] == [StageConflict, ValueError]
        assert await subject.store.get("demand", run.id) == run
        assert (await subject.store.counts())[Stage.BUFFERED] == 2

    async def test_s5_every_field_that_changes_is_kept(self, subject: StoreSubject) -> None:
        """A change of every field that may change is read back as it was decided."""
        run = await accepted(subject.store, build_run(tag="old"))
        soon = NOON + timedelta(microseconds=1)

        def change_all(before: Run) -> Run:
            return replace(
                before, stage=Stage.RUNNING, revision=7, last_modified=soon, tag="new", waiting=False, not_before=soon,
                sent_at=soon, job_uid="uid", attempt=3, counted_failures=2, transient_failures=1, first_started_at=soon,
                result_uri="uri", failure_cause="cause", failure_details="details",
            )  # fmt: skip

        after = (await subject.store.change(run.id, change_all)).after
        assert await subject.store.get("demand", run.id) == after == change_all(run)
        assert await subject.store.tagged("old", limit=9) == []
        assert await subject.store.tagged("new", limit=9) == [after]

    async def test_s6_a_tree_changes_in_one_step(self, subject: StoreSubject) -> None:
        """A cancel of a tree takes every descendant, parents first, and leaves the ancestors."""
        root = await accepted(subject.store, build_run())
        child = await accepted(subject.store, build_child(root))
        grandchildren = [await accepted(subject.store, build_child(child)) for _ in range(3)]
        ended = await accepted(subject.store, build_child(child))
        await subject.store.change(ended.id, finish)
        changes = await subject.store.change_tree(child.id, cancel)
        assert changes[0].before.id == child.id
        assert {change.after.id for change in changes if change.written} == {child.id, *(run.id for run in grandchildren)}
        assert not (await subject.store.get("demand", root.id)).stage.final
        assert (await subject.store.get("demand", ended.id)).stage is Stage.COMPLETED
        assert (await subject.store.counts())[Stage.CANCELLED] == 4

    async def test_s6_children_that_race_a_cancel_are_taken_or_refused(self, subject: StoreSubject) -> None:
        """Of children accepted while their tree is cancelled none is left alive."""
        root = await accepted(subject.store, build_run())
        attempts = [subject.store.accept(build_child(root), None, LIMITS) for _ in range(10)]
        attempts.insert(5, subject.store.change_tree(root.id, cancel))
        results = await asyncio.gather(*attempts, return_exceptions=True)
        assert {type(result) for result in results if isinstance(result, Exception)} <= {CancelledParent}
        tree = await subject.store.page(Filter(root_id=root.id), limit=99)
        assert {run.stage for run in tree} == {Stage.CANCELLED}

    async def test_s6_a_tree_changes_whole_or_not(self, subject: StoreSubject) -> None:
        """When the decision raises for one run of a tree, none is changed."""
        root = await accepted(subject.store, build_run())
        child = await accepted(subject.store, build_child(root))

        def refuse_child(run: Run) -> Run:
            if run.id == child.id:
                raise StageConflict("not this one")
            return cancel(run)

        with pytest.raises(StageConflict):
            await subject.store.change_tree(root.id, refuse_child)
        assert await subject.store.get("demand", root.id) == root
        assert (await subject.store.counts())[Stage.BUFFERED] == 2

    async def test_s7_unknown_runs_are_not_found(self, subject: StoreSubject) -> None:
        """An id nobody stored, or another algorithm's id, raises RunNotFound; find() gives None."""
        store, unknown = subject.store, make_id()
        run = await accepted(store, build_run())
        calls: list[Awaitable[Any]] = [
            store.get("demand", unknown),
            store.get("other", run.id),
            store.change(unknown, cancel),
            store.change_tree(unknown, cancel),
            store.inline_payload(unknown),
            store.record_late(unknown, Report(received_at=NOON)),
        ]
        for call in calls:
            with pytest.raises(RunNotFound):
                await call
        assert await store.find(unknown) is None

    async def test_s7_an_id_is_stored_once(self, subject: StoreSubject) -> None:
        """A second run of one id raises Conflict; the first, and what was accepted beside it, stay."""
        run = await accepted(subject.store, build_run())
        results = await asyncio.gather(
            *(subject.store.accept(build_run(id=run.id if index == 3 else None), b"{}", LIMITS) for index in range(20)),
            return_exceptions=True,
        )
        assert [index for index, result in enumerate(results) if isinstance(result, Conflict)] == [3]
        assert await subject.store.get("demand", run.id) == run
        assert (await subject.store.counts())[Stage.BUFFERED] == 20

    @settings(max_examples=20, deadline=None, suppress_health_check=STILL)
    @given(before=st.integers(0, 9), meanwhile=st.integers(0, 4), size=st.integers(1, 5))
    async def test_s8_pages_neither_skip_nor_repeat(self, subject: StoreSubject, before: int, meanwhile: int, size: int) -> None:
        """Pages of any size give each run that was there throughout once, newest first, while others come."""
        tag = make_id()
        runs = [await accepted(subject.store, build_run(tag=tag)) for _ in range(before)]
        seen: list[str] = []
        cursor = None
        while page := await subject.store.tagged(tag, limit=size, before=cursor):
            seen += [run.id for run in page]
            cursor = seen[-1]
            for _ in range(meanwhile):
                await accepted(subject.store, build_run(tag=tag))
        assert seen == [run.id for run in reversed(runs)]

    async def test_s8_filters_narrow_a_listing(self, subject: StoreSubject) -> None:
        """Each field of a filter, and several together, give the runs that match and no other."""
        store = subject.store
        one = await accepted(store, build_run(tag="t"))
        two = await accepted(store, build_run(algorithm="other", tag="t"))
        three = (await store.change((await accepted(store, build_run())).id, cancel)).after
        assert await store.page(Filter(), limit=9) == [three, two, one]
        assert await store.page(Filter(algorithm="demand"), limit=9) == [three, one]
        assert await store.page(Filter(stage=Stage.CANCELLED), limit=9) == [three]
        assert await store.page(Filter(stage=Stage.BUFFERED), limit=9) == [two, one]
        assert await store.page(Filter(tag="t", algorithm="other"), limit=9) == [two]
        assert await store.page(Filter(), limit=1, before=two.id) == [one]

    async def test_s8_a_cursor_nobody_gave_is_refused(self, subject: StoreSubject) -> None:
        """A cursor that is no run raises InvalidInput instead of an empty page."""
        with pytest.raises(InvalidInput, match="`nothing`"):
            await subject.store.page(Filter(), limit=9, before="nothing")

    @settings(max_examples=20, deadline=None, suppress_health_check=STILL)
    @given(wanted=st.lists(st.tuples(st.none() | st.integers(-2, 2), st.booleans()), max_size=8), limit=st.integers(1, 9))
    async def test_s9_waiting_runs_that_are_due(
        self, subject: StoreSubject, wanted: list[tuple[int | None, bool]], limit: int
    ) -> None:
        """waiting() gives exactly the due ones, oldest first, none of those excluded, up to the limit."""
        store = subject.store
        runs = []
        for delay, _ in wanted:
            run = await accepted(store, build_run())
            due_at = None if delay is None else NOON + timedelta(seconds=delay)
            runs.append((await store.change(run.id, lambda before, at=due_at: lifecycle.touch(before, NOON, not_before=at))).after)
        exclude = {run.id for run, (_, excluded) in zip(runs, wanted, strict=True) if excluded}
        due = [run for run in runs if (run.not_before is None or run.not_before <= NOON) and run.id not in exclude]
        assert await store.waiting(NOON, limit=limit, exclude=sorted(exclude)) == due[:limit]
        for run in runs:
            await store.change(run.id, cancel)
        assert await store.waiting(NOON + timedelta(days=1), limit=limit) == []

    async def test_s9_a_retry_waits_like_any_other(self, subject: StoreSubject) -> None:
        """A RUNNING run between two attempts is waiting, and not among running()."""
        run = await accepted(subject.store, build_run())
        await subject.store.change(run.id, start)
        between = (await subject.store.change(run.id, lambda before: lifecycle.touch(before, NOON, waiting=True))).after
        assert await subject.store.waiting(NOON, limit=9) == [between]
        assert await subject.store.running() == []

    async def test_s10_every_field_is_kept(self, subject: StoreSubject) -> None:
        """Times keep their microseconds, bytes stay bytes, and every field comes back as it was given."""
        run = build_run(
            stage=Stage.RUNNING, last_modified=NOON + timedelta(microseconds=7), tag="täg/with space", dry_run=True,
            overrides=b'{"z": 1,  "a": 12345678901234567890}', idempotency_key="k", fingerprint=b"\x00\xff",
            payload=Payload(size_bytes=5 << 30, object_key="payloads/x", offset=77), payload_valid_for=timedelta(microseconds=1),
            waiting=False, not_before=NOON, sent_at=NOON, job_uid="u", attempt=2, counted_failures=1, transient_failures=1,
            first_started_at=NOON, result_uri="r", failure_cause="c", failure_details="d", revision=4, content_hash="",
            api_version="",
        )  # fmt: skip
        await subject.store.accept(run, None, LIMITS)
        assert await subject.store.get("demand", run.id) == run
        assert await subject.store.inline_payload(run.id) == b""

    @pytest.mark.parametrize("size", [0, 1, 1024, 1025, 131_072])
    async def test_s10_payloads_keep_their_bytes(self, subject: StoreSubject, size: int) -> None:
        """A payload of any size comes back byte for byte, whatever bytes it has, also after changes of the run."""
        payload = bytes(index % 251 for index in range(size))
        run = await accepted(subject.store, build_run(), payload)
        await subject.store.change(run.id, finish)
        assert await subject.store.inline_payload(run.id) == payload

    async def test_s11_a_late_report_changes_nothing(self, subject: StoreSubject) -> None:
        """Late reports are kept in order beside the run, which stays as it is."""
        run = await accepted(subject.store, build_run())
        ended = (await subject.store.change(run.id, cancel)).after
        reports = [Report(received_at=NOON, result_uri="late"), Report(received_at=NOON, error_cause="c", error_details="d")]
        for report in reports:
            await subject.store.record_late(run.id, report)
        assert await subject.store.late_reports(run.id) == reports
        assert await subject.store.get("demand", run.id) == ended
        assert await subject.store.late_reports(make_id()) == []

    async def test_s13_an_end_and_what_follows_are_one_step(self, subject: StoreSubject) -> None:
        """How an attempt ended is kept with the change of its run; a decision that refuses leaves neither."""
        run = await accepted(subject.store, build_run())
        change = await subject.store.end_attempt(end(run, 1), finish)
        assert change.written
        assert await subject.store.get("demand", run.id) == change.after
        assert change.after.stage is Stage.COMPLETED
        assert await subject.store.attempts(run.id, limit=9) == [end(run, 1)]
        with pytest.raises(StageConflict):
            await subject.store.end_attempt(end(run, 2), lambda each: lifecycle.advance(each, Stage.RUNNING, NOON))
        with pytest.raises(RunNotFound):
            await subject.store.end_attempt(end(build_run(), 1), finish)
        assert await subject.store.attempts(run.id, limit=9) == [end(run, 1)]
        assert await subject.store.attempts(make_id(), limit=9) == []

    async def test_s13_every_field_of_an_end_is_kept(self, subject: StoreSubject) -> None:
        """Kinds, times with their microseconds, codes, signals and figures are read as they were told, by the next process too."""
        run = await accepted(subject.store, build_run())
        began = NOON - timedelta(hours=1, microseconds=3)
        ends = [
            end(
                run,
                number,
                kind=kind,
                code=None,
                signal=9,
                started_at=began,
                detail="x\ny\u00fc",
                peak_memory_bytes=1 << 40,
                cpu_s=0.25,
            )
            for number, kind in enumerate(ExitKind, 1)
        ]
        for each in reversed(ends):
            assert not (await subject.store.end_attempt(each, lambda run: run)).written
        assert await subject.store.attempts(run.id, limit=99) == ends
        assert await (await subject.reopen()).attempts(run.id, limit=99) == ends

    async def test_s13_the_first_end_of_an_attempt_stays(self, subject: StoreSubject) -> None:
        """An end told again changes nothing of what is kept; the decision sees the run all the same."""
        run = await accepted(subject.store, build_run())
        await subject.store.end_attempt(end(run, 1), lambda run: run)
        change = await subject.store.end_attempt(end(run, 1, kind=ExitKind.LOST, code=None), start)
        assert change.written
        assert await subject.store.attempts(run.id, limit=9) == [end(run, 1)]

    async def test_s13_the_newest_of_many_attempts(self, subject: StoreSubject) -> None:
        """With a limit the newest are given, in the order of their numbers."""
        run, other = await accepted(subject.store, build_run()), await accepted(subject.store, build_run())
        for number in range(1, 13):
            await subject.store.end_attempt(end(run, number), lambda run: run)
        await subject.store.end_attempt(end(other, 1), lambda run: run)
        assert [each.attempt for each in await subject.store.attempts(run.id, limit=3)] == [10, 11, 12]

    async def test_s13_an_unprintable_detail_is_kept_as_far_as_it_goes(self, subject: StoreSubject) -> None:
        """What an engine tells must not keep a run from ending: a text that is no Unicode is kept with marks in it."""
        run = await accepted(subject.store, build_run())
        await subject.store.end_attempt(end(run, 1, detail="a\ud800b"), finish)
        assert (await subject.store.get("demand", run.id)).stage is Stage.COMPLETED
        assert (await subject.store.attempts(run.id, limit=1))[0].exit.detail == "a?b"

    async def test_s12_a_full_disk_refuses_and_recovers(self, subject: StoreSubject) -> None:
        """On a full disk accept() raises NoSpace and keeps nothing; reads go on, and with room so do writes."""
        store = subject.store
        kept = await accepted(store, build_run())
        await subject.fill()
        refused: list[Run] = []
        for _ in range(600):
            run = build_run()
            try:
                await accepted(store, run, b"x" * 16_000)
            except NoSpace:
                refused.append(run)
                if len(refused) == 3:
                    break
        assert len(refused) == 3, "the disk never became full"
        for run in refused:
            assert await store.find(run.id) is None
        assert await store.get("demand", kept.id) == kept
        await subject.make_room()
        after = await accepted(store, build_run(), b"y" * 16_000)
        assert (await store.change(kept.id, start)).written
        store = await subject.reopen()
        assert await store.inline_payload(after.id) == b"y" * 16_000
        for run in refused:
            assert await store.find(run.id) is None
