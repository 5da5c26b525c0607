"""The zygote: a small process that forks launchers without delay, because a fresh interpreter for each run is too slow.

Started once by `forkserver` in the service. A request is a frame on the first descriptor: length and number, then the
launcher's request as JSON. Answers are datagrams of JSON on the second: the launcher's own (its pid and uid once it has the
lock), or the zygote's when it cannot fork or a launcher died. It ends when its socket closes, that is with the service;
launchers have sessions of their own and go on.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import struct
import sys

from nexus.adapters.process import watch
from nexus.adapters.process.launcher import launch

HEADER = struct.Struct("!IQ")  # length of the body, number of the request


class Zygote:
    """Forks on request until the service is gone."""

    def __init__(self, requests: socket.socket, answers: socket.socket) -> None:
        self._requests = requests
        self._answers = answers
        self._launchers: dict[int, int] = {}  # pid → number of its request
        self._died, self._wake = os.pipe()

    def serve(self) -> None:
        """Returns when the service has closed the socket."""
        for fd in (self._died, self._wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self._died, select.POLLIN)
        poll.register(self._requests, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._died:
                    os.read(self._died, 512)
                    self._reap()
                elif not self._take_request():
                    return

    def _take_request(self) -> bool:
        header = self._receive(HEADER.size)
        if header is None:
            return False
        length, number = HEADER.unpack(header)
        body = self._receive(length)
        if body is None:
            return False
        self._fork(number, body)
        return True

    def _receive(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            try:
                part = self._requests.recv(min(size - len(parts), 1 << 20))
            except ConnectionResetError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)

    def _fork(self, number: int, body: bytes) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._reply({"number": number, "error": f"cannot fork: {error.strerror}", "errno": error.errno})
            return
        if pid:
            self._launchers[pid] = number
            return
        try:
            self._leave_descriptors()
            launch(json.loads(body), {"number": number}, self._reply_once)
        finally:
            os._exit(0)

    def _reap(self) -> None:
        """Takes in launchers that ended, and orphans of killed ones. The service hears of one that died without a word."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            number = self._launchers.pop(pid, None)
            if number is not None:
                self._reply({"number": number, "died": pid})

    def _reply(self, answer: dict[str, object]) -> None:
        """Never waits: a service that does not listen finds the answer in the attempt's lock."""
        try:
            self._answers.send(json.dumps(answer).encode(), socket.MSG_DONTWAIT)
        except OSError:
            pass

    def _reply_once(self, answer: dict[str, object]) -> None:
        """A launcher has one thing to say; afterwards it holds nothing of the service."""
        self._reply(answer)
        self._answers.close()

    def _leave_descriptors(self) -> None:
        """Lets go, in a launcher, of the service's terminal and pipes: whoever reads them to their end must not wait for it."""
        signal.set_wakeup_fd(-1)
        self._requests.close()
        os.close(self._died)
        os.close(self._wake)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        os.close(nowhere)


def main() -> None:
    """Entry of the interpreter that `forkserver` starts: the two descriptors are the last two arguments."""
    requests, answers = (socket.socket(fileno=int(text)) for text in sys.argv[-2:])
    requests.setblocking(True)
    for inherited in (requests, answers):
        inherited.set_inheritable(False)
    os.chdir("/")
    watch.become_subreaper()
    watch.name_process("nexus-zygote")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.disable()
    Zygote(requests, answers).serve()
