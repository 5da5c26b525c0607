"""One connection over a transport that is a list: requests in any pieces, pipelines, other forms of HTTP."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.api.protocol import Bounds, Connection, Shared

HEAD = b"Host: localhost\r\n"


class Wire(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 8080)}.get(name, default)

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with method, path, query and body."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    text = b"%b %b?%b %b" % (scope["method"].encode(), scope["raw_path"], scope["query_string"], body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


async def talk(pieces: list[bytes], app: Any = echo, **bounds: Any) -> tuple[list[bytes], Wire, Connection]:
    """What the application's answers say, in order, after each piece had its time."""
    shared = Shared(app, Bounds(**bounds))
    connection = Connection(shared, asyncio.get_running_loop())
    wire = Wire()
    connection.connection_made(wire)
    for piece in pieces:
        if not wire.closed:
            connection.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    return bodies(wire.written), wire, connection


def bodies(written: bytes) -> list[bytes]:
    """The bodies of answers that follow one another."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        match = re.search(rb"content-length: (\d+)", head)
        length = int(match[1]) if match else 0
        found.append(rest[:length])
        written = rest[length:]
    return found


def post(number: int, size: int, *, chunked: bool) -> tuple[bytes, bytes]:
    """A request and what its echo says."""
    body = (b"%d-" % number) * size
    path = b"/r%d?q=%d" % (number, number)
    if chunked:
        sent = b"Transfer-Encoding: chunked\r\n\r\n" + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    else:
        sent = b"Content-Length: %d\r\n\r\n" % len(body) + body
    return b"POST " + path + b" HTTP/1.1\r\n" + HEAD + sent, b"POST /r%d?q=%d " % (number, number) + body


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=6), st.lists(st.integers(0, 400), max_size=12))
@settings(max_examples=100)
async def test_requests_are_answered_in_order_however_they_are_cut(requests: list[tuple[int, bool]], cuts: list[int]) -> None:
    """A pipeline of requests, cut anywhere, is answered once each, in order, with the right bodies."""
    made = [post(number, size, chunked=chunked) for number, (size, chunked) in enumerate(requests)]
    stream = b"".join(sent for sent, _ in made)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    found, wire, _ = await talk(pieces)
    assert found == [said for _, said in made]
    assert not wire.closed


@given(st.binary(max_size=200))
@settings(max_examples=200)
async def test_noise_never_breaks_a_connection(noise: bytes) -> None:
    """Any bytes, alone or after a good request, are answered or refused; nothing escapes."""
    await talk([noise])
    found, _, _ = await talk([b"GET /a HTTP/1.1\r\n" + HEAD + b"\r\n" + noise])
    assert found[0].startswith(b"GET /a?") or b"not HTTP" in found[0] or b"head" in found[0] or b"target" in found[0]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (b"/a%2Fb?x=%20", b"GET /a%2Fb?x=%20 "),
        (b"/?", b"GET /? "),
        (b"/a?b?c", b"GET /a?b?c "),
        (b"//a//b", b"GET //a//b? "),
        (b"http://localhost/p?q", b"GET /p?q "),
        (b"http://localhost", b"GET /? "),
    ],
)
async def test_targets(target: bytes, says: bytes) -> None:
    """The path reaches the application as it was sent, the absolute form without its host."""
    found, _, _ = await talk([b"GET " + target + b" HTTP/1.1\r\n" + HEAD + b"\r\n"])
    assert found == [says]


@pytest.mark.parametrize("target", [b"/\xc3\xbc", b"/\xff"])
async def test_a_target_is_ascii(target: bytes) -> None:
    """A path that is not percent-encoded is refused, not guessed."""
    _, wire, _ = await talk([b"GET " + target + b" HTTP/1.1\r\n" + HEAD + b"\r\n"])
    assert wire.written.startswith(b"HTTP/1.1 400")


async def test_an_older_client_is_answered_once() -> None:
    """HTTP/1.0, and `Connection: close`, end with the answer."""
    for request in (b"GET /a HTTP/1.0\r\n\r\n", b"GET /a HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n"):
        found, wire, _ = await talk([request + b"GET /b HTTP/1.1\r\n\r\n"])
        assert found == [b"GET /a? "]
        assert b"connection: close" in wire.written
        assert wire.closed


async def test_a_wish_for_another_protocol_is_passed_over() -> None:
    """A client that offers HTTP/2 or a web socket gets its answer in HTTP/1.1, and the connection ends."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    found, wire, _ = await talk([b"GET /a HTTP/1.1\r\n" + HEAD + upgrade + b"\r\n"])
    assert found == [b"GET /a? "]
    assert wire.closed
    found, wire, _ = await talk([b"POST /a HTTP/1.1\r\n" + HEAD + upgrade + b"Content-Length: 2\r\n\r\nhi"])
    assert found == [b"POST /a? hi"]
    found, wire, _ = await talk([b"POST /a HTTP/1.1\r\n" + HEAD + upgrade + b"Content-Length: 4\r\n\r\nh", b"i", b"xx", b"more"])
    assert found == [b"POST /a? hixx"]
    assert wire.closed


