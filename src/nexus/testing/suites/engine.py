"""The suite of the engine port: one group of tests a promise (E1–E9), run on every engine and on its in-memory twin.

Subclass `EngineSuite` in a test module and give it a fixture `subject` that is an `EngineSubject`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Protocol

from nexus.runs.model import ExitKind
from nexus.runs.ports import Absent, Alive, Ended, Engine, Launch, LaunchFailed

LATER = datetime(9000, 1, 1, tzinfo=UTC)
SAID = b"plain \x00\xff\xfe\r\n\x1b[31m"
"""What the program ``say`` prints on stdout; on stderr it prints this reversed."""


class EngineSubject(Protocol):
    """An engine under test, with programs it can run and a listener that remembers.

    Programs: ``exit:N`` ends with code N; ``wait`` and ``family`` run until they are ended, ``family`` with descendants, one
    of them detached; ``deaf`` is ``wait`` that ignores SIGTERM; ``say`` prints `SAID`; ``flood`` prints several times the log's
    limit, then ends; ``hog`` takes more memory than ``memory_bytes`` of its launch; ``missing`` does not exist.
    """

    log_limit_bytes: int

    @property
    def engine(self) -> Engine: ...

    def launch(
        self, program: str, *, attempt: int = 1, run_id: str = "", deadline_s: float | None = None, memory_bytes: int | None = None
    ) -> Launch:
        """A launch of that program, of a run of its own unless one is named."""
        ...

    async def restart(self) -> None:
        """The service ends and comes back on what it left; the listener forgets."""
        ...

    async def ended(self, run_id: str, attempt: int = 1) -> Ended:
        """Waits until the listener has heard of the end."""
        ...

    async def begun(self, run_id: str) -> None:
        """Waits until the program has started all it starts."""
        ...

    def has_begun(self, run_id: str) -> bool:
        """Whether the program has started all it starts."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Lets time pass where time is virtual."""
        ...

    async def settled(self) -> None:
        """Lets so much time pass that what ended is no longer what ended just now."""
        ...

    def heard(self, run_id: str) -> list[Ended]: ...

    def starts(self, run_id: str) -> int:
        """How often the run's program was really started."""
        ...

    def processes(self, run_id: str) -> int:
        """How many processes the run's attempts still have."""
        ...


