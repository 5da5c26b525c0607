"""The doors of a service close together."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace

from nexus.app.doors import Doors


class Draining:
    """A server whose drain lasts until every one of the others drains too."""

    def __init__(self, others: asyncio.Barrier) -> None:
        self._others = others
        self.timeout_s = 0.0

    async def drain(self, timeout_s: float) -> bool:
        self.timeout_s = timeout_s
        await self._others.wait()
        return True


async def test_all_ports_drain_in_one_time() -> None:
    """With a receiver and a port for algorithms, open requests of all of them have the one time there is, side by side."""
    house = Doors.__new__(Doors)
    told: list[str] = []
    house.application = SimpleNamespace(drain=lambda: told.append("draining"))  # type: ignore[assignment]
    together = asyncio.Barrier(3)
    servers = [Draining(together) for _ in range(3)]
    house._servers = servers  # type: ignore[assignment]
    await asyncio.wait_for(house.close(timedelta(seconds=7)), 5)
    assert told == ["draining"]
    assert [server.timeout_s for server in servers] == [7.0] * 3
