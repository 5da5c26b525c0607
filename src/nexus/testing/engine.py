"""The in-memory twin of the engine: attempts that are values, ended by the test or by a script, in virtual time.

A `FakeMachine` is what outlives the service: give the same one to the next `FakeEngine` and it finds its attempts. Nothing
happens by itself: `finish`, `write` and `tick` make it happen.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from nexus.kernel.clock import Clock
from nexus.runs.model import Exit, ExitKind
from nexus.runs.ports import Absent, Alive, Ended, Launch, LaunchFailed

LOG_LIMIT_BYTES = 1 << 16
SETTLE_S = 10.0  # an end that was told this long ago is not told again at a start
_LEFT_OUT = b"\n[nexus: %d bytes left out here]\n"
Key = tuple[str, int]


class _Attempt:
    def __init__(self, launch: Launch, uid: str, clock: Clock) -> None:
        self.launch = launch
        self.uid = uid
        self.started_at = clock.now()
        self.began = clock.monotonic()
        self.exit: Exit | None = None
        self.told: float | None = None  # when a listener heard of the end first
        self.logs = {"stdout": b"", "stderr": b""}


class FakeMachine:
    """Attempts, whichever engine started them. ``launched``: every start, in order."""

    def __init__(self) -> None:
        self.launched: list[Launch] = []
        self.attempts: dict[Key, _Attempt] = {}
        self.cancelled: set[Key] = set()


class FakeEngine:
    """An engine whose attempts run until they are ended.

    *script* is called with the engine and each launch as it starts, and may call `finish` or `write`. ``failures``: raised by
    the next calls of create(), first one first. ``prepared``: arguments of prepare().
    """

    def __init__(
        self,
        clock: Clock,
        machine: FakeMachine | None = None,
        script: Callable[[FakeEngine, Launch], None] | None = None,
    ) -> None:
        self.machine = machine or FakeMachine()
        self.failures: list[LaunchFailed] = []
        self.prepared: list[dict[str, str]] = []
        self._clock = clock
        self._script = script
        self._on_end: Callable[[Ended], None] | None = None

    # ── the port ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, on_end: Callable[[Ended], None]) -> None:
        """Begins telling of ends, those that nobody heard of, or only just, first."""
        self._on_end = on_end
        now = self._clock.monotonic()
        for key, attempt in self.machine.attempts.items():
            if attempt.exit is not None and (attempt.told is None or now - attempt.told < SETTLE_S):
                self._tell(key, attempt)

    async def stop(self) -> None:
        """Ends telling; attempts go on."""
        self._on_end = None

    async def prepare(self, local: dict[str, str]) -> None:
        """Takes note."""
        self.prepared.append(dict(local))

    async def create(self, launch: Launch) -> str:
        """Starts the attempt, once. Raises what the test put into ``failures``."""
        key = (launch.run_id, launch.attempt)
        known = self.machine.attempts.get(key)
        if known is not None:
            return known.uid
        if self.failures:
            raise self.failures.pop(0)
        attempt = _Attempt(launch, f"fake-{len(self.machine.launched) + 1}", self._clock)
        self.machine.attempts[key] = attempt
        if key in self.machine.cancelled:
            self.finish(*key, kind=ExitKind.CANCELLED)
            return attempt.uid
        self.machine.launched.append(launch)
        if self._script is not None:
            self._script(self, launch)
        self.tick()
        return attempt.uid

    async def status(self, run_id: str, attempt: int) -> Alive | Ended | Absent:
        """Where the attempt stands."""
        known = self.machine.attempts.get((run_id, attempt))
        if known is None:
            return Absent()
        if known.exit is None:
            return Alive(uid=known.uid, started_at=known.started_at)
        return Ended(run_id=run_id, attempt=attempt, exit=known.exit)

    async def live(self) -> list[tuple[str, int]]:
        """Every attempt that has not ended."""
        return [key for key, known in self.machine.attempts.items() if known.exit is None]

    async def old(self, before: datetime) -> list[tuple[str, int]]:
        """Every attempt that ended before that moment and was not forgotten."""
        return [key for key, known in self.machine.attempts.items() if known.exit is not None and known.exit.ended_at < before]

    async def cancel(self, run_id: str, attempt: int) -> None:
        """Ends the attempt; one that has not begun will not."""
        known = self.machine.attempts.get((run_id, attempt))
        if known is None:
            self.machine.cancelled.add((run_id, attempt))
        elif known.exit is None:
            self.finish(run_id, attempt, kind=ExitKind.CANCELLED)

    async def log(self, run_id: str, attempt: int, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """What was written, bounded as the port says."""
        if stream not in ("stdout", "stderr"):
            raise ValueError(f"`{stream}` is no stream; there are `stdout` and `stderr`")
        known = self.machine.attempts.get((run_id, attempt))
        return _bounded(known.logs[stream])[offset : offset + limit] if known else b""

    async def forget(self, run_id: str) -> None:
        """Removes the run's ended attempts."""
        for key, known in list(self.machine.attempts.items()):
            if key[0] == run_id and known.exit is not None:
                del self.machine.attempts[key]
        self.machine.cancelled -= {key for key in self.machine.cancelled if key[0] == run_id}

    # ── what the test does ────────────────────────────────────────────────────────────────────────────────────────────

    def finish(
        self,
        run_id: str,
        attempt: int | None = None,
        *,
        kind: ExitKind = ExitKind.EXITED,
        code: int | None = None,
        signal: int | None = None,
        detail: str = "",
    ) -> None:
        """Ends an attempt (the newest when none is named). EXITED has code 0 unless one is given; an ended one stays as it is."""
        number = attempt if attempt is not None else max(n for name, n in self.machine.attempts if name == run_id)
        known = self.machine.attempts[run_id, number]
        if known.exit is not None:
            return
        known.exit = Exit(
            kind=kind,
            code=(code or 0) if kind is ExitKind.EXITED else None,
            signal=signal,
            detail=detail,
            started_at=known.started_at,
            ended_at=max(self._clock.now(), known.started_at),
        )
        self._tell((run_id, number), known)

    def _tell(self, key: Key, known: _Attempt) -> None:
        if self._on_end is not None and known.exit is not None:
            if known.told is None:
                known.told = self._clock.monotonic()
            self._on_end(Ended(run_id=key[0], attempt=key[1], exit=known.exit))

    def write(self, run_id: str, data: bytes, *, stream: str = "stdout", attempt: int = 1) -> None:
        """Lets an attempt print."""
        self.machine.attempts[run_id, attempt].logs[stream] += data

    def tick(self) -> None:
        """Ends the attempts whose deadline has passed on the clock."""
        now = self._clock.monotonic()
        for (run_id, number), known in list(self.machine.attempts.items()):
            deadline_s = known.launch.deadline_s
            if known.exit is None and deadline_s is not None and now - known.began >= deadline_s:
                self.finish(run_id, number, kind=ExitKind.DEADLINE, detail=f"still running at its deadline, {deadline_s:g} s")

    def alive(self) -> list[Launch]:
        """Launches that have not ended, oldest first."""
        return [known.launch for known in self.machine.attempts.values() if known.exit is None]


class FakeProgram(msgspec.Struct, frozen=True, kw_only=True):
    """A script for `FakeEngine`: ends each start with ``kind`` and ``code`` after printing ``stdout``."""

    kind: ExitKind = ExitKind.EXITED
    code: int = 0
    stdout: bytes = b""

    def __call__(self, engine: FakeEngine, launch: Launch) -> None:
        engine.write(launch.run_id, self.stdout, attempt=launch.attempt)
        engine.finish(launch.run_id, launch.attempt, kind=self.kind, code=self.code)


def _bounded(text: bytes) -> bytes:
    if len(text) <= LOG_LIMIT_BYTES:
        return text
    half = LOG_LIMIT_BYTES // 2
    return text[:half] + _LEFT_OUT % (len(text) - 2 * half) + text[-half:]
