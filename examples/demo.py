"""The demo (`make demo`): a service, real work on it, live progress, a table of results and a picture of them.

Everything is kept in `.demo/` of the checkout. The service listens on a free loopback port and is ended at the end, however
that comes; unfinished runs are cancelled first, because algorithms outlive a service that stops.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from examples.picture import Span, draw

from nexus.kernel.errors import NexusError
from nexus.sdk import Nexus, RunRef, RunView

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".demo"
LOG = HOME / "service.log"
PICTURE = HOME / "results.svg"
EXAMPLES = ("depots", "digits", "tree")
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0
POLL_S = 0.25
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
_FAILED, _INTERRUPTED = 1, 130

COUNTRIES = (("FR", 6), ("DE", 5), ("IT", 5), ("IN", 7), ("BR", 6), ("PL", 5))
CLASSIFIERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("forest, 20 trees", "forest", {"n_estimators": 20}),
    ("forest, 300 trees", "forest", {"n_estimators": 300}),
    ("support vectors", "svm", {}),
    ("logistic", "logistic", {}),
)
SEARCH = {"model": "svm", "parameter": "gamma", "values": [1e-05, 0.0001, 0.0005, 0.002, 0.01], "folds": 2}


class DemoFailed(Exception):
    """Something a person should read; the service's log may say more."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What was submitted, in the order of what it was submitted for."""

    depots: list[RunRef]
    digits: list[RunRef]
    tree: RunRef

    @property
    def roots(self) -> list[RunRef]:
        return [*self.depots, *self.digits, self.tree]


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    HOME.mkdir(exist_ok=True)
    if not (HOME / "data" / "environments").exists():
        say("the first time, the environments of the examples are built: this takes as long as their packages to download")
    LOG.unlink(missing_ok=True)
    began = time.monotonic()
    try:
        with service() as address, Nexus(address, retry_for=5) as nexus, unfinished_cancelled(nexus):
            say(f"service ready at {address}, its data in {_short(HOME / 'data')}")
            cancel_unfinished(nexus)  # of a demo that was killed
            work = submit(nexus)
            runs = follow(nexus, work)
            _refuse_failures(runs)
            show(nexus, work, runs)
            await_processes(nexus)
    except KeyboardInterrupt:
        say("interrupted; nothing is left running")
        return _INTERRUPTED
    except (DemoFailed, NexusError) as error:
        hint = f"\nhint: {error.hint}" if isinstance(error, NexusError) and error.hint else ""
        say(f"error: {error}{hint}\nthe service's log: {_short(LOG)}")
        return _FAILED
    farewell(time.monotonic() - began)
    return 0


# ── the service ───────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def service() -> Iterator[str]:
    """A service on a free loopback port; gives its address, and ends it."""
    command = [sys.executable, "-c", "import sys; from nexus.cli.main import main; sys.exit(main())", "serve"]
    command += ["--host", "127.0.0.1", "--port", "0", "--data-dir", str(HOME / "data")]
    for name in EXAMPLES:
        command += ["--algorithms", str(ROOT / "examples" / name / "algorithm.yaml")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS__")}
    before = len(LOG.read_text("utf-8", "replace")) if LOG.exists() else 0
    with LOG.open("ab") as log:
        # a session of its own: Ctrl-C reaches this program alone, which then ends things in their order
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True)
    try:
        yield _address(process, before)
    finally:
        _stop(process)


def _address(process: subprocess.Popen[bytes], before: int) -> str:
    """Where the service answers, once it does; its log begins after *before* characters. Raises DemoFailed."""
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        text = LOG.read_text("utf-8", "replace")[before:]
        if process.poll() is not None:
            raise DemoFailed("\n".join(["the service did not start:", *text.strip().splitlines()[-3:]]))
        match = _ADDRESS.search(text)
        if match is not None and _ready(match[0]):
            return match[0]
        time.sleep(0.05)
    raise DemoFailed(f"the service was not ready within {READY_WITHIN_S:.0f} s")


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def unfinished_cancelled(nexus: Nexus) -> Iterator[None]:
    """Cancels what has not ended, and waits for its processes to go, when the block is left early."""
    try:
        yield
    except BaseException:
        try:
            cancel_unfinished(nexus)
        except NexusError:
            say("the service is gone; it is started once more, to end what it left running")
            with service() as address, Nexus(address, retry_for=5) as again:
                cancel_unfinished(again)
        raise


def cancel_unfinished(nexus: Nexus) -> None:
    for run in [run for run in nexus.runs(limit=500) if not run.final and run.depth == 0]:
        nexus.cancel(run.ref, reason="the demo was stopped")
    await_processes(nexus)


def await_processes(nexus: Nexus) -> None:
    """Returns when the processes of ended runs are gone: a run ends with its report, its process a moment later."""
    until = time.monotonic() + STOP_WITHIN_S
    while nexus.queue().get("running") and time.monotonic() < until:
        time.sleep(POLL_S / 5)


# ── the work ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def submit(nexus: Nexus) -> Work:
    """Six placements, four classifiers, and a search that makes a tree of eleven runs."""
    depots = nexus.submit_many("depots", [{"country": code, "depots": count, "cities": 120} for code, count in COUNTRIES])
    tasks = [{"model": model, "parameters": parameters} for _, model, parameters in CLASSIFIERS]
    return Work(depots=depots, digits=nexus.submit_many("digits", tasks), tree=nexus.submit("tree", SEARCH))