class EngineSuite:
    """The promises of `nexus.runs.ports.Engine`."""

    async def test_e1_second_create_returns_the_same_uid(self, subject: EngineSubject) -> None:
        """E1: creating an attempt again returns its uid and starts nothing."""
        launch = subject.launch("wait")
        first = await subject.engine.create(launch)
        await subject.begun(launch.run_id)
        assert await subject.engine.create(launch) == first
        assert subject.starts(launch.run_id) == 1

    async def test_e1_concurrent_creates_start_once(self, subject: EngineSubject) -> None:
        """E1: creates of one attempt that race start it once and agree on its uid."""
        launch = subject.launch("wait")
        uids = await asyncio.gather(*(subject.engine.create(launch) for _ in range(8)))
        await subject.begun(launch.run_id)
        assert len(set(uids)) == 1
        assert subject.starts(launch.run_id) == 1

    async def test_e1_holds_after_a_restart(self, subject: EngineSubject) -> None:
        """E1: the next service, creating the attempt again, gets the same uid and starts nothing, alive or ended."""
        running, over = subject.launch("wait"), subject.launch("exit:0")
        uids = [await subject.engine.create(running), await subject.engine.create(over)]
        await subject.begun(running.run_id)
        await subject.ended(over.run_id)
        await subject.restart()
        assert [await subject.engine.create(running), await subject.engine.create(over)] == uids
        assert [subject.starts(running.run_id), subject.starts(over.run_id)] == [1, 1]

    async def test_e1_attempts_are_separate(self, subject: EngineSubject) -> None:
        """E1: a second attempt of a run is another start, with an end of its own."""
        first = subject.launch("exit:3")
        await subject.engine.create(first)
        await subject.ended(first.run_id, 1)
        await subject.engine.create(subject.launch("exit:0", run_id=first.run_id, attempt=2))
        assert (await subject.ended(first.run_id, 2)).exit.code == 0
        assert (await subject.ended(first.run_id, 1)).exit.code == 3

    async def test_e2_never_absent_once_created(self, subject: EngineSubject) -> None:
        """E2: before create() an attempt is Absent, afterwards never."""
        launch = subject.launch("wait")
        assert isinstance(await subject.engine.status(launch.run_id, 1), Absent)
        uid = await subject.engine.create(launch)
        status = await subject.engine.status(launch.run_id, 1)
        assert isinstance(status, Alive)
        assert status.uid == uid
        assert (launch.run_id, 1) in await subject.engine.live()

    async def test_e2_a_command_that_does_not_exist_is_refused(self, subject: EngineSubject) -> None:
        """E2: create() raises LaunchFailed, permanent, for a command nobody has, and has taken nothing."""
        launch = subject.launch("missing")
        failure = await _refused(subject.engine.create(launch))
        assert failure.permanent
        assert failure.cause
        assert isinstance(await subject.engine.status(launch.run_id, 1), Absent)

    async def test_e3_one_exit_until_forgotten(self, subject: EngineSubject) -> None:
        """E3: an ended attempt keeps giving the same Exit until it is forgotten."""
        launch = subject.launch("exit:7")
        await subject.engine.create(launch)
        end = await subject.ended(launch.run_id)
        assert (end.exit.kind, end.exit.code) == (ExitKind.EXITED, 7)
        assert end.exit.started_at is not None
        assert end.exit.ended_at >= end.exit.started_at
        assert await subject.engine.status(launch.run_id, 1) == end
        await subject.restart()
        assert await subject.engine.status(launch.run_id, 1) == end
        await subject.engine.forget(launch.run_id)
        assert isinstance(await subject.engine.status(launch.run_id, 1), Absent)
        assert (launch.run_id, 1) not in await subject.engine.old(LATER)

    async def test_e3_forget_leaves_what_is_alive(self, subject: EngineSubject) -> None:
        """E3: forgetting a run does not touch an attempt that is alive."""
        launch = subject.launch("wait")
        await subject.engine.create(launch)
        await subject.begun(launch.run_id)
        await subject.engine.forget(launch.run_id)
        assert isinstance(await subject.engine.status(launch.run_id, 1), Alive)
        assert (launch.run_id, 1) in await subject.engine.live()

    async def test_e4_the_listener_hears_every_end(self, subject: EngineSubject) -> None:
        """E4: the listener hears of each end, with the code of each."""
        launches = [subject.launch(f"exit:{code}") for code in (0, 1, 3, 137, 255)]
        await asyncio.gather(*(subject.engine.create(launch) for launch in launches))
        ends = [await subject.ended(launch.run_id) for launch in launches]
        assert [end.exit.code for end in ends] == [0, 1, 3, 137, 255]

    async def test_e4_a_restart_learns_of_missed_ends(self, subject: EngineSubject) -> None:
        """E4: the next service hears of, and can ask for, an end that came before it."""
        launch = subject.launch("exit:4")
        await subject.engine.create(launch)
        await subject.ended(launch.run_id)
        await subject.restart()
        assert (await subject.ended(launch.run_id)).exit.code == 4

    async def test_e5_cancel_ends_everything(self, subject: EngineSubject) -> None:
        """E5: a cancelled attempt ends as CANCELLED, and so does all that it started; a second cancel changes nothing."""
        launch = subject.launch("family")
        await subject.engine.create(launch)
        await subject.begun(launch.run_id)
        await asyncio.gather(subject.engine.cancel(launch.run_id, 1), subject.engine.cancel(launch.run_id, 1))
        end = await subject.ended(launch.run_id)
        assert end.exit.kind is ExitKind.CANCELLED
        assert subject.processes(launch.run_id) == 0
        await subject.engine.cancel(launch.run_id, 1)
        assert await subject.engine.status(launch.run_id, 1) == end

    async def test_e5_cancel_ends_the_deaf(self, subject: EngineSubject) -> None:
        """E5: a program that ignores SIGTERM is ended all the same."""
        launch = subject.launch("deaf")
        await subject.engine.create(launch)
        await subject.begun(launch.run_id)
        await subject.engine.cancel(launch.run_id, 1)
        assert (await subject.ended(launch.run_id)).exit.kind is ExitKind.CANCELLED
        assert subject.processes(launch.run_id) == 0

    async def test_e5_cancel_of_an_ended_attempt_does_nothing(self, subject: EngineSubject) -> None:
        """E5: an attempt that ended by itself stays as it ended."""
        launch = subject.launch("exit:0")
        await subject.engine.create(launch)
        end = await subject.ended(launch.run_id)
        await subject.engine.cancel(launch.run_id, 1)
        assert await subject.engine.status(launch.run_id, 1) == end

    async def test_e5_what_is_cancelled_before_its_start_never_starts(self, subject: EngineSubject) -> None:
        """E5: an attempt that was cancelled before it was created ends as CANCELLED without being started."""
        launch = subject.launch("wait")
        await subject.engine.cancel(launch.run_id, 1)
        await subject.engine.create(launch)
        assert (await subject.ended(launch.run_id)).exit.kind is ExitKind.CANCELLED
        assert subject.starts(launch.run_id) == 0

    async def test_e6_deadline(self, subject: EngineSubject) -> None:
        """E6: at its deadline an attempt ends, with everything it started."""
        for deadline_s in (1.0, 5.0, 25.0):  # a slow machine is given more time to start it all
            launch = subject.launch("family", deadline_s=deadline_s)
            await subject.engine.create(launch)
            await subject.pass_time(deadline_s)
            assert (await subject.ended(launch.run_id)).exit.kind is ExitKind.DEADLINE
            assert subject.processes(launch.run_id) == 0
            if subject.has_begun(launch.run_id):
                return
        raise AssertionError("no attempt came to start all it starts")

    async def test_e6_memory(self, subject: EngineSubject) -> None:
        """E6: past its memory limit an attempt ends, and says how much it held."""
        launch = subject.launch("hog", memory_bytes=64 << 20)
        await subject.engine.create(launch)
        end = await subject.ended(launch.run_id)
        assert end.exit.kind is ExitKind.OUT_OF_MEMORY
        assert str(64 << 20) in end.exit.detail
        assert subject.processes(launch.run_id) == 0

    async def test_e7_attempts_outlive_the_service(self, subject: EngineSubject) -> None:
        """E7: the next service sees a running attempt as Alive under the same uid, and can cancel it."""
        launch = subject.launch("family")
        uid = await subject.engine.create(launch)
        await subject.begun(launch.run_id)
        await subject.restart()
        status = await subject.engine.status(launch.run_id, 1)
        assert isinstance(status, Alive)
        assert status.uid == uid
        assert (launch.run_id, 1) in await subject.engine.live()
        await subject.engine.cancel(launch.run_id, 1)
        assert (await subject.ended(launch.run_id)).exit.kind is ExitKind.CANCELLED
        assert subject.processes(launch.run_id) == 0

    async def test_e8_logs_keep_their_bytes(self, subject: EngineSubject) -> None:
        """E8: both streams are kept byte for byte, can be read in pieces, and are gone once forgotten."""
        launch = subject.launch("say")
        await subject.engine.create(launch)
        await subject.ended(launch.run_id)
        engine = subject.engine
        assert await engine.log(launch.run_id, 1, "stdout") == SAID
        assert await engine.log(launch.run_id, 1, "stderr") == SAID[::-1]
        assert await engine.log(launch.run_id, 1, "stdout", offset=2, limit=3) == SAID[2:5]
        assert await engine.log(launch.run_id, 1, "stdout", offset=len(SAID)) == b""
        await engine.forget(launch.run_id)
        assert await engine.log(launch.run_id, 1, "stdout") == b""
        assert await engine.log(str(uuid.uuid4()), 1, "stdout") == b""

    async def test_e8_logs_are_bounded(self, subject: EngineSubject) -> None:
        """E8: of a flood the head and the newest tail are kept, and a line between them says how much was left out."""
        launch = subject.launch("flood")
        await subject.engine.create(launch)
        assert (await subject.ended(launch.run_id)).exit.code == 0
        text = await subject.engine.log(launch.run_id, 1, "stdout", limit=10 * subject.log_limit_bytes)
        assert len(text) <= subject.log_limit_bytes + 100
        assert text.startswith(b"first line\n")
        assert text.endswith(b"last line\n")
        assert b" bytes left out here]\n" in text

    async def test_e9_what_ended_is_old_from_then_on(self, subject: EngineSubject) -> None:
        """E9: an attempt that ended is found by any later moment and by none that was before, also by the next service."""
        over, alive = subject.launch("exit:0"), subject.launch("wait")
        await subject.engine.create(alive)
        await subject.engine.create(over)
        end = await subject.ended(over.run_id)
        await subject.settled()
        for _ in range(2):
            assert await subject.engine.old(LATER) == [(over.run_id, 1)]
            assert await subject.engine.old(end.exit.ended_at) == []
            assert await subject.engine.live() == [(alive.run_id, 1)]
            await subject.restart()

    async def test_e9_a_start_is_told_nothing_of_what_is_settled(self, subject: EngineSubject) -> None:
        """E9: what ended and was heard of a while ago is kept and looked at no more: the next service hears nothing of it."""
        launch = subject.launch("exit:0")
        await subject.engine.create(launch)
        end = await subject.ended(launch.run_id)
        await subject.settled()
        await subject.restart()
        assert subject.heard(launch.run_id) == []
        assert await subject.engine.status(launch.run_id, 1) == end


async def _refused(create: Awaitable[str]) -> LaunchFailed:
    try:
        uid = await create
    except LaunchFailed as failure:
        return failure
    raise AssertionError(f"a command that does not exist was started as {uid}")
