"""The service's end of the zygote: starts it, sends it requests, starts another when it dies.

Used by `engine` alone. Requests that were under way when a zygote died are sent again: the attempt's lock, not the zygote,
makes starts unique.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nexus
from nexus.adapters.process.zygote import HEADER
from nexus.runs.ports import LaunchFailed

log = logging.getLogger(__name__)

_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from nexus.adapters.process.zygote import main; main()"
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TZ")  # what an interpreter may need to start
_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
_ANSWER_BYTES = 1 << 16
_LIFE_S = 0.5  # a zygote that dies sooner is not replaced before that, so that one that cannot live costs little
_SENDS_OF_ONE_REQUEST = 3

Answer = dict[str, object]


class ForkServer:
    """Forks launchers. Use between start() and stop(), on one event loop."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._answers: socket.socket | None = None
        self._pending: dict[int, tuple[bytes, asyncio.Future[Answer]]] = {}
        self._number = 0
        self._born = 0.0
        self._stopping = False
        self._revival: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The zygote's process; None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Starts the zygote. It is ready when it answers the first request, some 40 ms later."""
        loop = asyncio.get_running_loop()
        self._born = loop.time()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        answers, answering = socket.socketpair(socket.AF_UNIX, _KIND)
        with theirs, answering:
            descriptors = (theirs.fileno(), answering.fileno())
            self._process = subprocess.Popen(  # noqa: ASYNC220 - returns once the child has begun, about a millisecond
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT, _source(), *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=descriptors,
                env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
                start_new_session=True,
            )
        for end in (ours, answers):
            end.setblocking(False)
        self._answers = answers
        loop.add_reader(answers.fileno(), self._hear)
        self._transport, _ = await loop.create_unix_connection(lambda: _Link(self._lost), sock=ours)

    async def stop(self) -> None:
        """Ends the zygote. Launchers go on."""
        self._stopping = True
        if self._revival is not None:
            self._revival.cancel()
            await asyncio.wait([self._revival])
        for _, waiting in self._pending.values():
            waiting.cancel()
        self._pending.clear()
        await self._discard()

    async def launch(self, request: Answer) -> Answer:
        """What the launcher said once it had, or found, the attempt's lock. Raises LaunchFailed, never permanent."""
        body = json.dumps(request).encode()
        for _ in range(_SENDS_OF_ONE_REQUEST):
            answer = await self._ask(body)
            if "died" not in answer:
                return answer
        raise LaunchFailed("the launcher ended before it could begin", "it was killed three times", permanent=False)

    async def _ask(self, body: bytes) -> Answer:
        self._number += 1
        number = self._number
        frame = HEADER.pack(len(body), number) + body
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[number] = (frame, waiting)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)
        try:
            return await waiting
        finally:
            self._pending.pop(number, None)

    def _hear(self) -> None:
        assert self._answers is not None
        while True:
            try:
                datagram = self._answers.recv(_ANSWER_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                datagram = b""
            if not datagram:  # the zygote and its newborns are gone; connection_lost brings the next one
                asyncio.get_running_loop().remove_reader(self._answers.fileno())
                return
            answer = json.loads(datagram)
            _, waiting = self._pending.get(answer.pop("number"), (b"", None))
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    def _lost(self) -> None:
        if not self._stopping:
            self._revival = asyncio.get_running_loop().create_task(self._revive())

    async def _revive(self) -> None:
        """Starts the next zygote and sends it what the last one left unanswered."""
        self._hear()
        loop = asyncio.get_running_loop()
        while True:
            await self._discard()
            await asyncio.sleep(max(self._born + _LIFE_S - loop.time(), 0))
            try:
                await self.start()
                break
            except OSError as error:
                log.warning("zygote.not-started", extra={"error": str(error)})
        for frame, waiting in list(self._pending.values()):
            if not waiting.done() and self._transport is not None:
                self._transport.write(frame)

    async def _discard(self) -> None:
        loop = asyncio.get_running_loop()
        if self._answers is not None:
            loop.remove_reader(self._answers.fileno())
            self._answers.close()
            self._answers = None
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_wait, process)


class _Link(asyncio.Protocol):
    """The request socket: the zygote never writes on it, its end is the zygote's."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()


def _source() -> str:
    return str(Path(nexus.__file__).resolve().parent.parent)


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
