"""The server on a real socket: bounds on heads, bodies, time and connections, draining, TLS, and the memory of large bodies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nexus.api import server as server_module
from nexus.api.protocol import Bounds
from nexus.api.server import GOODBYE_S, Server
from nexus.kernel.errors import InvalidSetting
from tests.unit.api.service import House

GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /algorithm/v1/run/hello-world HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = b'{"algorithmParameters":{"a":1}}'
PATIENCE_S = 60.0
LIMITS_S = (0.2, 2.0, 20.0)  # a machine that stalls for longer than the first, before a byte was read, is given the next


@asynccontextmanager
async def serving(house: House | None = None, **bounds: Any) -> AsyncIterator[tuple[House, Server]]:
    house = house or await House().furnish()
    server = Server(house.app, bounds=Bounds(**bounds))
    await server.start()
    try:
        yield house, server
    finally:
        await server.drain(2)


class Line:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer on the connection."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)).decode()
        status = int(head.split(" ", 2)[1])
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:] if line)}
        body = await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), PATIENCE_S)
        return status, headers, body

    async def closed(self) -> bytes:
        """What comes until the service closes the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE_S)
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def line(server: Server, context: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep looks often, so that a test of a time limit is short."""
    monkeypatch.setattr(server_module, "SWEEP_S", 0.02)


# ── plain service ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_connection_serves_many_requests() -> None:
    """Keep-alive, pipelining, chunked bodies and `Expect: 100-continue` work on one connection."""
    async with serving() as (_, server), line(server) as client:
        await client.send(POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        status, headers, body = await client.answer()
        assert (status, headers["content-type"], list(json.loads(body))) == (202, "application/json", ["requestId"])
        assert "date" in headers
        assert "server" not in headers
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert (await client.answer())[0] == 202
        await client.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(BODY)
        assert (await client.answer())[0] == 202
        await client.send((GET + b"\r\n") * 20)
        assert [(await client.answer())[0] for _ in range(20)] == [200] * 20
        await client.send(GET + b"Connection: close\r\n\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.closed() == b""


async def test_percent_encoded_parts_reach_the_routes() -> None:
    """A slash inside a name survives the whole way from the socket."""
    async with serving() as (house, server), line(server) as client:
        run_id = await house.accept(tag="a/b c")
        await client.send(b"GET /algorithm/v1/results/tags/a%2Fb%20c HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert json.loads((await client.answer())[2])[0]["requestId"] == run_id


async def test_head_and_errors_keep_the_connection_in_step() -> None:
    """After a HEAD, a 404 or a refused body the next request on the connection gets its own answer."""
    async with serving() as (_, server), line(server) as client:
        await client.send(b"HEAD /docs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await client.send(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.answer())[0] == 404
        await client.send(POST.replace(b"/run/", b"/nothing/") + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000)
        assert (await client.answer())[0] == 404
        await client.send(GET + b"\r\n")
        assert (await client.answer())[0] == 200


async def test_two_ports_share_an_application() -> None:
    """Scheduler and receiver may have ports of their own over the same doors."""
    async with serving() as (house, first), serving(house) as (_, second):
        assert first.port != second.port
        run_id = await house.accept()
        report = b'{"resultUri":"x","errorCause":"","errorDetails":""}'
        async with line(second) as client:
            path = b"POST /algorithm/v1/complete/hello-world/requests/%b HTTP/1.1\r\nHost: localhost\r\n" % run_id.encode()
            await client.send(path + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(report) + report)
            assert (await client.answer())[0] == 202
        async with line(first) as client:
            path = b"GET /algorithm/v1/results/hello-world/requests/%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % run_id.encode()
            await client.send(path)
            assert json.loads((await client.answer())[2])["status"] == "COMPLETED"


async def test_a_taken_port_is_said() -> None:
    """A port that another service has is an InvalidSetting with what to do."""
    async with serving() as (house, server):
        other = Server(house.app, port=server.port)
        with pytest.raises(InvalidSetting, match="cannot be listened on"):
            await other.start()


async def test_what_is_not_http_is_refused() -> None:
    """Bytes that are no HTTP get 400 and the connection is closed; the service goes on."""
    async with serving() as (_, server):
        for noise in (
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"nonsense\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            POST + b"Content-Length: -1\r\n\r\n",
        ):
            async with line(server) as client:
                await client.send(noise)
                assert (await client.closed()).startswith(b"HTTP/1.1 400")
        for smuggled in (
            b"Content-Length: 3\r\nContent-Length: 5\r\n\r\n",
            b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        ):
            async with line(server) as client:
                await client.send(POST + smuggled)
                assert (await client.closed()).startswith(b"HTTP/1.1 400")
        async with line(server) as client:
            await client.send(GET + b"\r\n")
            assert (await client.answer())[0] == 200


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X: " + b"x" * 40_000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: %b\r\n" % (number, b"y" * 500) for number in range(90)) + b"\r\n",
        GET + b"".join(b"X-%d: y\r\n" % number for number in range(101)) + b"\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        GET + b"X: " + b"x" * 1_000_000,
    ],
)
async def test_a_head_has_a_size(head: bytes) -> None:
    """Too many header fields, too long ones, or one that never ends: 431, and the connection is closed."""
    async with serving() as (_, server), line(server) as client:
        client.writer.write(head)
        assert (await client.closed()).startswith(b"HTTP/1.1 431")


async def test_a_large_body_beside_a_small_head_is_fine() -> None:
    """The bound on the head counts the head alone, in whatever pieces the request comes."""
    body = b'{"algorithmParameters":{"a":"' + b"x" * 60_000 + b'"}}'
    async with serving() as (_, server), line(server) as client:
        for _ in range(2):
            await client.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert (await client.answer())[0] == 202


@pytest.mark.usefixtures("swift")
async def test_a_head_that_drips_is_408() -> None:
    """A client that never finishes its head is answered 408 and let go, however steadily it drips."""
    for limit_s in LIMITS_S:
        async with serving(head_s=limit_s) as (_, server), line(server) as client:
            await client.send(GET)
            drip = asyncio.create_task(drip_into(client, b"X: y\r\n"))
            answer = await client.closed()
            drip.cancel()
        if answer:
            break
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.usefixtures("swift")
async def test_a_silent_connection_is_closed() -> None:
    """A connection on which nothing is asked is closed without a word, a fresh one and a kept one."""
    async with serving(head_s=0.1) as (_, server), line(server) as client:
        assert await client.closed() == b""
    async with serving(keep_alive_s=0.2) as (_, server), line(server) as client:
        await client.send(GET + b"\r\n")
        await client.answer()
        assert await client.closed() == b""


@pytest.mark.usefixtures("swift")
async def test_a_body_that_stops_is_408_and_leaves_nothing() -> None:
    """A body that does not go on is 408; neither run nor object is kept."""
    async with serving(body_idle_s=0.1) as (house, server), line(server) as client:
        await client.send(POST + b"Content-Length: 1000000\r\n\r\n" + b'{"algorithmParameters":{"a":"' + b"x" * 100_000)
        assert (await client.closed()).startswith(b"HTTP/1.1 408")
        await until(lambda: house.app.context.traffic.requests.get(("create", 499)) == 1)
        assert house.objects._objects == {}
        assert sum((await house.reading.counts()).values()) == 0


@pytest.mark.usefixtures("swift")
async def test_a_body_that_drips_is_408() -> None:
    """A sender that never pauses long but never gets on either is refused by its rate."""
    async with serving(body_idle_s=0.2, body_rate=1e6) as (_, server), line(server) as client:
        await client.send(POST + b"Content-Length: 1000000\r\n\r\n")
        drip = asyncio.create_task(drip_into(client, b"x"))
        assert (await client.closed()).startswith(b"HTTP/1.1 408")
        drip.cancel()


@pytest.mark.usefixtures("swift")
async def test_a_long_poll_is_no_slow_client() -> None:
    """A client that waits for its answer is not late, however short the limits for sending are."""
    house = await House().furnish()
    run_id = await house.accept()
    statuses = []
    for limit_s in LIMITS_S:
        wait = f"GET /algorithm/v1/results/hello-world/requests/{run_id}?wait={2 * limit_s} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        limits = {"head_s": limit_s, "body_idle_s": limit_s, "keep_alive_s": limit_s}
        async with serving(house, **limits) as (_, server), line(server) as client:
            await client.send(wait.encode())
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
                statuses.append((await client.answer())[0])
        if statuses:
            break
    assert statuses == [200]


@pytest.mark.usefixtures("swift")
async def test_a_reader_that_stops_reading_is_let_go() -> None:
    """An answer nobody takes does not hold its connection for ever."""
    async with serving(answer_stall_s=0.2) as (house, server):
        run_id = await house.accept()
        house.objects.keep(f"results/{run_id}/x.json", b"x" * 30_000_000)
        await house.call(
            "POST", f"/algorithm/v1/complete/hello-world/requests/{run_id}", {"resultUri": f"nexus:results/{run_id}/x.json"}
        )
        shown = (await house.call("GET", f"/algorithm/v1/results/hello-world/requests/{run_id}")).json()["resultUri"]
        path = shown.removeprefix("http://127.0.0.1:8080")
        async with line(server) as client:
            await until(lambda: server.connections == 1)
            client.writer.transport.pause_reading()
            await client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await until(lambda: server.connections == 0)


async def test_connections_are_bounded() -> None:
    """Beyond the limit a connection is answered 503 and closed; those that are open go on, and room is made again."""
    async with serving(connections=3) as (_, server):
        async with line(server) as first, line(server), line(server):
            await until(lambda: server.connections == 3)
            async with line(server) as extra:
                assert (await extra.closed()).startswith(b"HTTP/1.1 503")
            await first.send(GET + b"\r\n")
            assert (await first.answer())[0] == 200
        await until(lambda: server.connections == 0)
        async with line(server) as again:
            await again.send(GET + b"\r\n")
            assert (await again.answer())[0] == 200


async def test_a_body_nobody_wants_is_not_taken_for_ever() -> None:
    """A refused sender gets its answer while it still sends; what it sends beyond a bound ends the connection."""
    house = await House(max_payload_bytes=1000).furnish()
    async with serving(house, discarded_bytes=300_000) as (_, server), line(server) as client:
        await client.send(POST + b"Content-Length: 50000000\r\n\r\n")
        assert (await client.answer())[0] == 413
        with pytest.raises(ConnectionError):
            await flood(client)


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_draining_lets_requests_end() -> None:
    """A drain takes no new connections, answers held polls, lets a body that is on its way come in, and closes idle ones."""
    house = await House().furnish()
    server = Server(house.app)
    await server.start()
    run_id = await house.accept()
    async with line(server) as idle, line(server) as polling, line(server) as sending:
        path = f"GET /algorithm/v1/results/hello-world/requests/{run_id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await polling.send(path.encode())
        await idle.send(GET + b"\r\n")
        await idle.answer()
        await sending.send(POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:5])
        await until(lambda: server.requests == 2)
        port = server.port
        house.app.drain()
        ended = asyncio.create_task(server.drain(PATIENCE_S))
        assert json.loads((await polling.answer())[2])["status"] == "BUFFERED"
        assert await idle.closed() == b""
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        await sending.send(BODY[5:])
        status, headers, _ = await sending.answer()
        assert (status, headers["connection"]) == (202, "close")
        assert await ended


async def test_a_drain_has_an_end() -> None:
    """A client that holds its request open does not hold the service: the time given is kept."""
    house = await House().furnish()
    server = Server(house.app)
    await server.start()
    async with line(server) as client:
        await client.send(POST + b"Content-Length: 100\r\n\r\n")
        await until(lambda: server.requests == 1)
        assert not await server.drain(0.1)
        assert await client.closed() == b""


async def test_tls(tmp_path: Path) -> None:
    """With a certificate the service speaks TLS only, and addresses it makes are https; a bad one is said."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-keyout", str(key), "-out", str(cert)], capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl is missing")
    house = await House().furnish()
    server = Server(house.app, tls_cert=cert, tls_key=key)
    await server.start()
    context = ssl.create_default_context(cafile=str(cert))
    context.check_hostname = False
    run_id = await house.accept()
    async with line(server, context) as client:
        await client.send(f"GET /algorithm/v1/payload/hello-world/requests/{run_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await client.answer())[1]["location"].startswith("https://localhost/")
    async with line(server) as client:
        await client.send(GET + b"\r\n")
        assert not (await client.closed()).startswith(b"HTTP")
    # a client that does not answer the end of its connection is not waited for: most programs never do
    silent = context.wrap_bio(incoming := ssl.MemoryBIO(), outgoing := ssl.MemoryBIO(), server_hostname="localhost")
    async with line(server) as client:
        while True:
            try:
                silent.do_handshake()
                break
            except ssl.SSLWantReadError:
                await client.send(outgoing.read())
                incoming.write(await asyncio.wait_for(client.reader.read(65536), 10))
        await client.send(outgoing.read())
        await until(lambda: server.connections == 1)
        assert await server.drain(GOODBYE_S + 5)
    with pytest.raises(InvalidSetting, match="certificate"):
        await Server(house.app, tls_cert=key, tls_key=cert).start()
    with pytest.raises(InvalidSetting, match="no file"):
        await Server(house.app, tls_cert=cert, tls_key=tmp_path / "none").start()


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def memory(pid: int) -> dict[str, int]:
    """Memory of a process in bytes, by the names of /proc."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: int(size) * 1024 for name, size in re.findall(r"(VmHWM|RssAnon|VmRSS):\s+(\d+) kB", text)}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
async def test_a_payload_of_100_mb_costs_no_memory(tmp_path: Path) -> None:
    """While 100 MB come in, are checked and go out again, anonymous memory stays within 16 MiB of idle, the whole process
    within 1.5 times the payload; the bytes are the same."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contracts.api_service", str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await asyncio.wait_for(process.stdout.readline(), PATIENCE_S))
        size = 100_000_000
        piece = b"0123456789abcdef" * 4096
        head, tail = b'{"tag":"large","algorithmParameters":{"text":"', b'"}}'
        count = (size - len(head) - len(tail)) // len(piece)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        client = Line(reader, writer)
        await client.send(POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)  # everything is loaded once
        await client.answer()
        idle = memory(process.pid)["RssAnon"]
        watch = asyncio.create_task(watched(process.pid))
        await client.send(POST + b"Content-Length: %d\r\n\r\n" % (len(head) + count * len(piece) + len(tail)) + head)
        for _ in range(count):
            await client.send(piece)
        await client.send(tail)
        status, _, body = await client.answer()
        assert status == 202
        path = f"/algorithm/v1/payload/hello-world/requests/{json.loads(body)['requestId']}"
        await client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        location = (await client.answer())[1]["location"]
        path = "/" + location.partition("//")[2].partition("/")[2]
        await client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer_head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(re.search(r"content-length: (\d+)", answer_head)[1])  # type: ignore[index]
        assert length == count * len(piece) + len(b'{"text":""}')
        assert await reader.readexactly(9) == b'{"text":"'
        for _ in range(count):
            assert await reader.readexactly(len(piece)) == piece
        assert await reader.readexactly(2) == b'"}'
        watch.cancel()
        peak = await watch
        writer.close()
        await writer.wait_closed()
        assert peak - idle <= 16 * 1024 * 1024, f"{(peak - idle) / 1e6:.1f} MB above idle"
        assert memory(process.pid)["VmHWM"] <= 1.5 * size
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def watched(pid: int) -> int:
    """The largest anonymous memory seen until cancelled."""
    peak = 0
    try:
        while True:
            peak = max(peak, memory(pid)["RssAnon"])
            await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        return peak


async def drip_into(client: Line, drop: bytes) -> None:
    while True:
        client.writer.write(drop)
        await asyncio.sleep(0.02)


async def flood(client: Line) -> None:
    for _ in range(500):
        await client.send(b"x" * 100_000)


async def until(true: Callable[[], bool]) -> None:
    """Returns when *true* is; fails after a minute."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.01)
