"""The HTTP server as a value the roles start and stop. Signals, order of stopping and exit codes are the roles'.

One :class:`Server` serves one address; two may serve the same application (scheduler and receiver on ports of their own).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from email.utils import formatdate
from pathlib import Path
from typing import Any

from nexus.api.exchange import Application
from nexus.api.protocol import Bounds, Connection, Shared
from nexus.kernel.errors import InvalidSetting

log = logging.getLogger("nexus.api")

BACKLOG = 2048  # existing clients open a thousand connections at once
SWEEP_S = 1.0
GOODBYE_S = 1.0  # for a TLS client to answer the end of its connection; most never do, and a stop would wait for each


class Server:
    """Serves an ASGI application on one address. ``port`` 0 takes a free one; :attr:`port` says which."""

    def __init__(
        self,
        app: Application,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        sock: socket.socket | None = None,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._host, self._port, self._sock = host, port, sock
        self._tls_cert, self._tls_key = tls_cert, tls_key
        self._shared = Shared(app, bounds or Bounds())
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
        return len(self._shared.connections)

    @property
    def requests(self) -> int:
        """How many requests are being answered."""
        return len(self._shared.tasks)

    async def start(self) -> None:
        """Listens. Raises InvalidSetting when the address cannot be taken or the certificate cannot be read."""
        context = self._tls_context()
        loop = asyncio.get_running_loop()
        where: dict[str, Any] = {"sock": self._sock} if self._sock is not None else {"host": self._host, "port": self._port}
        if context is not None:  # a handshake counts as the head: the sweep does not see it
            where.update(ssl_handshake_timeout=self._shared.bounds.head_s, ssl_shutdown_timeout=GOODBYE_S)
        try:
            self._server = await loop.create_server(lambda: Connection(self._shared, loop), ssl=context, backlog=BACKLOG, **where)
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
        for connection in list(self._shared.connections):
            connection.finish()
        in_time = await self._emptied(timeout_s)
        if not in_time:
            log.warning("server.drain-timeout", extra={"fields": {"requests": self.requests}})
            for connection in list(self._shared.connections):
                connection.cut()
            if not await self._emptied(1.0):
                for task in list(self._shared.tasks):
                    task.cancel()
                await asyncio.gather(*self._shared.tasks, return_exceptions=True)
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        return in_time

    async def _emptied(self, timeout_s: float) -> bool:
        """Whether no connection and no request is left within the time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._shared.connections or self._shared.tasks:
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self._tick()
            now = loop.time()
            for connection in list(self._shared.connections):
                connection.check(now)

    def _tick(self) -> None:
        """Sets the ``Date`` of the answers of this second (RFC 9110, 6.6.1)."""
        self._shared.fixed_headers = b"date: %b\r\n" % formatdate(usegmt=True).encode()

    def _tls_context(self) -> ssl.SSLContext | None:
        if self._tls_cert is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for file in (self._tls_cert, self._tls_key):
            if file is not None and not file.is_file():
                raise InvalidSetting(f"there is no file `{file}`", hint="`--tls-cert` and `--tls-key` are PEM files")
        try:
            context.load_cert_chain(self._tls_cert, self._tls_key)
        except OSError as error:  # ssl.SSLError is one
            raise InvalidSetting(
                f"the certificate or its key cannot be used: {error}", hint="`--tls-cert` and `--tls-key` are PEM files"
            ) from error
        return context
