"""The doors of a started service: the HTTP application over its parts, on one port or two."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from nexus.api.doors import Doors as Application
from nexus.api.doors import build_app
from nexus.api.server import Server
from nexus.api.services import DoorSettings, Services
from nexus.app import registry
from nexus.app.settings import Settings
from nexus.app.wiring import Parts


class Doors:
    """Open sockets with the application behind them. Until :meth:`ready` the service says it is not."""

    def __init__(self, parts: Parts) -> None:
        self._why_not: str | None = "the service is starting"
        self._settings = parts.settings
        self.application: Application = build_app(_services(parts, lambda: self._why_not), _rules(parts.settings))
        self._servers: list[Server] = []
        self.scheduler_url = ""
        self.receiver_url = ""

    async def open(self) -> None:
        """Binds the ports. Raises InvalidSetting when one is taken."""
        self.scheduler_url = await self._listen(self._settings.port)
        same = self._settings.receiver_port is None
        self.receiver_url = self.scheduler_url if same else await self._listen(self._settings.receiver_port or 0)

    def ready(self) -> None:
        """From now on the service says that it is ready."""
        self._why_not = None

    async def close(self, timeout: timedelta) -> None:
        """Not ready, no new runs, open requests are answered within *timeout*, then the sockets close."""
        self._why_not = "the service is stopping"
        self.application.drain()
        for server in self._servers:
            await server.drain(timeout.total_seconds())

    async def _listen(self, port: int) -> str:
        settings = self._settings
        server = Server(
            self.application,
            settings.host,
            port,
            tls_cert=Path(settings.tls_cert) if settings.tls_cert else None,
            tls_key=Path(settings.tls_key) if settings.tls_key else None,
        )
        await server.start()
        self._servers.append(server)
        scheme = "https" if settings.tls_cert else "http"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        return f"{scheme}://{host}:{server.port}"


async def open_doors(parts: Parts) -> Doors:
    """The doors of *parts*, bound; algorithms are told the addresses."""
    doors = Doors(parts)
    await doors.open()
    parts.addresses.scheduler, parts.addresses.receiver = doors.scheduler_url, doors.receiver_url
    return doors


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
        tokens=parts.store,
        queue=queue,
        registry=registry.views(parts.settings.registry) if parts.settings.registry else {},
        ready=why_not,
    )


def _rules(settings: Settings) -> DoorSettings:
    return DoorSettings(
        inline_payload_bytes=settings.inline_payload,
        max_payload_bytes=settings.max_payload,
        require_token=settings.require_token,
        behind_proxy=settings.behind_proxy,
        allowed_hosts=frozenset(settings.allowed_hosts),
    )
