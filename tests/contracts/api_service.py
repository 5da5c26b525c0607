"""A service over real adapters in a process of its own, for tests of its doors: prints its port, ends on SIGTERM.

Usage: ``python -m tests.contracts.api_service FOLDER``.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path

import uvloop

from nexus.adapters.files import FileObjects
from nexus.adapters.sql.store import SqliteStore
from nexus.api.doors import build_app
from nexus.api.server import Server
from nexus.api.services import Services
from nexus.kernel.clock import SystemClock
from nexus.kernel.ids import IdMaker
from nexus.runs.algorithms import Algorithms
from nexus.runs.cancellation import Cancellation
from nexus.runs.completion import Completion
from nexus.runs.elapsed import Elapsed
from nexus.runs.observing import ObservedStore
from nexus.runs.reading import Reading
from nexus.runs.submission import Submission
from nexus.runs.tagging import Tagging
from nexus.runs.templates import read_manifests
from nexus.runs.urls import Signer
from nexus.testing.engine import FakeEngine
from tests.unit.api.service import TEMPLATE, NoEnder


async def main(folder: Path) -> None:
    """Serves until SIGTERM."""
    clock = SystemClock()
    kept = await SqliteStore.open(folder / "nexus.db", clock=clock)
    store = ObservedStore(kept)
    objects = FileObjects(folder / "objects")
    algorithms = Algorithms(kept, clock)
    await algorithms.apply(read_manifests(TEMPLATE, "hello.yaml")[0], trusted=True)
    services = Services(
        submission=Submission(
            store, objects, algorithms, clock, host="host-1", offer=lambda run: None, backlog=lambda: 0, max_waiting=1_000_000
        ),
        completion=Completion(store, clock),
        cancellation=Cancellation(store, clock, NoEnder()),
        reading=Reading(store, objects, algorithms, FakeEngine(clock), objects_root=str(folder / "objects")),
        tagging=Tagging(store, clock),
        algorithms=algorithms,
        signer=Signer(b"s" * 32, clock),
        objects=objects,
        ids=IdMaker(),
        clock=clock,
        elapsed=Elapsed(clock),
        tokens=kept,
        queue=lambda: {"waiting": 0, "running": 0, "capacity": {}},
    )
    app = build_app(services)
    server = Server(app)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    gc.collect()
    print(server.port, flush=True)
    await stop.wait()
    app.drain()
    await server.drain(5)
    await kept.close()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
