"""The doors of a started service: the HTTP application over its parts, on one port or two."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from nexus.adapters import localpaths
from nexus.api.access import is_loopback
from nexus.api.doors import Doors as Application
from nexus.api.doors import build_app
from nexus.api.server import Server
from nexus.api.services import DoorSettings, Services
from nexus.app import registry, telemetry
from nexus.app.settings import Settings
from nexus.app.wiring import Parts
from nexus.kernel.errors import InvalidSetting

INSIDE_PORT = "inside-port"  # the file in the data folder that keeps the number


class Doors:
    """Open sockets with the application behind them. Until :meth:`ready` the service says it is not."""

    def __init__(self, parts: Parts) -> None:
        self._why_not: str | None = "the service is starting"
        self._settings = parts.settings
        self._addresses = parts.addresses
        self._inside_port = parts.folder.path / INSIDE_PORT
        self.application: Application = build_app(_services(parts, lambda: self._why_not), _rules(parts.settings))
        self._servers: list[Server] = []
        self.scheduler_url = self.receiver_url = ""
        self.algorithms_scheduler_url = self.algorithms_receiver_url = ""

    async def open(self) -> None:
        """Binds the ports, and tells algorithms the addresses. Raises InvalidSetting when a port is taken.

        Where callers need TLS or come from elsewhere, algorithms get a plain loopback port of their own: their requests do not
        leave the machine, and they need not trust a certificate.
        """
        settings = self._settings
        self.scheduler_url = await self._listen(settings.host, settings.port, tls=True)
        self.receiver_url = self.scheduler_url
        if settings.receiver_port is not None:
            self.receiver_url = await self._listen(settings.host, settings.receiver_port, tls=True)
        self.algorithms_scheduler_url, self.algorithms_receiver_url = self.scheduler_url, self.receiver_url
        if settings.tls_cert or not is_loopback(settings.host):
            inside = await self._listen_inside()
            self.algorithms_scheduler_url = self.algorithms_receiver_url = inside
        self._addresses.scheduler, self._addresses.receiver = self.algorithms_scheduler_url, self.algorithms_receiver_url

    def ready(self) -> None:
        """From now on the service says that it is ready."""
        self._why_not = None

    async def close(self, timeout: timedelta) -> None:
        """Not ready, no new runs, open requests are answered within *timeout*, then the sockets close."""
        self._why_not = "the service is stopping"
        self.application.drain()
        await asyncio.gather(*(server.drain(timeout.total_seconds()) for server in self._servers))

    async def _listen_inside(self) -> str:
        """Listens on the loopback port of the last life if that is free: algorithms that outlived it know no other."""
        try:
            last = int(self._inside_port.read_text())
        except (OSError, ValueError):
            last = 0
        try:
            url = await self._listen("127.0.0.1", last, tls=False)
        except (InvalidSetting, OverflowError):
            url = await self._listen("127.0.0.1", 0, tls=False)
        await asyncio.to_thread(self._inside_port.write_text, url.rpartition(":")[2])
        return url

    async def _listen(self, host: str, port: int, *, tls: bool) -> str:
        settings = self._settings
        tls = tls and bool(settings.tls_cert)
        server = Server(
            self.application,
            host,
            port,
            tls_cert=Path(settings.tls_cert) if tls else None,
            tls_key=Path(settings.tls_key) if tls else None,
        )
        await server.start()
        self._servers.append(server)
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if tls else 'http'}://{shown}:{server.port}"


def _services(parts: Parts, why_not: Any) -> Services:
    def queue() -> Mapping[str, Any]:
        load = parts.dispatcher.load()
        return {"waiting": parts.dispatcher.backlog(), "running": load["runs"], "capacity": load}

    return Services(
        submission=parts.submission,
        completion=parts.completion,
        cancellation=parts.cancellation,
        reading=parts.reading,
        tagging=parts.tagging,
        algorithms=parts.algorithms,
        signer=parts.signer,
        objects=parts.objects,
        ids=parts.ids,
        clock=parts.clock,
        elapsed=parts.dispatcher.elapsed,
        tokens=parts.store,
        queue=queue,
        registry=registry.views(parts.settings.registry) if parts.settings.registry else {},
        ready=why_not,
        look=localpaths.look,
        collectors=[telemetry.Faults(lambda: {"dispatcher": parts.dispatcher.faults, "supervisor": parts.supervision.faults})],
    )


def _rules(settings: Settings) -> DoorSettings:
    return DoorSettings(
        inline_payload_bytes=settings.inline_payload,
        max_payload_bytes=settings.max_payload,
        require_token=settings.require_token,
        behind_proxy=settings.behind_proxy,
        allowed_hosts=frozenset(settings.allowed_hosts),
    )