async def test_a_sender_waits_for_the_application() -> None:
    """A body the application does not take stops its sender, whatever it would still send."""
    taken = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await taken.wait()
        await echo(scope, receive, send)

    shared = Shared(slow, Bounds())
    connection = Connection(shared, asyncio.get_running_loop())
    wire = Wire()
    connection.connection_made(wire)
    connection.data_received(b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 70_000)
    assert not wire.reading
    taken.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert wire.reading
    connection.data_received(b"x" * 30_000)
    for _ in range(10):
        await asyncio.sleep(0)
    assert bodies(wire.written) == [b"POST /? " + b"x" * 100_000]


async def test_the_application_waits_for_the_reader() -> None:
    """While the client does not read, nothing more is written; when it has gone, nothing is waited for."""
    sent = []

    async def pour(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(4):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": number < 3})
            sent.append(number)

    for gone in (False, True):
        sent.clear()
        shared = Shared(pour, Bounds())
        connection = Connection(shared, asyncio.get_running_loop())
        wire = Wire()
        connection.connection_made(wire)
        connection.pause_writing()
        connection.data_received(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
        for _ in range(5):
            await asyncio.sleep(0)
        assert sent == []
        if gone:
            connection.connection_lost(None)
        else:
            connection.resume_writing()
        for _ in range(5):
            await asyncio.sleep(0)
        assert sent == [0, 1, 2, 3]
        assert shared.tasks == set()
        assert wire.written.endswith(b"" if gone else b"1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n1\r\n3\r\n0\r\n\r\n")
        assert (b"transfer-encoding: chunked" in wire.written) is not gone


async def test_an_application_that_fails_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """An application that raises, or gives no whole answer, leaves no client waiting."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("inside")

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def split(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"location", b"/\r\nset-cookie: a=b")]})

    for app in (broken, half, split):
        _, wire, _ = await talk([b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n"], app)
        assert wire.closed
        assert b"set-cookie" not in wire.written
        assert b"inside" not in wire.written


async def test_one_answer_is_one_write() -> None:
    """Head and body of a small answer leave together."""
    writes: list[bytes] = []
    shared = Shared(echo, Bounds())
    connection = Connection(shared, asyncio.get_running_loop())
    wire = Wire()
    wire.write = writes.append  # type: ignore[method-assign, assignment]
    connection.connection_made(wire)
    connection.data_received(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(writes) == 1


async def test_a_trailer_does_not_speak_for_the_head() -> None:
    """Fields after a chunked body are not among the request's headers: a proxy in front did not look at them."""
    seen: list[Any] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.append([name for name, _ in scope["headers"]])
        await echo(scope, receive, send)

    sent = b"POST /a HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    found, _, _ = await talk([sent], look)
    assert found == [b"POST /a? hi"]
    assert seen == [[b"host", b"transfer-encoding"]]


@pytest.mark.parametrize("endless", [b"0\r\nX: ", b"1;"])
async def test_what_is_no_body_is_bounded_too(endless: bytes) -> None:
    """A trailer, or an extension of a chunk, that never ends is 431: it would be kept, or read, for ever."""
    begun = b"POST /a HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n" + endless
    _, wire, _ = await talk([begun, *[b"a" * 1000] * 40], head_bytes=32_000)
    assert b" 431 " in wire.written
    assert wire.closed


async def test_many_small_chunks_are_a_body() -> None:
    """A body in pieces of one byte is taken, though its framing is longer than a head may be."""
    found, _, _ = await talk(
        [b"POST /a HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\na\r\n"] * 60, b"0\r\n\r\n"],
        head_bytes=200,
    )
    assert found == [b"POST /a? " + b"a" * 60]


async def test_chunks_behind_an_offer_of_another_protocol_are_refused() -> None:
    """The parser leaves such a body alone, so it is refused in words and not taken for empty."""
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    found, wire, _ = await talk([b"POST /a HTTP/1.1\r\n" + HEAD + offer])
    assert found == [b"a body in chunks cannot come with an offer to upgrade\n"]
    assert wire.closed


async def test_a_client_that_only_stops_sending_is_answered() -> None:
    """After a whole request the end of what a client sends is no end of its wish to read."""
    shared = Shared(echo, Bounds())
    connection = Connection(shared, asyncio.get_running_loop())
    wire = Wire()
    wire.can_write_eof = lambda: True  # type: ignore[method-assign]
    connection.connection_made(wire)
    connection.data_received(b"POST /a HTTP/1.1\r\n" + HEAD + b"Content-Length: 2\r\n\r\nhi")
    assert connection.eof_received()
    for _ in range(20):
        await asyncio.sleep(0)
    assert bodies(wire.written) == [b"POST /a? hi"]
    assert wire.closed


async def test_half_a_request_has_no_answer() -> None:
    """A client that stops sending before its request is whole has gone."""
    shared = Shared(echo, Bounds())
    connection = Connection(shared, asyncio.get_running_loop())
    wire = Wire()
    wire.can_write_eof = lambda: True  # type: ignore[method-assign]
    connection.connection_made(wire)
    connection.data_received(b"POST /a HTTP/1.1\r\n" + HEAD + b"Content-Length: 2\r\n\r\nh")
    assert not connection.eof_received()
    connection.connection_lost(None)


async def test_a_body_that_was_not_waited_for_ends_the_connection() -> None:
    """Answered before `100 Continue`, a client may send its body or not: what comes next is never read as a request."""

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    begun = b"POST /a HTTP/1.1\r\n" + HEAD + b"Content-Length: 999\r\nExpect: 100-continue\r\n\r\n"
    _, wire, _ = await talk([begun, b"GET /b HTTP/1.1\r\n" + HEAD + b"\r\n"], refuse)
    assert wire.written.count(b"HTTP/1.1") == 1
    assert b"connection: close" in wire.written
    assert wire.closed


async def test_a_client_that_stops_sending_gets_a_long_answer_whole() -> None:
    """An answer in pieces goes on after the client closed its half, whoever watches for its leaving."""

    async def long(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        left = asyncio.ensure_future(receive())
        for piece in (b"ab", b"cd", b"ef"):
            await send({"type": "http.response.body", "body": piece, "more_body": piece != b"ef"})
            await asyncio.sleep(0)
            assert not left.done() or piece == b"ef"
        left.cancel()

    shared = Shared(long, Bounds())
    connection = Connection(shared, asyncio.get_running_loop())
    wire = Wire()
    wire.can_write_eof = lambda: True  # type: ignore[method-assign]
    connection.connection_made(wire)
    connection.data_received(b"GET /a HTTP/1.1\r\n" + HEAD + b"\r\n")
    await asyncio.sleep(0)
    assert connection.eof_received()
    for _ in range(20):
        await asyncio.sleep(0)
    assert wire.written.endswith(b"abcdef")
    assert wire.closed
