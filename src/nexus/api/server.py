"""The HTTP server as a value the roles start and stop: uvicorn's protocol on a listening socket, without its signal handlers,
its start-up banner or its loop. Signals, order of stopping and exit codes belong to the roles.

One :class:`Server` serves one address; two may serve the same application (scheduler and receiver on ports of their own).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from nexus.api.protocol import BoundedProtocol, Bounds
from nexus.kernel.errors import InvalidSetting

log = logging.getLogger("nexus.api")

BACKLOG = 2048  # existing clients open a thousand connections at once
SWEEP_S = 1.0


class Server:
    """Serves an ASGI application on one address. ``port`` 0 takes a free one; :attr:`port` says which."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        sock: socket.socket | None = None,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        bounds: Bounds | None = None,
        date_header: bool = True,
    ) -> None:
        self._host, self._port, self._sock = host, port, sock
        self._date_header = date_header
        self._protocol = _protocol(bounds or Bounds())
        self._config = Config(
            app,
            http=self._protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # behind a proxy every caller needs a token: its address decides nothing
            server_header=False,
            date_header=False,
            ssl_certfile=tls_cert,
            ssl_keyfile=tls_key,
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise RuntimeError("the server was not started")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._state.connections)

    async def start(self) -> None:
        """Listens. Raises InvalidSetting when the address cannot be taken or the certificate cannot be read."""
        try:
            self._config.load()
        except OSError as error:  # ssl.SSLError is one
            raise InvalidSetting(
                f"the certificate or its key cannot be used: {error}", hint="`--tls-cert` and `--tls-key` are PEM files"
            ) from error
        loop = asyncio.get_running_loop()
        where: dict[str, Any] = {"sock": self._sock} if self._sock is not None else {"host": self._host, "port": self._port}
        try:
            self._server = await loop.create_server(self._connect, ssl=self._config.ssl, backlog=BACKLOG, **where)
        except OSError as error:
            raise InvalidSetting(
                f"`{self._host}:{self._port}` cannot be listened on: {error.strerror or error}",
                hint="another service may have the port: give another `--port`, or 0 for a free one",
            ) from error
        self._tick()
        self._sweeper = asyncio.create_task(self._sweep(), name=f"sweep {self.port}")

    async def drain(self, timeout_s: float = 10.0) -> bool:
        """Stops listening, lets requests end, and closes every connection. Whether all ended by themselves in time."""
        if self._server is None:
            return True
        server, self._server = self._server, None
        server.close()
        for connection in self._open():
            connection.shutdown()
        in_time = await self._emptied(timeout_s)
        if not in_time:
            log.warning("server.drain-timeout", extra={"fields": {"requests": len(self._state.tasks)}})
            for connection in self._open():
                connection.cut()
            if not await self._emptied(1.0):
                for task in list(self._state.tasks):
                    task.cancel()
                await asyncio.gather(*self._state.tasks, return_exceptions=True)
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        return in_time

    async def _emptied(self, timeout_s: float) -> bool:
        """Whether no connection and no request is left within the time."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self._state.connections or self._state.tasks:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def _open(self) -> list[BoundedProtocol]:
        return cast("list[BoundedProtocol]", list(self._state.connections))

    def _connect(self) -> asyncio.Protocol:
        return self._protocol(self._config, self._state, {})

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self._tick()
            now = loop.time()
            for connection in self._open():
                connection.check(now)

    def _tick(self) -> None:
        """Sets the ``Date`` of the answers of this second."""
        if self._date_header:
            date = formatdate(usegmt=True).encode()
            self._state.default_headers = [(b"date", date)]
            self._protocol.fixed_headers = b"date: %b\r\n" % date


def _protocol(bounds: Bounds) -> type[BoundedProtocol]:
    return type("Protocol", (BoundedProtocol,), {"bounds": bounds})
