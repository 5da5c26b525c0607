"""The run service: accepting, starting, finishing."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.model import Figure, median, percentile
from bench.service import Service, wrk

ROUNDS = 5
SECONDS = 4.0
_ROUTE = "/algorithm/v1/run/bench?dryRun=false"


def accept() -> Iterator[Figure]:
    """Accepts a CPU-second, stored and not stored in turn; with dispatch on; open loop at half the rate."""
    stored: list[dict[str, float]] = []
    ceiling: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        for figures, module in ((stored, "nexus"), (ceiling, "bench.nostore")):
            with Service("--dispatch", "paused", module=module) as service:
                wrk(service, _ROUTE, "accept.lua", seconds=1)
                figures.append(wrk(service, _ROUTE, "accept.lua", seconds=SECONDS))
    each_round = [each["requests"] / each["cpu_s"] for each in stored]
    per_cpu = median(each_round)
    bare = median([each["requests"] / each["cpu_s"] for each in ceiling])
    rate = median([each["requests"] / each["duration_us"] * 1e6 for each in stored])
    p99 = median([each["p99_us"] / 1000 for each in stored])
    yield Figure(
        what="accepts a CPU-second, 300 B, 64 connections, durable before 202, dispatch paused",
        aim="≥ 12,000",
        reached=f"{per_cpu:,.0f} ({min(each_round):,.0f}–{max(each_round):,.0f}); {rate:,.0f}/s, p99 {p99:.1f} ms",
        met=per_cpu >= 12_000,
        how=f"wrk, {ROUNDS} rounds of {SECONDS:g} s, service on one core",
    )
    yield Figure(
        what="the same against the process without storing",
        aim="≥ 0.45 ×",
        reached=f"{per_cpu / bare:.2f} × of {bare:,.0f}",
        met=per_cpu / bare >= 0.45,
        how="in turn with it",
    )
    with Service(templates={"bench": "true"}) as service:
        busy = wrk(service, _ROUTE, "accept.lua", seconds=SECONDS)
        stages = service.stages()
        started = sum(runs for stage, runs in stages.items() if stage not in ("NEW", "BUFFERED"))
    yield Figure(
        what="accepts a CPU-second with dispatch on (processes started meanwhile, on the same core)",
        reached=f"{busy['requests'] / busy['cpu_s']:,.0f} ({started} started)",
        how="wrk, one round",
    )
    yield from _open_loop(rate / 2)


def _open_loop(rate: float) -> Iterator[Figure]:
    generator = _generator()
    if generator is None:
        yield Figure(
            what="open loop at half the rate", reached="not measured: no Go toolchain for bench/openloop", aim="p99 ≤ 15 ms"
        )
        return
    body = json.dumps({"algorithmParameters": {"note": "x" * 220}, "requestApiVersion": "1.2", "tag": "bench"})
    p99s = []
    for _ in range(ROUNDS):
        with Service("--dispatch", "paused") as service:
            (service.folder / "body").write_text(body)
            for seconds in ("1", f"{SECONDS:g}"):  # the first warms up
                command = [
                    "taskset",
                    "-c",
                    "1",
                    str(generator),
                    service.url + _ROUTE,
                    str(service.folder / "body"),
                    f"{rate:.0f}",
                    seconds,
                ]
                done = subprocess.run([*command, "64"], capture_output=True, text=True, check=True)
            total, failed, _, p99 = done.stdout.split()
            if int(failed):
                raise SystemExit(f"open loop: {failed} of {total} were not answered 202")
            p99s.append(float(p99))
    yield Figure(
        what=f"open loop at half the reached rate ({rate:,.0f}/s): POST p99",
        aim="≤ 15 ms",
        reached=f"{median(p99s):.1f} ms ({min(p99s):.1f}–{max(p99s):.1f})",
        met=median(p99s) <= 15,
        how="bench/openloop (Go) on the other core; latency from the moment a request was due",
    )


def _generator() -> Path | None:
    """The open-loop generator, built once."""
    program = Path(".bench/openloop").resolve()
    if not program.exists():
        if shutil.which("go") is None:
            return None
        program.parent.mkdir(exist_ok=True)
        subprocess.run(["go", "build", "-o", str(program), "."], cwd=Path(__file__).with_name("openloop"), check=True)
    return program


def latency(count: int = 100) -> Iterator[Figure]:
    """From the POST to the algorithm's own first clock reading, one run at a time on an idle service."""
    with Service(core=None, templates={"clock": "sh -c 'date +%s%N > \"$NEXUS__RESULT_FOLDER.at\"'"}) as service:
        folder = service.folder / "data" / "objects" / "results"
        folder.mkdir(parents=True, exist_ok=True)
        waits = []
        for _ in range(count):
            body = b'{"algorithmParameters":{}}'
            sent = time.time_ns()
            answer = json.loads(service.ask("POST", "/algorithm/v1/run/clock", body)[1])
            file = folder / f"{answer['requestId']}.at"
            while not (file.exists() and file.read_text().strip()):
                time.sleep(0.002)
            waits.append((int(file.read_text()) - sent) / 1e6)
            time.sleep(0.03)
    waits = waits[5:]
    p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
    yield Figure(
        what="POST sent → the algorithm's process runs (`sh`, then `date` reads the clock), idle",
        aim="p50 ≤ 20 ms, p99 ≤ 50 ms",
        reached=f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        met=p50 <= 20 and p99 <= 50,
        how=f"{len(waits)} runs, 30 ms apart; includes the start of two programs",
    )


