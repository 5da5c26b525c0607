"""Counts of requests, and their exposition. Counting is plain arithmetic: a request pays a fraction of a microsecond for it;
Prometheus objects are made only when someone scrapes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Traffic:
    """Requests by route and status, and how long routes took."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.buckets: dict[str, list[int]] = {}
        self.sums_s: dict[str, float] = {}

    def count(self, route: str, status: int, elapsed_s: float) -> None:
        """Notes one answered request; *status* 499 means that the client went away first."""
        key = (route, status)
        requests = self.requests
        requests[key] = requests.get(key, 0) + 1
        buckets = self.buckets.get(route)
        if buckets is None:
            buckets = self.buckets[route] = [0] * (len(BUCKETS_S) + 1)
            self.sums_s[route] = 0.0
        buckets[bisect_left(BUCKETS_S, elapsed_s)] += 1
        self.sums_s[route] += elapsed_s

    def collect(self) -> Iterable[Any]:
        """The Prometheus metric families."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily("nexus_http_requests", "Answered requests", labels=("route", "status"))
        for (route, status), count in sorted(self.requests.items()):
            requests.add_metric((route, str(status)), count)
        yield requests
        durations = HistogramMetricFamily("nexus_http_request_duration_seconds", "Time to answer", labels=("route",))
        for route, counts in sorted(self.buckets.items()):
            total, cumulated = 0, []
            for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), counts, strict=True):
                total += count
                cumulated.append((bound, total))
            durations.add_metric((route,), buckets=cumulated, sum_value=self.sums_s[route])
        yield durations


class _Gauges:
    """What is asked of the service at the time of the scrape."""

    def __init__(self, runs: Mapping[str, int], queue: Mapping[str, Any], draining: bool) -> None:
        self._runs = runs
        self._queue = queue
        self._draining = draining

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import GaugeMetricFamily

        runs = GaugeMetricFamily("nexus_runs", "Runs by stage", labels=("stage",))
        for stage, count in sorted(self._runs.items()):
            runs.add_metric((stage,), count)
        yield runs
        for name in ("waiting", "running"):
            yield GaugeMetricFamily(f"nexus_runs_{name}", f"Runs {name} at the dispatcher", value=float(self._queue.get(name, 0)))
        yield GaugeMetricFamily("nexus_draining", "1 while the service is being stopped", value=float(self._draining))


def exposition(
    traffic: Traffic, collectors: Sequence[Any], *, runs: Mapping[str, int], queue: Mapping[str, Any], draining: bool
) -> bytes:
    """The text of ``/metrics`` (Prometheus text format 0.0.4)."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    for collector in (traffic, _Gauges(runs, queue, draining), *collectors):
        registry.register(collector)
    return generate_latest(registry)
