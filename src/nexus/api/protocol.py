"""The HTTP protocol of one connection, with the bounds the parser lacks: size and number of headers, and time.

uvicorn's httptools protocol reads heads of any size and waits for ever. Here a head is bounded in bytes, fields and time, a
body in idle time and in least rate, an answer in the time its reader takes, and an idle connection in time. All clocks are
looked at by one sweep a second of the server, so that a request pays no timer.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from nexus.api.answers import WHOLE

_PHRASES = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a connection. Times in seconds, sizes in bytes, rates in bytes a second."""

    connections: int = 10_000
    head_bytes: int = 32 * 1024
    head_fields: int = 100
    head_s: float = 10.0
    body_idle_s: float = 30.0
    body_rate: float = 256.0  # less than this on average, after the first idle time, is no honest sender
    answer_stall_s: float = 60.0
    keep_alive_s: float = 75.0
    goodbye_s: float = 2.0  # in which a refused client may still read why
    discarded_bytes: int = 64 * 1024 * 1024  # of a body nobody wants, so that its sender can still read the answer


class BoundedProtocol(HttpToolsProtocol):
    """One connection. ``bounds`` and ``fixed_headers`` are set by the server on a subclass of its own."""

    bounds = Bounds()
    fixed_headers = b""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.since = self.loop.time()  # when what is waited for now began
        self.heard = self.since  # when the client last sent something
        self.waits_for = "head"  # "head", "body", "answer", "request" or "goodbye"
        self.body_bytes = 0
        self._head_bytes = 0
        self._refused: tuple[int, str] | None = None
        self.stalled_since: float | None = None

    # ── the connection ───────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = get_local_addr(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        if len(self.connections) >= self.bounds.connections:
            self.refuse(503, "too many connections are open", linger=False)
            return
        self.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        if self.waits_for == "goodbye":
            self._discard(len(data))
            return
        if self.waits_for == "request":  # the first bytes of the next request on a kept connection
            self.waits_for = "head"
            self.since = self.heard
        if self.waits_for == "head":
            self._head_bytes += len(data)
        super().data_received(data)
        if self.waits_for == "head" and self._head_bytes > self.bounds.head_bytes and not self.transport.is_closing():
            self.refuse(431, "the head of the request is too large")

    def pause_writing(self) -> None:
        self.stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stalled_since = None
        super().resume_writing()

    # ── callbacks of the parser ──────────────────────────────────────────────────────────────────────────────────────

    def on_headers_complete(self) -> None:
        if self._head_bytes > self.bounds.head_bytes or len(self.headers) > self.bounds.head_fields:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.bounds.head_bytes or len(self.headers) > self.bounds.head_fields:
                self._refused = (431, "the head of the request is too large")
                raise ValueError("head too large")  # ends the parsing; answered in send_400_response
        self.waits_for = "body"
        self.since = self.heard
        self.body_bytes = 0
        super().on_headers_complete()
        self.scope["extensions"] = {WHOLE: partial(self._answer, self.cycle)}  # type: ignore[dict-item]

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete and self.body_bytes > self.bounds.discarded_bytes:
            self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        done = self.cycle.response_complete
        self._head_bytes = 0
        self.since = self.heard
        self.waits_for = "request" if done else "answer"
        super().on_message_complete()

    def on_message_begin(self) -> None:
        self.waits_for = "head"
        self.since = self.heard
        super().on_message_begin()

    def on_response_complete(self) -> None:
        """uvicorn's, without a timer a request: the sweep ends connections that stay idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self.waits_for == "answer":
            self.since = self.loop.time()
            self.waits_for = "request"

    def send_400_response(self, msg: str) -> None:
        status, text = self._refused or (400, "the request is not HTTP")
        self.refuse(status, text)

    def _answer(self, cycle: RequestResponseCycle, status: int, content_type: bytes, body: bytes) -> bool:
        """Sends a whole answer at once; False when it has to be sent piece by piece.

        One write instead of two, and one system call: a tenth of what a small request costs.
        """
        if self.flow.write_paused or cycle.response_started or cycle.disconnected:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (self.fixed_headers, content_type, len(body))
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head + end + body)
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def refuse(self, status: int, text: str, *, linger: bool = True) -> None:
        """Answers outside the application, unless it has begun to answer, and closes; *linger* lets the client read it first."""
        cycle = self.cycle
        if cycle is None or self.waits_for == "head" or not cycle.response_started:
            body = f"{text}\n".encode()
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, _PHRASES[status], len(body), body)
            )
        self._forsake()
        if linger and self.transport.can_write_eof():  # a closed socket that is still sent to would take the answer back
            self.transport.write_eof()
            self.waits_for, self.since, self.body_bytes = "goodbye", self.loop.time(), 0
            self.flow.resume_reading()
        else:
            self.transport.close()

    def cut(self) -> None:
        """Ends the connection and whatever is being done for it."""
        self._forsake()
        self.transport.abort()

    def check(self, now: float) -> None:
        """Ends the connection when its client takes too long for what it has to do. Called by the sweep."""
        bounds = self.bounds
        if self.transport.is_closing():
            return
        if self.stalled_since is not None and now - self.stalled_since > bounds.answer_stall_s:
            self.transport.abort()
        elif self.waits_for == "head" and now - self.since > bounds.head_s:
            self.refuse(408, "the head of the request took too long") if self._head_bytes else self.transport.close()
        elif self.waits_for == "body" and not self.flow.read_paused:
            elapsed = now - self.since
            slow = elapsed > bounds.body_idle_s and self.body_bytes < bounds.body_rate * elapsed
            if now - self.heard > bounds.body_idle_s or slow:
                self.refuse(408, "the body of the request came too slowly")
        elif self.waits_for == "request" and now - self.since > bounds.keep_alive_s:
            self.transport.close()
        elif self.waits_for == "goodbye" and now - self.since > bounds.goodbye_s:
            self.transport.abort()

    def _forsake(self) -> None:
        """Tells the application, if it still works for this client, that nobody waits for it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _discard(self, size_bytes: int) -> None:
        self.body_bytes += size_bytes
        if self.body_bytes > self.bounds.discarded_bytes:
            self.transport.abort()
