"""The in-memory twin keeps the promises of the engine port."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from nexus.runs.model import ExitKind
from nexus.runs.ports import Ended, Launch, LaunchFailed
from nexus.testing.engine import LOG_LIMIT_BYTES, SETTLE_S, FakeEngine, FakeMachine, FakeProgram
from nexus.testing.suites.engine import SAID, EngineSuite


class ManualClock:
    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return self.passed_s


def play(engine: FakeEngine, launch: Launch) -> None:
    """What the suite's programs do, told to the fake."""
    program, run_id = launch.argv[0], launch.run_id
    if program.startswith("exit:"):
        engine.finish(run_id, launch.attempt, code=int(program[5:]))
    elif program == "say":
        engine.write(run_id, SAID)
        engine.write(run_id, SAID[::-1], stream="stderr")
        engine.finish(run_id)
    elif program == "flood":
        engine.write(run_id, b"first line\n" + b"x" * 5 * LOG_LIMIT_BYTES + b"last line\n")
        engine.finish(run_id)
    elif program == "hog":
        engine.finish(run_id, kind=ExitKind.OUT_OF_MEMORY, detail=f"its limit is {launch.memory_bytes} bytes")


class FakeSubject:
    log_limit_bytes = LOG_LIMIT_BYTES

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.machine = FakeMachine()
        self.engine = FakeEngine(self.clock, self.machine, play)
        self.ends: list[Ended] = []

    def launch(self, program: str, *, attempt: int = 1, run_id: str = "", **limits: float | None) -> Launch:
        if program == "missing":
            self.engine.failures.append(LaunchFailed("the command `missing` was not found"))
        return Launch(run_id=run_id or str(uuid.uuid4()), algorithm="a", attempt=attempt, argv=(program,), environment={}, **limits)

    async def restart(self) -> None:
        await self.engine.stop()
        self.ends.clear()
        self.engine = FakeEngine(self.clock, self.machine, play)
        await self.engine.start(self.ends.append)

    async def ended(self, run_id: str, attempt: int = 1) -> Ended:
        return next(end for end in self.ends if (end.run_id, end.attempt) == (run_id, attempt))

    async def begun(self, run_id: str) -> None:
        """It begins at once."""

    def has_begun(self, run_id: str) -> bool:
        return True

    async def pass_time(self, seconds: float) -> None:
        self.clock.passed_s += seconds
        self.engine.tick()

    async def settled(self) -> None:
        self.clock.passed_s += SETTLE_S

    def heard(self, run_id: str) -> list[Ended]:
        return [end for end in self.ends if end.run_id == run_id]

    def starts(self, run_id: str) -> int:
        return sum(launch.run_id == run_id for launch in self.machine.launched)

    def processes(self, run_id: str) -> int:
        return sum(launch.run_id == run_id for launch in self.engine.alive())


@pytest.fixture
async def subject() -> FakeSubject:
    made = FakeSubject()
    await made.engine.start(made.ends.append)
    return made


class TestFakeEngine(EngineSuite):
    """The suite, on the twin."""


async def test_a_program_ends_each_start() -> None:
    """A script given to the twin ends attempts by itself, after printing."""
    engine = FakeEngine(ManualClock(), script=FakeProgram(code=3, stdout=b"hello"))
    ends: list[Ended] = []
    await engine.start(ends.append)
    await engine.create(Launch(run_id="r", algorithm="a", attempt=1, argv=("x",), environment={}))
    assert [end.exit.code for end in ends] == [3]
    assert await engine.log("r", 1, "stdout") == b"hello"
