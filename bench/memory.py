"""Memory while a 100 MB payload is accepted and read."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator

from bench import machine
from bench.model import Figure
from bench.service import Service

SIZE = 100 * 10**6


class Watch:
    """Samples a process's anonymous and resident memory every 2 ms while a block runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._on = True
        self.anonymous_kb = self.resident_kb = 0

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()

    def _sample(self) -> None:
        while self._on:
            self.anonymous_kb = max(self.anonymous_kb, machine.memory_kb(self._pid, "RssAnon"))
            self.resident_kb = max(self.resident_kb, machine.memory_kb(self._pid, "VmRSS"))
            time.sleep(0.002)


def large_payload() -> Iterator[Figure]:
    """One 100 MB payload: accepted, then read through its signed URL."""
    with Service("--dispatch", "paused", core=None) as service:
        service.ask("POST", "/algorithm/v1/run/bench", b'{"algorithmParameters":{}}')
        idle = machine.memory_kb(service.pid, "RssAnon")
        body = b'{"algorithmParameters":{"text":"' + b"x" * SIZE + b'"}}'
        made: dict[str, str] = {}

        def post() -> None:
            status, answer = service.ask("POST", "/algorithm/v1/run/bench", body)
            assert status == 202, answer
            made.update(json.loads(answer))

        took, accepted = _watched(service, post)
        metadata = json.loads(service.ask("GET", f"/algorithm/v1/metadata/bench/requests/{made['requestId']}")[1])
        path = metadata["payload_uri"].split(str(service.port), 1)[1]
        read_s, read = _watched(service, lambda: _drain(service.port, path))
    for what, watch, seconds in (("accepted", accepted, took), ("read by its signed URL", read, read_s)):
        above = (watch.anonymous_kb - idle) / 1024
        yield Figure(
            what=f"100 MB payload {what}: anonymous memory above idle",
            aim="≤ 16 MB",
            reached=f"{above:.1f} MB ({seconds:.1f} s)",
            met=above <= 16,
            how="RssAnon every 2 ms",
        )
    peak = max(accepted.resident_kb, read.resident_kb) * 1024 / SIZE
    yield Figure(
        what="the same: whole process, with mapped pages",
        aim="≤ 1.5 × payload",
        reached=f"{peak:.2f} ×",
        met=peak <= 1.5,
        how="VmRSS every 2 ms; the reference: 562–1,148 MB",
    )


def _watched(service: Service, work: Callable[[], object]) -> tuple[float, Watch]:
    began = time.perf_counter()
    with Watch(service.pid) as watch:
        work()
    return time.perf_counter() - began, watch


def _drain(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    total = 0
    while piece := answer.read(1 << 20):
        total += len(piece)
    connection.close()
    assert total > SIZE
