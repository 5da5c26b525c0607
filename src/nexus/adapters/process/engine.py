"""The engine of the embedded service: attempts are local processes.

Implements `nexus.runs.ports.Engine` for `app.wiring`. What is true of an attempt is in its folder (`folders`), written by its
launcher; this class asks for launches, waits for launchers to end, and turns folders into answers. So nothing is lost with
the service: `start` finds what runs and what ended; `index` has it look at few of the folders that are kept. Environments of
Python projects are `adapters.environments`' part.

One service may use a folder at a time; the service's own lock sees to that.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from pathlib import Path

from nexus.adapters.environments import Environments
from nexus.adapters.process import attempts as records
from nexus.adapters.process import commands, folders, logs, watch
from nexus.adapters.process.attempts import Key
from nexus.adapters.process.forkserver import ForkServer
from nexus.adapters.process.index import Index
from nexus.kernel.clock import Clock, from_microseconds
from nexus.runs.model import Exit
from nexus.runs.ports import Absent, Alive, Ended, Launch, LaunchFailed

log = logging.getLogger(__name__)

LOG_LIMIT_BYTES = 8 << 20
GRACE_S = 1.0
_ANSWER_PATIENCE_S = 2.0  # then the lock itself is looked at: an answer can be lost, the lock cannot
_ANSWER_TRIES = 15
_POLL_S = 0.25  # between two looks at an attempt where processes cannot be waited for by descriptor
_SETTLE_S = 10.0  # how long an end that was told stands among what lives: a start tells it again
_BATCH = 50  # ends told in one turn of the loop after a start
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ProcessEngine:
    """Executes attempts as processes of this machine, in *folder*.

    *variables* is the environment the short pass-through list is taken from. ``log_limit_bytes`` is for each of stdout and
    stderr. ``grace_s`` is between SIGTERM and SIGKILL. *on_step* is called at named steps, for the kill tool.
    """

    def __init__(
        self,
        folder: Path,
        environments: Environments,
        clock: Clock,
        *,
        variables: Mapping[str, str] | None = None,
        log_limit_bytes: int = LOG_LIMIT_BYTES,
        grace_s: float = GRACE_S,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self._folder = folder.resolve() / "attempts"
        self._trash = folder.resolve() / "trash"
        self._index = Index(folder.resolve())
        self._environments = environments
        self._clock = clock
        self._variables = dict(os.environ if variables is None else variables)
        self._log_limit_bytes = log_limit_bytes
        self._grace_s = grace_s
        self._step = on_step or (lambda _: None)
        self._forks = ForkServer()
        self._on_end: Callable[[Ended], None] = lambda _: None
        self._starting: dict[Key, asyncio.Task[str]] = {}
        self._watched: dict[Key, int | None] = {}  # the launcher's descriptor; None where it is polled for
        self._told: list[tuple[float, Key, datetime]] = []  # ends that are to be settled: when each was told, and its time
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def zygote_pid(self) -> int | None:
        """The fork server's process, for the doctor and the tests of faults."""
        return self._forks.pid

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, on_end: Callable[[Ended], None]) -> None:
        """Adopts what runs, and tells of what ended while nobody watched, or just before."""
        self._on_end = on_end
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        await self._environments.start()
        await self._forks.start()
        alive, ended = await asyncio.to_thread(self._find)
        for key in alive:
            self._watch(key)
            if (self._path(key) / folders.CANCEL).exists():
                self._signal(key)
        self._spawn(self._tell(ended))
        self._spawn(self._settle_now_and_then())
        self._spawn(asyncio.to_thread(records.empty_trash, self._trash))

    def _find(self) -> tuple[list[Key], list[Key]]:
        """Attempts that are alive, and those whose end may not have been heard of."""
        self._index.open(self._folder)
        return records.part(self._folder, self._index.live())

    async def stop(self) -> None:
        """Ends the engine's own work; attempts go on."""
        pending = [*self._starting.values(), *self._tasks]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
        for key in list(self._watched):
            self._unwatch(key)
        await self._forks.stop()
        await self._environments.stop()

    async def _tell(self, keys: list[Key]) -> None:
        for number, key in enumerate(keys):
            if isinstance(end := await self._look(key), Ended):
                self._say(key, end.exit)
            if number % _BATCH == _BATCH - 1:
                await asyncio.sleep(0)

    def _say(self, key: Key, end: Exit) -> None:
        """Tells the listener of an end."""
        self._has_ended(key, end)
        self._on_end(Ended(run_id=key[0], attempt=key[1], exit=end))

    def _has_ended(self, key: Key, end: Exit) -> None:
        """Has an end settled in a while: it may be the only one who knows of an attempt whose mark a crash took."""
        self._told.append((asyncio.get_running_loop().time(), key, end.ended_at))

    async def _settle_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_SETTLE_S)
            await self._settle(asyncio.get_running_loop().time() - _SETTLE_S)

    async def _settle(self, until: float) -> None:
        """Has ends that were told until that time of the loop no longer stand among what lives."""
        due = [(key, ended_at) for told, key, ended_at in self._told if told <= until]
        try:
            await asyncio.to_thread(self._index.settle, due)
        except OSError as error:  # a full disk: another time
            log.warning("attempts.not-settled", extra={"attempts": len(due), "error": str(error)})
        else:
            self._told = [each for each in self._told if each[0] > until]

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── starting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def prepare(self, local: dict[str, str]) -> None:
        """Builds the environment an attempt with these annotations needs. Raises LaunchFailed."""
        await self._environments.ready(local)

    async def create(self, launch: Launch) -> str:
        """Starts the attempt, once, and returns its uid. Raises LaunchFailed."""
        key = _key(launch.run_id, launch.attempt)
        task = self._starting.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._create(key, launch))
            self._starting[key] = task
            task.add_done_callback(lambda done: self._started(key, done))
        return await asyncio.shield(task)

    def _started(self, key: Key, task: asyncio.Task[str]) -> None:
        self._starting.pop(key, None)
        if not task.cancelled():
            task.exception()  # looked at: each caller that still waits has it

    async def _create(self, key: Key, launch: Launch) -> str:
        uid = self._taken(key)
        if uid is not None:
            return uid
        environment = await self._environments.ready(launch.local)
        folder = self._path(key)
        command = commands.resolve(launch, environment, folder / folders.SCRATCH, self._variables)
        self._begin(key)
        self._step("engine.before-launch")
        uid = await self._launch(key, {
            "folder": str(folder),
            "path": command.path,
            "argv": list(launch.argv),
            "environment": {**command.environment, watch.MARKER: _marker(key)},
            "cwd": command.cwd,
            "deadline_s": launch.deadline_s,
            "memory_bytes": launch.memory_bytes,
            "log_bytes": self._log_limit_bytes,
            "grace_s": self._grace_s,
        })  # fmt: skip
        self._step("engine.after-launch")
        return uid

    def _begin(self, key: Key) -> None:
        """Marks an attempt as one that may be alive. Raises LaunchFailed."""
        try:
            self._index.add(key)
        except OSError as error:
            details = f"{error.strerror}: {error.filename}"
            raise LaunchFailed("the attempt could not be noted", details, permanent=error.errno == errno.EACCES) from error

    async def _launch(self, key: Key, request: dict[str, object]) -> str:
        asked = asyncio.ensure_future(self._forks.launch(request))
        try:
            for _ in range(_ANSWER_TRIES):
                done, _pending = await asyncio.wait([asked], timeout=_ANSWER_PATIENCE_S)
                if not done:
                    if uid := self._taken(key):
                        return uid
                    continue
                answer = asked.result()
                if "error" in answer:
                    raise LaunchFailed(
                        "the launcher could not take the attempt",
                        str(answer["error"]),
                        permanent=answer.get("errno") == errno.EACCES,
                    )
                return self._taken(key) or str(answer.get("uid", ""))
        finally:
            asked.cancel()
        raise LaunchFailed("no launcher took the attempt in time", "the machine may be overloaded", permanent=False)

    def _taken(self, key: Key) -> str | None:
        """The uid of an attempt that was taken, which is watched from now on; None when it was not."""
        lock = folders.read_record(str(self._path(key)), folders.LOCK)
        if lock is None:
            return None
        self._watch(key)
        return str(lock.get("uid", "unknown"))

    # ── watching ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _watch(self, key: Key) -> None:
        """Has the end of an attempt heard of, however it comes, and also when it came before this. Does nothing when watched."""
        if key in self._watched:
            return
        folder = str(self._path(key))
        if (self._path(key) / folders.EXIT).exists():
            self._spawn(self._conclude(key))
            return
        fd = records.open_launcher(folder)
        self._watched[key] = fd
        if fd is None:
            self._spawn(self._poll(key))
        else:
            asyncio.get_running_loop().add_reader(fd, self._launcher_gone, key)

    async def _poll(self, key: Key) -> None:
        while await asyncio.to_thread(folders.is_held, str(self._path(key))):  # noqa: ASYNC110 - another process's lock has no event
            await asyncio.sleep(_POLL_S)
        self._launcher_gone(key)

    def _launcher_gone(self, key: Key) -> None:
        self._unwatch(key)
        self._spawn(self._conclude(key))

    def _unwatch(self, key: Key) -> None:
        fd = self._watched.pop(key, None)
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    async def _conclude(self, key: Key) -> None:
        """Tells the listener how an attempt ended whose launcher is gone."""
        end = records.read_exit(str(self._path(key)))
        if end is None:
            end = await self._record_lost(key)
        if end is not None:
            self._say(key, end)

    async def _record_lost(self, key: Key) -> Exit | None:
        """Ends what a dead launcher left behind and records that it was lost; None when that must be tried again."""
        try:
            end = await asyncio.to_thread(records.record_lost, str(self._path(key)), _marker(key), self._clock.now())
        except OSError as error:
            log.warning("attempt.unrecorded", extra={"run": key[0], "attempt": key[1], "error": str(error)})
            self._spawn(self._again(key))
            return None
        if end is not None:
            self._has_ended(key, end)
        return end

    async def _again(self, key: Key) -> None:
        await asyncio.sleep(1.0)
        await self._conclude(key)

    # ── looking and ending ────────────────────────────────────────────────────────────────────────────────────────────

    async def status(self, run_id: str, attempt: int) -> Alive | Ended | Absent:
        """Where an attempt stands, from its folder."""
        return await self._look(_key(run_id, attempt))

    async def _look(self, key: Key) -> Alive | Ended | Absent:
        folder = str(self._path(key))
        end = records.read_exit(folder)
        if end is None:
            lock = folders.read_record(folder, folders.LOCK)
            if lock is None:
                return Absent()
            if folders.is_held(folder):
                self._watch(key)
                return Alive(uid=str(lock.get("uid", "unknown")), started_at=from_microseconds(int(str(lock.get("taken_us", 0)))))
            end = records.read_exit(folder) or await self._record_lost(key)
            if end is None:  # could not be written yet; alive until it can
                return Alive(uid=str(lock.get("uid", "unknown")), started_at=from_microseconds(int(str(lock.get("taken_us", 0)))))
        return Ended(run_id=key[0], attempt=key[1], exit=end)

    async def live(self) -> list[tuple[str, int]]:
        """Every attempt that is alive, and some that ended just now or have not begun."""
        return await asyncio.to_thread(self._index.live)

    async def old(self, before: datetime) -> list[tuple[str, int]]:
        """Attempts that ended before that moment and were not forgotten."""
        return await asyncio.to_thread(self._index.old, before, self._folder)

    async def cancel(self, run_id: str, attempt: int) -> None:
        """Ends an attempt with everything it started; one that has not begun will not."""
        key = _key(run_id, attempt)
        folder = self._path(key)
        if (folder / folders.EXIT).exists():
            return
        await asyncio.to_thread(self._index.add, key)
        await asyncio.to_thread(_mark_cancelled, folder)
        self._step("engine.cancel-mark")
        self._signal(key)

    def _signal(self, key: Key) -> None:
        """Tells a launcher to end its attempt."""
        records.signal_launcher(str(self._path(key)), self._watched.get(key))

    async def log(self, run_id: str, attempt: int, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Bytes of ``stdout`` or ``stderr`` from *offset*; empty when there is nothing more now."""
        key = _key(run_id, attempt)
        if stream not in logs.STREAMS:
            raise ValueError(f"`{stream}` is no stream; there are `stdout` and `stderr`")
        return await asyncio.to_thread(logs.read, str(self._path(key)), stream, max(offset, 0), max(limit, 0))

    async def forget(self, run_id: str) -> None:
        """Removes logs, scratch folders and records of a run's ended attempts."""
        await asyncio.to_thread(self._forget, self._path(_key(run_id, 1)).parent)

    def _forget(self, run: Path) -> None:
        for key, ended_at in records.remove_ended(run, self._trash):
            self._index.remove(key, ended_at)

    def _path(self, key: Key) -> Path:
        return self._folder / key[0] / str(key[1])


def _key(run_id: str, attempt: int) -> Key:
    if not _RUN_ID.fullmatch(run_id) or attempt < 1:
        raise ValueError(f"`{run_id}` attempt `{attempt}` is no name of an attempt")
    return run_id, attempt


def _marker(key: Key) -> str:
    return f"{key[0]}.{key[1]}"


def _mark_cancelled(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / folders.CANCEL).exists():
        folders.write_once(str(folder / folders.CANCEL), b"")