def dry() -> Iterator[Figure]:
    """Dry runs from the POST to COMPLETED."""
    rates, costs = [], []
    for _ in range(ROUNDS):
        with Service() as service:
            before, began = service.cpu_s(), time.perf_counter()
            load = wrk(service, "/algorithm/v1/run/bench?dryRun=true", "accept.lua", seconds=SECONDS)
            while service.stages().get("COMPLETED", 0) < load["requests"]:
                time.sleep(0.02)
            wall, cpu = time.perf_counter() - began, service.cpu_s() - before
            rates.append(load["requests"] / wall)
            costs.append(cpu / load["requests"] * 1000)
    yield Figure(
        what="dry runs end to end (POST to COMPLETED stored)",
        aim="≥ 4,000 runs/s a core",
        reached=f"{median(rates):,.0f} runs/s",
        met=median(rates) >= 4000,
        how=f"wrk, {ROUNDS} rounds; the Go reference: 367 runs/s on both cores",
    )
    yield Figure(
        what="CPU for 1,000 dry runs",
        aim="≤ 0.25 s",
        reached=f"{median(costs):.2f} s",
        met=median(costs) <= 0.25,
        how="the service's process; the reference's scheduler: 1.5 s, and its database 3.0 s",
    )


def complete(count: int = 20_000) -> Iterator[Figure]:
    """Completions stored a second: each of many waiting runs is reported."""
    rates, costs = [], []
    for _ in range(ROUNDS):
        with Service("--dispatch", "paused") as service:
            wrk(service, _ROUTE, "accept.lua", seconds=3)
            ids: list[str] = []
            cursor = ""
            while len(ids) < count:
                page = json.loads(service.ask("GET", f"/algorithm/latest/runs?limit=1000{cursor}")[1])
                ids += [run["requestId"] for run in page["runs"]]
                if "next" not in page:
                    break
                cursor = f"&before={page['next']}"
            (service.folder / "ids").write_text("\n".join(ids))
            before, cpu = service.stages().get("COMPLETED", 0), service.cpu_s()
            load = wrk(service, "/", "complete.lua", seconds=2)
            stored = service.stages()["COMPLETED"] - before
            rates.append(min(stored, load["requests"]) / load["duration_us"] * 1e6)
            costs.append((service.cpu_s() - cpu) / load["requests"])
    yield Figure(
        what="completions stored a CPU-second",
        aim="≥ 5,000 /s a core",
        reached=f"{1 / median(costs):,.0f} ({median(rates):,.0f} /s with the load beside it)",
        met=1 / median(costs) >= 5000,
        how="wrk, each run reported once, stored before the answer; the reference: 2,020 /s",
    )
