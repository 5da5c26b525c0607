"""Speed of the store alone, without HTTP: accepts and changes from many callers on one event loop, durable before they return.

``python -m bench.store`` prints a table; ``measure()`` gives the same as rows. CPU is that of both threads, loop and writer,
kernel included. Rounds alternate, so that a busy machine disturbs all rows alike; each row is the median of its rounds.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from msgspec.structs import replace

from nexus.adapters.sql import SqliteStore
from nexus.kernel.clock import SystemClock
from nexus.kernel.ids import IdMaker
from nexus.runs import lifecycle
from nexus.runs.model import Payload, Run, Stage
from nexus.runs.ports import TreeLimits

ROUNDS = 3
ROUND_S = 0.7
PAYLOAD = b'{"values":"' + b"x" * 287 + b'"}'  # 300 bytes
LIMITS = TreeLimits()

Act = Callable[[SqliteStore, Run], Awaitable[Any]]


def measure() -> list[dict[str, Any]]:
    """One row a case: operations per second, CPU microseconds per operation, slowest hundredth in milliseconds."""
    return uvloop.run(_measure())


async def _measure() -> list[dict[str, Any]]:
    cases: list[tuple[str, int, Act]] = [
        (name, callers, act)
        for callers in (64, 256)
        for name, act in (("accept", _accept), ("accept with a key", _keyed), ("change", _change))
    ]
    results: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    folder = Path(tempfile.mkdtemp(prefix="nexus-bench-"))
    try:
        store = await SqliteStore.open(folder / "nexus.db", clock=SystemClock())
        for _ in range(ROUNDS):
            for name, callers, act in cases:
                results.setdefault((name, callers), []).append(await _round(store, callers, act))
        await store.close()
    finally:
        shutil.rmtree(folder)
    rows = []
    for (name, callers), rounds in results.items():
        rate, cpu_us, p99_ms = (statistics.median(values) for values in zip(*rounds, strict=True))
        rows.append(
            {"case": name, "callers": callers, "per_s": round(rate), "cpu_us": round(cpu_us, 1), "p99_ms": round(p99_ms, 1)}
        )
    return rows


async def _round(store: SqliteStore, callers: int, act: Act) -> tuple[float, float, float]:
    """Rate, CPU per operation and p99 of *callers* that each wait for one operation before the next."""
    ids = IdMaker()
    now = SystemClock().now()
    template = Run(
        id="", algorithm="demand", stage=Stage.BUFFERED, received_at=now, last_modified=now, received_by="host-1",
        caller="anonymous", content_hash="MDAwMDAwMDA=", payload=Payload(size_bytes=len(PAYLOAD)), template_revision=1, root_id="",
        api_version="v1",
    )  # fmt: skip
    if act is _change:
        known = (await store.accept(replace(template, id=ids()), PAYLOAD, LIMITS)).run
    times: list[float] = []
    end = time.perf_counter() + ROUND_S

    async def call() -> None:
        while (began := time.perf_counter()) < end:
            run_id = known.id if act is _change else ids()
            await act(store, replace(template, id=run_id, root_id=run_id))
            times.append(time.perf_counter() - began)

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    return len(times) / wall, cpu / len(times) * 1e6, sorted(times)[len(times) * 99 // 100] * 1e3


async def _accept(store: SqliteStore, run: Run) -> None:
    await store.accept(run, PAYLOAD, LIMITS)


async def _keyed(store: SqliteStore, run: Run) -> None:
    await store.accept(replace(run, idempotency_key=run.id, fingerprint=b"f" * 32), PAYLOAD, LIMITS)


async def _change(store: SqliteStore, run: Run) -> None:
    await store.change(
        run.id, lambda before: lifecycle.touch(before, before.received_at, counted_failures=before.counted_failures + 1)
    )


def main() -> None:
    print(f"Python {sys.version.split()[0]}, {ROUNDS} alternating rounds of {ROUND_S} s")
    print(f"{'case':20} {'callers':>7} {'per s':>8} {'CPU µs':>8} {'p99 ms':>7}")
    for row in measure():
        print(f"{row['case']:20} {row['callers']:>7} {row['per_s']:>8} {row['cpu_us']:>8} {row['p99_ms']:>7}")


if __name__ == "__main__":
    main()
