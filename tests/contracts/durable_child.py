"""A process to be killed or traced: stores things and says ``ACK <id>`` on its standard output when they are kept.

``python -m tests.contracts.durable_child MODE PATH``; modes: ``accept`` and ``objects`` go on until they are killed,
``accept-one`` and ``object-one`` store one thing and end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from nexus.adapters.files import FileObjects
from nexus.adapters.sql import SqliteStore
from nexus.kernel.clock import SystemClock
from nexus.runs import lifecycle
from nexus.runs.ports import TreeLimits
from nexus.testing.builders import NOON, build_run, make_id


def acknowledge(name: str) -> None:
    os.write(1, f"ACK {name}\n".encode())


async def accept(path: Path, *, one: bool) -> None:
    store = await SqliteStore.open(path, clock=SystemClock())

    async def go_on(number: int) -> None:
        while True:
            run = build_run(idempotency_key=make_id() if number % 2 else None)
            size = 5000 if number % 3 else 20
            await store.accept(run, run.id.encode() * (size // 20), TreeLimits())
            acknowledge(run.id)
            if number % 4 == 0:
                await store.change(run.id, lambda before: lifecycle.started(before, "job", 1, NOON))
            if one:
                return

    await asyncio.gather(*(go_on(number) for number in ([2] if one else range(16))))
    await store.close()


async def keep_objects(path: Path, *, one: bool) -> None:
    objects = FileObjects(path)

    async def go_on() -> None:
        while True:
            key = f"payloads/{make_id()}"
            async with objects.spool() as spool:
                await spool.write(key.encode() * 10_000)
                await spool.commit(key)
            acknowledge(key)
            if one:
                return

    await asyncio.gather(*(go_on() for _ in range(1 if one else 4)))


if __name__ == "__main__":
    mode, path = sys.argv[1], Path(sys.argv[2])
    task = accept if mode.startswith("accept") else keep_objects
    asyncio.run(task(path, one=mode.endswith("-one")))
