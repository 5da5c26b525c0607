"""The launcher: one process an attempt, which makes its start unique, watches it to its end and writes how it ended.

Forked by the zygote. In order: it takes the attempt's lock, answers the service, starts the command in a session of its own,
then pumps its output into bounded logs and watches deadline and memory. When the command ends, or must, all that it started
ends with it: the launcher is the sub-reaper of what detached, and the command dies with a launcher that is killed. It needs
nothing of the service: that may die and return meanwhile.

SIGTERM means "end it". With the engine's cancel mark that is a cancel; without one the machine is being shut down, and the
attempt is recorded as lost. Memory is watched, not confined: an algorithm can pass its limit for a fraction of a second. CPU
is advisory (OMP_NUM_THREADS, set by the engine).

Loaded by the zygote: nothing but small modules of the standard library here, and no pathlib.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable

from nexus.adapters.process import folders, watch
from nexus.adapters.process.logs import LAST_BYTES, STREAMS, BoundedLog

_SAMPLE_S = 0.2  # how often memory is looked at when there is a limit
_SAMPLE_UNLIMITED_S = 2.0  # and when only the peak is of interest
_KILL_AGAIN_S = 0.02  # between two rounds of SIGKILL, until nothing is left
_DRAIN_BYTES = 1 << 20  # the most a pipe holds when all its writers are dead
_PIECE = 1 << 16
_CANCELLED = "ended because it was cancelled"
_NOT_RUNNABLE = 127
_DEFAULTED = (  # what the launcher handles, what Python ignores, and what a service started in the background ignores
    signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP,
)  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Request(TypedDict):
        """What to start. ``grace_s`` is between SIGTERM and SIGKILL, ``log_bytes`` the limit of each stream."""

        folder: str
        path: str
        argv: list[str]
        environment: dict[str, str]
        cwd: str
        deadline_s: float | None
        memory_bytes: int | None
        log_bytes: int
        grace_s: float


Record = dict[str, object]
Reply = Callable[[Record], None]


class Launcher:
    """One attempt, from the lock it has to how it ended.

    *signals*: a descriptor that gives the signals caught, as bytes. *lock*: the descriptor that holds the attempt's lock.
    """

    def __init__(self, request: Request, signals: int, lock: int) -> None:
        self._request = request
        self._folder: str = request["folder"]
        self._signals = signals
        self._lock = lock
        self._grace_s: float = request["grace_s"]
        self._pid = 0
        self._status: int | None = None
        self._started_us = 0
        self._ended_us = 0
        self._peak = 0
        self._reason = ""  # why it was ended; empty while it has not been
        self._detail = ""
        self._kill_at: float | None = None
        self._deadline: float | None = None
        self._next_sample = 0.0
        self._oom_before = 0
        self._logs: dict[int, BoundedLog] = {}
        self._poll = select.poll()

    def run(self) -> Record:
        """Starts the command and returns how it ended, once nothing of it is left."""
        if self._cancelled():
            return self._record("cancelled", detail="cancelled before it was started")
        problem = self._spawn()
        if problem:
            self._wait_for_all()
            self._close_logs()
            return self._record("launch-failed", detail=problem)
        self._supervise()
        self._close_logs()
        return self._conclusion()

    # ── starting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _spawn(self) -> str:
        """Starts the command; returns what the system said when it could not."""
        os.makedirs(os.path.join(self._folder, folders.SCRATCH), mode=0o700, exist_ok=True)
        pipes = [os.pipe() for _ in STREAMS]
        heard, said = os.pipe()
        launcher = os.getpid()
        self._started_us = _now_us()
        self._pid = os.fork()
        if not self._pid:
            _become(self._request, launcher, [write for _, write in pipes], said)
        self._arm()
        os.close(said)
        for stream, (read, write) in zip(STREAMS, pipes, strict=True):
            os.close(write)
            os.set_blocking(read, False)
            self._logs[read] = BoundedLog(self._folder, stream, self._request["log_bytes"])
            self._poll.register(read, select.POLLIN)
        self._poll.register(self._signals, select.POLLIN)
        problem = os.read(heard, 4096).decode("utf-8", "replace")
        os.close(heard)
        return problem

    def _arm(self) -> None:
        self._oom_before = watch.oom_kills()
        now = time.monotonic()
        self._next_sample = now + 0.05
        if self._request["deadline_s"] is not None:
            self._deadline = now + self._request["deadline_s"]

    # ── watching ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _supervise(self) -> None:
        """Returns when the command and all it started are gone."""
        while self._reap():
            now = time.monotonic()
            self._look(now)
            for fd, _ in self._poll.poll(self._patience(now) * 1000):
                if fd == self._signals:
                    self._hear_signals()
                else:
                    self._pump(fd)
        if not watch.LINUX:  # what was orphaned is nobody's child here: its group is all that can be reached
            _send(os.killpg, self._pid, signal.SIGKILL)

    def _look(self, now: float) -> None:
        """Acts on what is due."""
        if self._status is not None and self._kill_at is None:
            self._end_all(now)  # the command itself is gone: so must be the rest
        if self._deadline is not None and now >= self._deadline and self._status is None:
            self._end("deadline", f"still running at its deadline, {self._request['deadline_s']:g} s after its start", now)
        if now >= self._next_sample and self._status is None:
            self._sample(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill(signal.SIGKILL)
            self._kill_at = now + _KILL_AGAIN_S

    def _patience(self, now: float) -> float:
        """Seconds until something is due."""
        due = [at for at in (self._next_sample, self._deadline) if at is not None] if self._status is None else []
        if self._kill_at is not None:
            due.append(self._kill_at)
        return max(min(due, default=now + 1.0) - now, 0.0)

    def _sample(self, now: float) -> None:
        if self._cancelled():  # should the signal have been lost
            self._end("cancelled", _CANCELLED, now)
        if not os.fstat(self._lock).st_nlink:  # the data folder was removed: no service will ever know of this attempt
            self._end("lost", "its folder was removed while it ran", now)
        limit = self._request["memory_bytes"]
        self._next_sample = now + (_SAMPLE_S if limit is not None else _SAMPLE_UNLIMITED_S)
        pids = watch.descendants(os.getpid())
        used = watch.resident_bytes(pids)
        if limit is not None and used > limit and len(pids) > 1:
            used = watch.proportional_bytes(pids)  # what they share counts once
        self._peak = max(self._peak, used)
        if limit is not None and used > limit:
            self._end("out-of-memory", f"held {used} bytes of memory; its limit is {limit} bytes", now, grace_s=0.0)

    def _hear_signals(self) -> None:
        heard = os.read(self._signals, 512)
        if signal.SIGTERM in heard and self._status is None:
            if self._cancelled():
                self._end("cancelled", _CANCELLED, time.monotonic())
            else:
                detail = "its launcher was told to end (SIGTERM) and there was no cancel: was the machine shutting down?"
                self._end("lost", detail, time.monotonic())

    def _cancelled(self) -> bool:
        return os.path.exists(os.path.join(self._folder, folders.CANCEL))

    def _pump(self, fd: int) -> None:
        try:
            data = os.read(fd, _PIECE)
        except BlockingIOError:
            return
        if data:
            self._logs[fd].write(data)
        else:
            self._poll.unregister(fd)

    # ── ending ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _end(self, reason: str, detail: str, now: float, *, grace_s: float | None = None) -> None:
        if self._reason:
            return
        self._reason, self._detail, self._deadline = reason, detail, None
        self._end_all(now, grace_s)

    def _end_all(self, now: float, grace_s: float | None = None) -> None:
        """SIGTERM to all, SIGKILL after the grace."""
        grace_s = self._grace_s if grace_s is None else grace_s
        if grace_s > 0:
            self._kill(signal.SIGTERM)
        self._kill_at = now + grace_s

    def _kill(self, number: int) -> None:
        """Signals everything below the launcher, and the command's own group where /proc does not tell."""
        for pid in watch.descendants(os.getpid()):
            _send(os.kill, pid, number)
        if not watch.LINUX:
            _send(os.killpg, self._pid, number)

    def _reap(self) -> bool:
        """Takes in what has died; whether anything is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid == self._pid:
                self._status = status
                self._ended_us = max(_now_us(), self._started_us)

    def _wait_for_all(self) -> None:
        while self._reap():
            self._poll.poll(1000)
            _drop(self._signals)

    def _close_logs(self) -> None:
        """Takes in what is left in the pipes, then joins head and tail."""
        for (fd, log), stream in zip(self._logs.items(), STREAMS, strict=True):
            os.set_blocking(fd, False)
            left = _DRAIN_BYTES
            while left > 0:
                try:
                    data = os.read(fd, _PIECE)
                except BlockingIOError:  # someone outside was handed this pipe: what it writes is not ours
                    break
                if not data:
                    break
                log.write(data)
                left -= len(data)
            log.finish(self._folder, stream)

    # ── recording ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _conclusion(self) -> Record:
        status = self._status if self._status is not None else 0
        code = os.waitstatus_to_exitcode(status)
        if self._reason:
            return self._record(self._reason, detail=self._detail)
        if code >= 0:
            return self._record("exited", code=code, detail=self._last_words() if code else "")
        if -code == signal.SIGKILL and watch.oom_kills() > self._oom_before:
            return self._record(
                "out-of-memory", detail="killed while the kernel ended processes because the machine was out of memory"
            )
        return self._record("signalled", signal=-code, detail=self._last_words())

    def _last_words(self) -> str:
        """The end of what was written to stderr, from the first whole line on: most bad ends explain themselves there."""
        logs = list(self._logs.values())
        last = logs[STREAMS.index("stderr")].last if logs else b""
        if len(last) == LAST_BYTES:
            last = last.partition(b"\n")[2] or last
        text = last.decode("utf-8", "replace").strip()
        return f"The end of its stderr:\n{text}" if text else ""

    def _record(self, kind: str, **fields: object) -> Record:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        largest = used.ru_maxrss * (1024 if watch.LINUX else 1)
        return {
            "kind": kind,
            "started_us": self._started_us or None,
            "ended_us": self._ended_us or _now_us(),
            "peak": max(self._peak, largest) if self._pid else None,
            "cpu_s": used.ru_utime + used.ru_stime if self._pid else None,
            **fields,
        }


def launch(request: Request, answer: Record, reply: Reply) -> None:
    """The whole life of a launcher, in a process just forked. *reply* sends an answer to the service; it must not block."""
    os.setsid()
    watch.become_subreaper()
    watch.name_process("nexus-launcher")
    signals = _take_signals()
    folder = request["folder"]
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        start = watch.start_time(os.getpid()) or 0
        mine = {"pid": os.getpid(), "start": start, "uid": f"local-{os.getpid()}-{start}", "taken_us": _now_us()}
        lock = folders.take_lock(folder, mine)
    except OSError as error:
        reply({**answer, "error": f"{error.strerror}: {error.filename or folder}", "errno": error.errno})
        return
    taken = mine if lock is not None else folders.read_record(folder, folders.LOCK)
    reply({**answer, **(taken or {})})
    if lock is not None:
        _keep(folder, _attempt(request, signals, lock))


def _attempt(request: Request, signals: int, lock: int) -> Record:
    try:
        return Launcher(request, signals, lock).run()
    except Exception as error:  # the launcher's own loop: whatever went wrong, nothing may run on unwatched
        _end_everything()
        return {"kind": "lost", "ended_us": _now_us(), "detail": f"its launcher failed: {type(error).__name__}: {error}"}


def _end_everything() -> None:
    while True:
        for pid in watch.descendants(os.getpid()):
            _send(os.kill, pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _keep(folder: str, record: Record) -> None:
    """Writes the exit, however long the disk is full: until then the attempt counts as alive."""
    content = json.dumps(record).encode()
    while True:
        try:
            return folders.write_once(os.path.join(folder, folders.EXIT), content)
        except FileNotFoundError:  # the whole folder was taken away: nobody is left to tell
            return None
        except OSError:
            time.sleep(0.5)


def _become(request: Request, launcher: int, outputs: list[int], said: int) -> None:
    """Turns a forked child into the command; tells *said* why when it cannot. Does not return."""
    try:
        watch.die_with_parent()
        if os.getppid() != launcher:
            os._exit(_NOT_RUNNABLE)
        os.setsid()
        watch.volunteer_for_oom()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for target, fd in enumerate(outputs, start=1):
            os.dup2(fd, target)
        os.chdir(request["cwd"])
        signal.set_wakeup_fd(-1)
        for number in _DEFAULTED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execve(request["path"], request["argv"], request["environment"])
    except OSError as error:
        os.write(said, f"{error.strerror}: `{error.filename or request['path']}`".encode("utf-8", "replace"))
    finally:
        os._exit(_NOT_RUNNABLE)


def _take_signals() -> int:
    """A descriptor on which SIGTERM and SIGCHLD can be read as bytes."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return read


def _drop(fd: int) -> None:
    try:
        os.read(fd, 512)
    except BlockingIOError:
        pass


def _send(how: object, target: int, number: int) -> None:
    try:
        how(target, number)  # type: ignore[operator]
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EPERM):
            raise


def _now_us() -> int:
    return time.time_ns() // 1000
