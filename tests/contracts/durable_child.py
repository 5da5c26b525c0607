"""A process to be killed or traced: stores things and says ``ACK <id>`` on its standard output when they are kept.

``python -m tests.contracts.durable_child MODE PATH``; modes: ``accept`` and ``objects`` go on until they are killed,
``accept-one`` and ``object-one`` store one thing and end; ``manifests-STEP`` applies two sets of manifests, each in place of
the other, and kills itself at the first such step of the store after the third.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from nexus.adapters.files import FileObjects
from nexus.adapters.sql import SqliteStore
from nexus.kernel.clock import SystemClock
from nexus.runs import lifecycle
from nexus.runs.ports import TreeLimits
from nexus.testing.builders import NOON, build_run, make_id
from nexus.testing.suites.manifests import build_manifest


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


async def apply_manifests(path: Path, step: str) -> None:
    applied = 0

    def die(reached: str) -> None:
        if applied == 3 and reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    store = await SqliteStore.open(path, clock=SystemClock(), on_step=die)
    while True:
        names = [f"{'odd' if applied % 2 else 'even'}-{number}" for number in range(20)]
        await store.put([build_manifest(name, body=b"%d" % applied) for name in [*names, "both"]], prune=True)
        acknowledge(str(applied))
        applied += 1


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
    if mode.startswith("manifests-"):
        asyncio.run(apply_manifests(path, mode.removeprefix("manifests-")))
    task = accept if mode.startswith("accept") else keep_objects
    asyncio.run(task(path, one=mode.endswith("-one")))
