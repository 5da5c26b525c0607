"""A process engine under test: real processes in a folder of its own, programs for the suite, a listener that remembers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

from nexus.adapters.environments import Environments
from nexus.adapters.process import watch
from nexus.adapters.process.engine import ProcessEngine
from nexus.kernel.clock import SystemClock
from nexus.runs.ports import Ended, Launch
from nexus.testing.suites.engine import SAID

LOG_LIMIT_BYTES = 256 << 10
PATIENCE_S = 90.0

_STARTED = 'echo started >> "$NEXUS_TEST_STARTS"; '
_READY = 'echo ready >> "$NEXUS_TEST_READY"; '
_DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(os.environ["NEXUS_TEST_READY"], "a").write("ready\\n")
        time.sleep(600)
    os._exit(0)
os.wait()
open(os.environ["NEXUS_TEST_READY"], "a").write("ready\\n")
time.sleep(600)
"""
_SAY = f"import os; os.write(1, {SAID!r}); os.write(2, {SAID[::-1]!r})"
_FLOOD = f"""
import os
os.write(1, b'first line\\n')
for _ in range({5 * LOG_LIMIT_BYTES >> 14}):
    os.write(1, b'x' * (1 << 14))
os.write(1, b'last line\\n')
"""
_HOG = "import time\nheld = []\nwhile True:\n    held.append(b'x' * (8 << 20)); time.sleep(0.02)"


def sh(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", _STARTED + script)


def python(code: str) -> tuple[str, ...]:
    return (*sh(f'exec "{sys.executable}" -I -S -c "$0"'), code)


PROGRAMS: dict[str, tuple[tuple[str, ...], int]] = {  # argv, and how many lines "ready" mean it has begun
    "wait": (sh(_READY + "exec sleep 600"), 1),
    "deaf": (sh("trap '' TERM; " + _READY + "sleep 600; sleep 600"), 1),
    "family": (python(_DAEMON), 2),
    "say": (python(_SAY), 0),
    "flood": (python(_FLOOD), 0),
    "hog": (python(_HOG), 0),
    "missing": (("no-such-command-anywhere",), 0),
}


class ProcessSubject:
    log_limit_bytes = LOG_LIMIT_BYTES

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.options = options
        self.ends: list[Ended] = []
        self._news = asyncio.Event()
        self._ready: dict[str, int] = {}
        self.engine = self._made()

    def _made(self) -> ProcessEngine:
        options = {"log_limit_bytes": LOG_LIMIT_BYTES, "grace_s": 0.3, **self.options}
        return ProcessEngine(self.folder / "engine", Environments(self.folder / "environments"), SystemClock(), **options)

    async def start(self) -> None:
        await self.engine.start(self._hear)

    async def close(self) -> None:
        """Ends the engine and, by pid, every process its attempts still have."""
        await self.engine.stop()
        for run_id in self._ready:
            self.kill(run_id)

    def kill(self, run_id: str) -> None:
        """SIGKILL to every process of a run; one may end by the death of another."""
        for pid in self.pids(run_id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _hear(self, end: Ended) -> None:
        self.ends.append(end)
        self._news.set()

    def launch(self, program: str, *, attempt: int = 1, run_id: str = "", **limits: Any) -> Launch:
        argv, ready = (sh(f"exit {program[5:]}"), 0) if program.startswith("exit:") else PROGRAMS[program]
        return self.launch_argv(argv, attempt=attempt, run_id=run_id, ready=ready, **limits)

    def launch_argv(self, argv: tuple[str, ...], *, attempt: int = 1, run_id: str = "", ready: int = 0, **more: Any) -> Launch:
        run_id = run_id or str(uuid.uuid4())
        self._ready[run_id] = ready
        environment = {
            "NEXUS_TEST_STARTS": str(self.folder / f"{run_id}.starts"),
            "NEXUS_TEST_READY": str(self.folder / f"{run_id}.ready"),
            **more.pop("environment", {}),
        }
        return Launch(run_id=run_id, algorithm="a", attempt=attempt, argv=argv, environment=environment, **more)

    async def restart(self) -> None:
        await self.engine.stop()
        self.ends.clear()
        self.engine = self._made()
        await self.start()

    async def ended(self, run_id: str, attempt: int = 1) -> Ended:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                self._news.clear()
                for end in self.ends:
                    if (end.run_id, end.attempt) == (run_id, attempt):
                        return end
                await self._news.wait()

    async def begun(self, run_id: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not self.has_begun(run_id):
                await asyncio.sleep(0.01)

    def has_begun(self, run_id: str) -> bool:
        return self._lines(run_id, "ready") >= self._ready[run_id]

    async def pass_time(self, seconds: float) -> None:
        """It passes by itself."""

    async def settled(self) -> None:
        await self.engine._settle(asyncio.get_running_loop().time())

    def heard(self, run_id: str) -> list[Ended]:
        return [end for end in self.ends if end.run_id == run_id]

    def starts(self, run_id: str) -> int:
        return self._lines(run_id, "starts")

    def processes(self, run_id: str) -> int:
        return len(self.pids(run_id))

    def pids(self, run_id: str) -> list[int]:
        return [pid for attempt in (1, 2) for pid in watch.marked(f"{run_id}.{attempt}")]

    def _lines(self, run_id: str, kind: str) -> int:
        path = self.folder / f"{run_id}.{kind}"
        return len(path.read_text().splitlines()) if path.exists() else 0
