"""One connection: llhttp's parser under asyncio, with bounds on everything a client can make large or slow.

Known servers read heads of any size and wait for ever. Here a head is bounded in bytes, fields and time, a body in idle time
and in least rate, an answer in the time its reader takes, an idle connection in time. All clocks are looked at by one sweep a
second of the server, so that a request pays no timer. What the application sees is plain ASGI (:mod:`nexus.api.exchange`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast
from urllib.parse import unquote

import httptools
import msgspec

from nexus.api.exchange import Application, Exchange

_PHRASES = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
_ASGI = {"version": "3.0", "spec_version": "2.3"}


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


class Shared:
    """What the connections of one server have in common."""

    def __init__(self, application: Application, bounds: Bounds) -> None:
        self.application = application
        self.bounds = bounds
        self.fixed_headers = b""
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()


class _Refused(Exception):
    """Raised inside a callback of the parser to end the parsing."""


class Connection(asyncio.Protocol):
    """A client's connection. ``waits_for`` says what the client has to do next: send a ``head`` or a ``body``, wait for its
    ``answer``, ask its next ``request`` when it likes, or read the ``goodbye``."""

    def __init__(self, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        self._shared = shared
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # what follows a last request is not looked at
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._ends: dict[str, Any] = {}
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        self._exchange: Exchange | None = None  # whose request is being read, or was read last
        self._queue: deque[Exchange] = deque()  # requests that came before the last answer was given; the first is being answered
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self._head_bytes = 0
        self._body_bytes = 0
        self._silent_bytes = 0  # came since the last piece of a body: framing, or a trailer
        self._in_head = True
        self._unparsed: int | None = None  # bytes of a body that the parser leaves alone
        self._refused: tuple[int, str] | None = None
        self.stalled_since: float | None = None
        self.waits_for = "head"
        self.since = self.heard = loop.time()

    @property
    def fixed_headers(self) -> bytes:
        """Header lines every answer has."""
        return self._shared.fixed_headers

    # ── the transport ────────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        server, client = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self._ends = {
            "type": "http",
            "asgi": _ASGI,
            "root_path": "",
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
            "server": (str(server[0]), int(server[1])) if isinstance(server, tuple) else None,
            "client": (str(client[0]), int(client[1])) if isinstance(client, tuple) else None,
        }
        if len(self._shared.connections) >= self._shared.bounds.connections:
            self.refuse(503, "too many connections are open", linger=False)
            return
        self._shared.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        for exchange in self._queue:
            exchange.forsake()
        self._queue.clear()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
        if self.waits_for == "goodbye":
            self._discard(len(data))
            return
        if self.waits_for == "request":  # the first bytes of the next request on a kept connection
            self.waits_for = "head"
            self.since = self.heard
        if self.waits_for == "head":
            self._head_bytes += len(data)
        elif self.waits_for == "body":
            self._silent_bytes += len(data)
        try:
            if self._unparsed is None:
                self._parser.feed_data(data)
            else:
                self._take_unparsed(data)
        except httptools.HttpParserUpgrade as upgrade:  # to another protocol: this one answers, and that is all
            self._take_unparsed(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.refuse(*(self._refused or (400, "the request is not HTTP")))
        if self.waits_for == "head" and self._head_bytes > self._shared.bounds.head_bytes:
            self.refuse(431, "the head of the request is too large")
        elif self.waits_for == "body" and self._silent_bytes > self._shared.bounds.head_bytes:
            self.refuse(431, "the trailer of the request is too large")

    def eof_received(self) -> bool:
        """The client sends no more; True keeps the connection for the answers to what it had asked in full."""
        last = self._queue[-1] if self._queue else None
        if last is None or not last.whole or not self._transport.can_write_eof():
            return False
        last.keep_alive = False
        for exchange in self._queue:
            exchange.half_close()
        return True

    def pause_writing(self) -> None:
        self.stalled_since = self._loop.time()

    def resume_writing(self) -> None:
        self.stalled_since = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def drained(self) -> None:
        """Returns when the client has read enough, or is gone."""
        while self.stalled_since is not None:
            if self._drained is None or self._drained.done():
                self._drained = self._loop.create_future()
            await self._drained

    def write(self, data: bytes) -> None:
        """Sends bytes, unless the connection is closing."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def pause(self) -> None:
        """Takes nothing more in for now."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Takes more in, unless a request waits behind the one that is being answered."""
        if self._paused and len(self._queue) < 2 and not self._transport.is_closing():
            self._paused = False
            self.heard = self._loop.time()  # the client was kept waiting, not the other way round
            self._transport.resume_reading()

    # ── callbacks of the parser ──────────────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._expects_continue = False
        self._in_head = True
        self.waits_for = "head"
        self.since = self.heard

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer must not speak for the head (RFC 9110, 6.5.1): a proxy in front did not look at it
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        bounds, headers, parser = self._shared.bounds, self._headers, self._parser
        if self._head_bytes > bounds.head_bytes or len(headers) > bounds.head_fields:
            size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > bounds.head_bytes or len(headers) > bounds.head_fields:
                self._refuse_parsing(431, "the head of the request is too large")
        raw_path, _, query = self._target().partition(b"?")
        version = parser.get_http_version()
        path = raw_path.decode("ascii")
        scope = {
            **self._ends,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
        }
        keep_alive = version != "1.0" and parser.should_keep_alive()
        exchange = Exchange(self, scope, keep_alive=keep_alive, expects_continue=self._expects_continue)
        self._exchange = exchange
        self._queue.append(exchange)
        self._body_bytes = self._silent_bytes = 0
        self._in_head = False
        self.waits_for = "body"
        self.since = self.heard
        if len(self._queue) == 1:
            self._start(exchange)
        else:
            self.pause()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._silent_bytes = 0
        exchange = self._exchange
        if exchange is None or exchange.ended:
            if self._body_bytes > self._shared.bounds.discarded_bytes:
                self._transport.abort()
        elif exchange.feed(body):
            self.pause()

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        self.since = self.heard
        exchange = self._exchange
        if exchange is None:
            return
        if self._parser.should_upgrade():  # the parser leaves what follows, the body included, to the other protocol
            exchange.keep_alive = False
            headers = dict(self._headers)
            if b"transfer-encoding" in headers:
                self._refuse_parsing(400, "a body in chunks cannot come with an offer to upgrade")
            length = headers.get(b"content-length", b"0")
            self._unparsed = int(length) if length.isdigit() else 0
            if self._unparsed:
                return
        exchange.complete()
        self.waits_for = "request" if exchange.ended else "answer"

    def _take_unparsed(self, data: bytes) -> None:
        """The body of a request that offered another protocol; what follows it is not looked at."""
        left, exchange = self._unparsed or 0, self._exchange
        if left and exchange is not None:
            self.on_body(data[:left])
            self._unparsed = max(0, left - len(data))
            if not self._unparsed:
                exchange.complete()
                self.waits_for = "answer"
        if not self._unparsed:
            self.pause()

    def _target(self) -> bytes:
        """Path and query of the request. Raises _Refused for what has none."""
        url = self._url
        if url[:1] != b"/" and url != b"*":  # `http://host/path`, as to a proxy
            try:
                parsed = httptools.parse_url(url)
            except httptools.HttpParserInvalidURLError:
                self._refuse_parsing(400, "the target of the request is no path")
            url = (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
        if not url.isascii():
            self._refuse_parsing(400, "the target of the request is not percent-encoded")
        return url.partition(b"#")[0]

    def _refuse_parsing(self, status: int, text: str) -> None:
        self._refused = (status, text)
        raise _Refused

    def _start(self, exchange: Exchange) -> None:
        exchange.task = self._loop.create_task(exchange.run(self._shared.application, self._shared.tasks))
        self._shared.tasks.add(exchange.task)

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, exchange: Exchange) -> None:
        """The answer to the first request in line was given to the transport."""
        if self._transport.is_closing():
            return
        self._queue.popleft()
        if not exchange.keep_alive:
            self._leave(linger=not exchange.whole)
        elif self._queue:
            self._start(self._queue[0])
        elif self.waits_for == "answer":
            self.since = self._loop.time()
            self.waits_for = "request"
        if self._paused:
            self.resume()

    def refuse(self, status: int, text: str, *, linger: bool = True) -> None:
        """Answers outside the application, unless it has begun to answer, and closes; *linger* lets the client read it first."""
        if self._transport.is_closing():
            return
        if not self._queue or not self._queue[0].started:
            body = f"{text}\n".encode()
            self._transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, _PHRASES[status], len(body), body)
            )
        self._leave(linger=linger)

    def _leave(self, *, linger: bool) -> None:
        """Closes, at once or, with *linger*, when the client has read what it was told."""
        self._forsake()
        if linger and self._transport.can_write_eof():  # a closed socket that is still sent to would take the answer back
            self._transport.write_eof()
            self.waits_for, self.since, self._body_bytes = "goodbye", self._loop.time(), 0
            self.resume()
        else:
            self._transport.close()

    def cut(self) -> None:
        """Ends the connection and whatever is being done for it."""
        self._forsake()
        self._transport.abort()

    def finish(self) -> None:
        """Ends the connection as soon as what is being answered is."""
        if not self._queue:
            self._transport.close()
        for exchange in self._queue:
            exchange.keep_alive = False

    def check(self, now: float) -> None:
        """Ends the connection when its client takes too long for what it has to do. Called by the sweep."""
        bounds = self._shared.bounds
        if self._transport.is_closing():
            return
        if self.stalled_since is not None and now - self.stalled_since > bounds.answer_stall_s:
            self.cut()
        elif self.waits_for == "head" and now - self.since > bounds.head_s:
            self.refuse(408, "the head of the request took too long") if self._head_bytes else self._transport.close()
        elif self.waits_for == "body" and not self._paused:
            elapsed = now - self.since
            slow = elapsed > bounds.body_idle_s and self._body_bytes < bounds.body_rate * elapsed
            if now - self.heard > bounds.body_idle_s or slow:
                self.refuse(408, "the body of the request came too slowly")
        elif self.waits_for == "request" and now - self.since > bounds.keep_alive_s:
            self._transport.close()
        elif self.waits_for == "goodbye" and now - self.since > bounds.goodbye_s:
            self._transport.abort()

    def _forsake(self) -> None:
        for exchange in self._queue:
            exchange.forsake()
        self._queue.clear()

    def _discard(self, size_bytes: int) -> None:
        self._body_bytes += size_bytes
        if self._body_bytes > self._shared.bounds.discarded_bytes:
            self._transport.abort()
