"""The SDK where no service answers, or another one than was asked for."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Iterator

import pytest

from nexus.kernel.errors import (
    InvalidInput,
    ServiceUnreachable,
)
from nexus.sdk import Nexus, NexusClient, RunRef


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that is taken, so that nobody else gets it, and not listened on, so that nobody answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


async def test_nobody_there_is_said_within_the_bound(nobody: int) -> None:
    """A refused connection ends as ServiceUnreachable, with the address, what to do and the key to repeat with."""
    async with NexusClient(f"http://127.0.0.1:{nobody}", retry_for=0.3) as nexus:
        with pytest.raises(ServiceUnreachable) as caught:
            await nexus.submit("solve", {})
    assert f"127.0.0.1:{nobody}" in caught.value.message
    assert "nexus serve" in caught.value.hint
    assert "idempotency key" in caught.value.hint


@pytest.mark.parametrize(
    ("scheme", "answer", "told", "begins"),
    [("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS", "http://"), ("http", b"", "disconnected", "https://")],
)
async def test_the_wrong_scheme_is_told_apart(scheme: str, answer: bytes, told: str, begins: str) -> None:
    """TLS spoken to a service in the clear, and the other way round: the hint has how the right address begins."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0)
    async with server, NexusClient(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", retry_for=0.1) as nexus:
        with pytest.raises(ServiceUnreachable, match=told) as caught:
            await nexus.run(RunRef("solve", "x"))
    assert caught.value.hint.endswith(f"begins with {begins}")


@pytest.mark.parametrize("server", ["", "127.0.0.1:8080", "ftp://x", "http://user:pw@x", "http://x/?q"])
def test_addresses_are_checked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no address is refused before anything is sent."""
    monkeypatch.delenv("NEXUS__SERVER", raising=False)
    if not server:
        assert NexusClient().server == "http://127.0.0.1:8080"
        return
    with pytest.raises(InvalidInput):
        NexusClient(server)


def test_a_program_that_finds_no_service_prints_what_to_do_and_no_words_of_libraries() -> None:
    """What Python prints of an error nobody caught ends with what is wrong and the hint; the client library's chain is left out."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with (
            Nexus(f"http://127.0.0.1:{closed.getsockname()[1]}", retry_for=0) as nexus,
            pytest.raises(ServiceUnreachable) as caught,
        ):
            nexus.submit("anything", {})
    printed = "".join(traceback.format_exception(caught.value))
    assert "aiohttp" not in printed
    assert printed.rstrip().splitlines()[-1].startswith("hint: start one with `nexus serve`")