def follow(nexus: Nexus, work: Work) -> list[RunView]:
    """Every run, once all have ended; progress is shown meanwhile."""
    roots = {ref.id for ref in work.roots}
    first = min(roots)
    with progress() as tell:
        while True:
            newer = takewhile(lambda run: run.request_id >= first, nexus.runs())  # newest first, ids in order of time
            runs = [run for run in newer if run.root_id in roots]
            tell(runs)
            if {run.request_id for run in runs} >= roots and all(run.final for run in runs):
                return runs
            time.sleep(POLL_S)


def standing(run: RunView) -> str:
    """``waiting``, ``running``, ``done`` or ``failed``."""
    if not run.final:
        return "running" if run.stage == "RUNNING" else "waiting"
    return "done" if run.stage == "COMPLETED" else "failed"


@contextmanager
def progress() -> Iterator[Callable[[list[RunView]], None]]:
    """Tells how runs stand: a bar an algorithm on a terminal, a line a change elsewhere. On stderr."""
    if not sys.stderr.isatty():
        yield _plain_progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(24), TextColumn("{task.fields[counts]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {name: bars.add_task(name, total=None, counts="") for name in EXAMPLES}

        def tell(runs: list[RunView]) -> None:
            for name, task in tasks.items():
                counts = Counter(standing(run) for run in runs if run.algorithm == name)
                bars.update(task, total=counts.total(), completed=counts["done"] + counts["failed"], counts=_counted(counts))

        yield tell


def _plain_progress() -> Callable[[list[RunView]], None]:
    began, last = time.monotonic(), ""

    def tell(runs: list[RunView]) -> None:
        nonlocal last
        line = _counted(Counter(standing(run) for run in runs))
        if line != last:
            say(f"{time.monotonic() - began:5.1f} s  {line}")
        last = line

    return tell


def _counted(counts: Counter[str]) -> str:
    text = "  ".join(f"{counts[name]:>2} {name}" for name in ("waiting", "running", "done"))
    return f"{text}  {counts['failed']} failed" if counts["failed"] else text


def _refuse_failures(runs: Sequence[RunView]) -> None:
    """Raises DemoFailed with the cause of each run that did not complete."""
    failed = [run for run in runs if run.stage != "COMPLETED"]
    if failed:
        causes = [f"  {run.ref} {run.stage}: {run.failure_cause or 'no cause'}" for run in failed]
        details = next((run.failure_details for run in failed if run.failure_details), "")
        raise DemoFailed("\n".join([f"{len(failed)} of {len(runs)} runs did not complete:", *causes, details or ""]).rstrip())


# ── the results ───────────────────────────────────────────────────────────────────────────────────────────────────────


def show(nexus: Nexus, work: Work, runs: Sequence[RunView]) -> None:
    """Prints the table, and writes the picture."""
    plans = [nexus.result_value(ref) for ref in work.depots]
    labels = [label for label, _, _ in CLASSIFIERS]
    readings = [{**nexus.result_value(ref), "label": label} for ref, label in zip(work.digits, labels, strict=True)]
    found = nexus.result_value(work.tree)
    rows = [("depots", f"{plan['country']}, {len(plan['depots'])} depots",
             f"{plan['mean_km']:.1f} km on average, " + ("optimal" if plan["gap"] == 0 else f"gap {plan['gap']:.1g}"),
             ", ".join(plan["depots"])) for plan in plans]  # fmt: skip
    rows += [("digits", reading["label"], f"{100 * reading['accuracy']:.1f} % read right", "") for reading in readings]
    rows.append(("tree", "search for gamma", f"{100 * found['accuracy']:.1f} % read right",
                 f"best {found['best']:g} of {len(found['points'])} values, {found['children']} child runs"))  # fmt: skip
    _print_table(("algorithm", "task", "result", "detail"), rows)
    PICTURE.write_text(draw(plans, readings, found, spans(runs)), encoding="utf-8")


def spans(runs: Sequence[RunView]) -> list[Span]:
    """When each run came, started and ended, from the first one on."""
    first = min(run.received_at for run in runs)

    def seconds(run: RunView) -> Span:
        started = run.started_at or run.sent_at or run.received_at
        came, begun, ended = ((moment - first).total_seconds() for moment in (run.received_at, started, run.last_modified))
        return Span(algorithm=run.algorithm, came_s=came, started_s=begun, ended_s=ended)

    return [seconds(run) for run in runs]


def _print_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in [names, *rows]) for i in range(len(names))]
    for row in [[name.upper() for name in names], *rows]:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    sys.stdout.flush()


def farewell(took_s: float) -> None:
    program = _short(Path(sys.executable).with_name("nexus"))
    say(f"\npicture: {_short(PICTURE)}\nall of it took {took_s:.0f} s; nothing is left running. To go on:\n")
    payload = _short(ROOT / "examples/depots/payload.json")
    say(f"  {program} serve --data-dir {_short(HOME / 'data')}    # the service again, with all that ran")
    say(f"  {program} runs list    # beside it: what ran, and how it ended")
    say(f"  {program} runs submit depots --payload {payload} --wait    # one more")


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _short(path: Path) -> str:
    """The path as it is typed from here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
