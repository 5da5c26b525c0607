"""One request and its answer between a connection and the application: the ASGI calls ``receive`` and ``send``.

Made by :class:`~nexus.api.protocol.Connection` for each request. Head and first piece of an answer are written together: a
second write costs a small request a tenth of its time.
"""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus.api.protocol import Connection

log = logging.getLogger("nexus.api")

Application = Callable[..., Awaitable[None]]

BUFFERED_BYTES = 64 * 1024  # of a body, before its sender has to wait for the application
_DISCONNECT = {"type": "http.disconnect"}
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in http.HTTPStatus}


class Exchange:
    """A request as it comes in, and its answer as it goes out."""

    __slots__ = (
        "_buffered", "_chunked", "_connection", "_delivered", "_head", "_pieces", "_waiter", "ended", "expects_continue", "gone",
        "half_closed", "keep_alive", "scope", "started", "task", "whole",
    )  # fmt: skip

    def __init__(self, connection: Connection, scope: dict[str, Any], *, keep_alive: bool, expects_continue: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.whole = False  # the body is here to its end
        self.half_closed = False  # the client sends no more, and may have gone
        self.gone = False  # nobody waits for the answer any more
        self.started = False  # the answer's head was written
        self.ended = False
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._delivered = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._chunked = False

    async def run(self, application: Application, tasks: set[asyncio.Task[None]]) -> None:
        """Lets the application answer. An answer it does not finish ends the connection."""
        try:
            await application(self.scope, self.receive, self.send)
        except Exception:
            log.exception("application.failed")
        finally:
            if not self.ended and not self.gone:
                self._connection.cut()
            if self.task is not None:
                tasks.discard(self.task)

    # ── from the connection ──────────────────────────────────────────────────────────────────────────────────────────

    def feed(self, piece: bytes) -> bool:
        """Takes a piece of the body; whether its sender should wait."""
        self._pieces.append(piece)
        self._buffered += len(piece)
        self._wake()
        return self._buffered > BUFFERED_BYTES

    def complete(self) -> None:
        """The body has ended."""
        self.whole = True
        self._wake()

    def half_close(self) -> None:
        """The client asked in full and sends no more: what is at hand is answered, nothing is waited for."""
        self.half_closed = True
        self._wake()

    def forsake(self) -> None:
        """The client went away, or was sent away."""
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ── from the application ─────────────────────────────────────────────────────────────────────────────────────────

    async def receive(self) -> dict[str, Any]:
        """The next piece of the body, or that the client is gone (ASGI)."""
        while True:
            if self.gone or self.ended:
                return _DISCONNECT
            if self._pieces or (self.whole and not self._delivered):
                pieces = self._pieces
                body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                self._pieces, self._buffered, self._delivered = [], 0, self.whole
                if not self.whole:
                    self._connection.resume()
                return {"type": "http.request", "body": body, "more_body": not self.whole}
            if self.half_closed and not self.started:  # an answer that was begun goes on until nobody takes it
                return _DISCONNECT
            if self.expects_continue:
                self.expects_continue = False
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._connection.resume()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def send(self, message: dict[str, Any]) -> None:
        """Takes the head or a piece of the answer (ASGI); waits while the client does not read."""
        if self.gone:
            return
        if message["type"] == "http.response.start":
            self._head = self._rendered(message["status"], message.get("headers", ()))
            return
        if not self._head or self.ended:
            raise RuntimeError("an answer is one head and its body")
        connection = self._connection
        if connection.stalled_since is not None:
            await connection.drained()
            if self.gone:
                return
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            body = b""
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        if self.started:
            if body:
                connection.write(body)
        else:
            self.started = True
            connection.write(self._head + body if len(body) < BUFFERED_BYTES else self._head)
            if len(body) >= BUFFERED_BYTES:
                connection.write(body)
        if not more:
            self.ended = True
            self._wake()
            connection.answered(self)

    def _rendered(self, status: int, headers: Any) -> bytes:
        if self.expects_continue and not self.whole:  # whether the body still comes, nobody knows (RFC 9110, 10.1.1)
            self.keep_alive = False
        lines = [_STATUS_LINES[status], self._connection.fixed_headers]
        measured = False
        for name, value in headers:
            if name == b"content-length":
                measured = True
            lines.append(b"%b: %b\r\n" % (name, value))
        if not measured and status >= 200 and status not in (204, 304):
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) - (not self._connection.fixed_headers):
            raise RuntimeError("a header has more than one line")
        return head
