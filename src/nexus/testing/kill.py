"""The kill tool: ends a service with SIGKILL at a named step or at random, starts it again, and checks that nothing was lost.

``python -m nexus.testing.kill --random 1000`` is ``make soak``. The tests use :class:`Trial` directly. A trial keeps a ledger of
what the service acknowledged; after each restart the ledger must hold: every acknowledged run is there once, none is
doubled, none was started twice, what was reported or cancelled and acknowledged stays so; and each return must be quick.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nexus.adapters.process import watch

STEPS = (
    "accept.before-store",
    "store.begin",
    "store.before-commit",
    "store.after-commit",
    "accept.after-store",
    "dispatch.before-create",
    "engine.before-launch",
    "engine.after-launch",
    "dispatch.after-create",
    "dispatch.after-store",
    "complete.before-store",
    "complete.after-store",
    "cancel.before-store",
    "cancel.after-store",
    "engine.cancel-mark",
    "cancel.after-effects",
)
ACCEPT_AGAIN_S = 2.0
PATIENCE_S = 120.0  # for what must happen, on a machine with other work
_LOOK_S = 0.02  # between two looks at a service that starts
_LARGE = 100_000  # bytes: travels as an object, not in the row

MANIFESTS = """\
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {name: quick, annotations: {local.nexus/completion: exit-code}}
spec:
  container: {image: none, registry: none, versionTag: v1}
  command: sh -c 'echo "$NEXUS__ATTEMPT" >> "$STARTS/$NEXUS__RUN_ID"'
  runtimeEnvironment: {environmentVariables: [{name: STARTS, value: "FOLDER"}]}
---
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {name: held}
spec:
  container: {image: none, registry: none, versionTag: v1}
  command: sh -c 'echo "$NEXUS__ATTEMPT" >> "$STARTS/$NEXUS__RUN_ID"; sleep 0.5'
  runtimeEnvironment: {environmentVariables: [{name: STARTS, value: "FOLDER"}]}
---
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {name: shaky, annotations: {local.nexus/completion: exit-code}}
spec:
  container: {image: none, registry: none, versionTag: v1}
  command: sh -c 'echo "$NEXUS__ATTEMPT" >> "$STARTS/$NEXUS__RUN_ID"; exec test "$NEXUS__ATTEMPT" -gt 1'
  runtimeEnvironment: {maximumRetries: 1, environmentVariables: [{name: STARTS, value: "FOLDER"}]}
"""


@dataclass
class Ledger:
    """What the service acknowledged: keys → ids, and the ids whose report or cancel was answered."""

    accepted: dict[str, tuple[str, str]] = field(default_factory=dict)  # idempotency key → (algorithm, run id)
    reported: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    asked: dict[str, str] = field(default_factory=dict)  # key → algorithm of a POST whose answer never came
    lock: threading.Lock = field(default_factory=threading.Lock)


class Return(NamedTuple):
    """How long a start took until the service accepted.

    ``wall_s``: by the clock on the wall. ``served_s``: less what its main thread was kept waiting for a processor others had.
    ``own_s``: what it computed, and what it waited for nothing of the machine (a lock, a pause, another process).
    """

    wall_s: float
    served_s: float
    own_s: float


class Trial:
    """One data folder over many lives of the service. Used as a context manager."""

    def __init__(self, seed: int = 0, clients: int = 4) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.clients = clients
        self.ledger = Ledger()
        self.returns: list[Return] = []
        self._keys = itertools.count()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Trial:
        self.folder = Path(tempfile.mkdtemp(prefix="nexus-kill-"))
        self.starts = self.folder / "starts"
        self.starts.mkdir()
        (self.folder / "algorithms.yaml").write_text(MANIFESTS.replace("FOLDER", str(self.starts)))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        until = time.monotonic() + PATIENCE_S
        while self.folder.exists() and time.monotonic() < until:  # launchers still at work write into it, until it is gone
            shutil.rmtree(self.folder, ignore_errors=True)
            time.sleep(0.02)

    # ── lives of the service ─────────────────────────────────────────────────────────────────────────────────────────

    def start(self, kill_at: str = "", nth: int = 1) -> None:
        """Starts the service; with *kill_at*, it kills itself the *nth* time that step is reached. Waits until it accepts."""
        environment = {
            **os.environ,
            "NEXUS__CPU_MILLICORES": "64000",
            "NEXUS__MAX_RUNS": "48",
            "NEXUS__STARTS_PER_S": "500",
            "NEXUS__RETRY_PAUSE": "1500ms",  # longer than most returns
            "NEXUS_KILL_AT": kill_at,
            "NEXUS_KILL_NTH": str(nth),
        }
        command = [sys.executable, "-m", "nexus.testing.kill", "--serve", str(self.folder)]
        with (self.folder / "log").open("a") as log:
            began = time.monotonic()
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        assert self._process.stdout is not None
        looks = idle = 0
        while not select.select([self._process.stdout], [], [], _LOOK_S)[0]:
            looks, idle = looks + 1, idle + _is_idle(self._process.pid)
        line = self._process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            raise AssertionError(f"the service did not come back: {line}\n{(self.folder / 'log').read_text()[-4000:]}")
        self.port = int(found[1])
        wall_s = time.monotonic() - began
        computed_s, queued_s = _processor_s(self._process.pid)
        self.returns.append(Return(wall_s, wall_s - queued_s, computed_s + wall_s * idle / max(looks, 1)))

    def kill(self) -> None:
        """SIGKILL, now."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._gone()

    def died(self, timeout_s: float = PATIENCE_S) -> bool:
        """Whether the service killed itself in time, as it was told to."""
        assert self._process is not None
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._gone()
        return True

    def stop(self) -> int | None:
        """SIGTERM and the exit code; None when it was not running."""
        if self._process is None:
            return None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(PATIENCE_S)
        self._gone()
        return code

    def _gone(self) -> None:
        assert self._process is not None
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    # ── load ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, seconds: float) -> None:
        """Clients submit, report and cancel until the time is over or, before that, the service is gone."""
        until = time.monotonic() + seconds
        seeds = [self.random.random() for _ in range(self.clients)]
        threads = [threading.Thread(target=self._client, args=(until, seed)) for seed in seeds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, until: float, seed: float) -> None:
        chance = random.Random(seed)  # noqa: S311
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            while time.monotonic() < until:
                self._one(connection, chance)
        except (OSError, http.client.HTTPException):
            return  # the service is gone: that is the point
        finally:
            connection.close()

    def _one(self, connection: http.client.HTTPConnection, chance: random.Random) -> None:
        with self.ledger.lock:
            key = f"key-{next(self._keys)}"
        algorithm = chance.choices(("quick", "held", "shaky"), (60, 30, 10))[0]
        with self.ledger.lock:
            self.ledger.asked[key] = algorithm
        run_id = self.submit(connection, algorithm, key, large=chance.random() < 0.05)
        dice = chance.random()
        if algorithm == "held" and dice < 0.5:
            report = {"resultUri": f"s3://bucket/{run_id}", "errorCause": "", "errorDetails": ""}
            path = f"/algorithm/latest/complete/held/requests/{run_id}"
            if _ask(connection, "POST", path, report)[0] == 202:
                with self.ledger.lock:
                    self.ledger.reported.add(run_id)
        elif dice > 0.9:
            request = {"initiator": "kill tool", "reason": "trial", "cancellationPolicy": "Background"}
            if _ask(connection, "POST", f"/algorithm/v1/cancel/{algorithm}/requests/{run_id}", request)[0] == 200:
                with self.ledger.lock:
                    self.ledger.cancelled.add(run_id)

    def submit(self, connection: http.client.HTTPConnection, algorithm: str, key: str, *, large: bool = False) -> str:
        """The id of a run that was acknowledged."""
        parameters = {"key": key, "filler": "x" * _LARGE if large else ""}
        body = {"algorithmParameters": parameters, "tag": "kill"}
        status, answer = _ask(connection, "POST", f"/algorithm/v1/run/{algorithm}", body, {"Idempotency-Key": key})
        if status != 202:
            raise AssertionError(f"POST was answered {status}: {answer[:500]!r}")
        run_id = str(json.loads(answer)["requestId"])
        with self.ledger.lock:
            self.ledger.accepted[key] = (algorithm, run_id)
            self.ledger.asked.pop(key, None)
        return run_id

    # ── judgement ────────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self, *, settle_s: float = 5 * PATIENCE_S) -> Counter[str]:
        """The stages of all runs, after every promise was checked against the ledger. Raises AssertionError."""
        runs = self._settled(settle_s)
        by_id = {run["requestId"]: run for run in runs}
        assert len(by_id) == len(runs), "a listing repeats a run"
        lost = [run_id for _, run_id in self.ledger.accepted.values() if run_id not in by_id]
        assert not lost, f"{len(lost)} acknowledged runs are gone: {lost[:3]}"
        owners = Counter(run_id for _, run_id in self.ledger.accepted.values())
        assert not [run_id for run_id, times in owners.items() if times > 1], "two keys share a run"
        extra = len(by_id) - len(owners)
        assert extra <= len(self.ledger.asked), f"{extra} runs nobody asked for"
        begun = {file.name: file.read_text().split() for file in self.starts.iterdir()}
        twice = {run_id: attempts for run_id, attempts in begun.items() if len(attempts) != len(set(attempts))}
        assert not twice, f"an attempt was started twice: {dict(itertools.islice(twice.items(), 3))}"
        failed = [run for run in runs if run["algorithm"] == "shaky" and run["stage"] not in ("COMPLETED", "CANCELLED")]
        assert not failed, f"a second attempt did not come: {failed[:3]}"
        for run_id in self.ledger.reported:
            stage, result = by_id[run_id]["stage"], by_id[run_id].get("resultUri")
            assert (stage, result) == ("COMPLETED", f"s3://bucket/{run_id}"), f"report of {run_id} lost: {stage} {result}"
        for run_id in self.ledger.cancelled:
            run = by_id[run_id]
            assert run["stage"] in ("CANCELLED", "COMPLETED", "FAILED"), f"cancel of {run_id} lost: {run['stage']}"
        self._replay()
        slow = [each for each in self.returns if each.own_s > ACCEPT_AGAIN_S]
        assert not slow, f"{len(slow)} of {len(self.returns)} returns took longer than {ACCEPT_AGAIN_S} s: {slow[:3]}"
        return Counter(run["stage"] for run in runs)

    def _settled(self, settle_s: float) -> list[dict[str, Any]]:
        until = time.monotonic() + settle_s
        while True:
            runs = self.runs()
            open_ = [run for run in runs if run["stage"] in ("NEW", "BUFFERED", "RUNNING")]
            if not open_:
                return runs
            if time.monotonic() > until:
                raise AssertionError(f"{len(open_)} runs did not end: {open_[:2]}\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.1)

    def runs(self) -> list[dict[str, Any]]:
        """Every run the service lists."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        runs: list[dict[str, Any]] = []
        cursor = ""
        try:
            while True:
                status, answer = _ask(connection, "GET", f"/algorithm/latest/runs?limit=1000{cursor}")
                assert status == 200, answer
                page = json.loads(answer)
                runs += page["runs"]
                if "next" not in page:
                    return runs
                cursor = f"&before={page['next']}"
        finally:
            connection.close()

    def _replay(self) -> None:
        """Some acknowledged POSTs are sent again under their keys: each gives its run back, none makes another."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            known = [(key, *value) for key, value in self.ledger.accepted.items()]
            for key, algorithm, run_id in self.random.sample(known, min(20, len(known))):
                body = {"algorithmParameters": {"key": key, "filler": ""}, "tag": "kill"}
                path = f"/algorithm/v1/run/{algorithm}"
                status, answer = _ask(connection, "POST", path, body, {"Idempotency-Key": key})
                assert status in (202, 422), answer  # 422: it was a large one, this body is not the same
                assert status == 422 or json.loads(answer)["requestId"] == run_id, f"key {key} made a second run"
        finally:
            connection.close()


def _is_idle(pid: int) -> bool:
    """Whether every thread of a process, and of what it started, sleeps now: none waits for the disk or a processor."""
    try:
        stats = [file.read_text() for each in (pid, *watch.descendants(pid)) for file in Path(f"/proc/{each}/task").glob("*/stat")]
    except OSError:
        return False
    return all(stat.rpartition(")")[2].split()[0] == "S" for stat in stats)


def _processor_s(pid: int) -> tuple[float, float]:
    """Seconds a process has computed, and its main thread was ready to and had no processor (0 where the system does not say)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    try:
        queued_s = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        queued_s = 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), queued_s


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})} if data else (headers or {}))
    answer = connection.getresponse()
    return answer.status, answer.read()


def _serve(folder: Path) -> int:
    """The service as a trial starts it, with the step at which it kills itself from the environment."""
    from nexus.app.roles import serve
    from nexus.app.settings import resolve
    from nexus.app.telemetry import start_logging

    target, left = os.environ.get("NEXUS_KILL_AT", ""), int(os.environ.get("NEXUS_KILL_NTH", "1"))
    lock = threading.Lock()

    def on_step(step: str) -> None:
        nonlocal left
        if step != target:
            return
        with lock:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    flags = {"port": 0, "data_dir": str(folder / "data"), "algorithms": (str(folder / "algorithms.yaml"),)}
    settings, _ = resolve(flags)
    start_logging("warning", "text")
    return serve(settings, on_ready=lambda line: print(line, flush=True), on_step=on_step if target else None)


def soak(kills: int, seed: int) -> None:
    """Random kills on one data folder, each followed by a restart; everything is checked at every twentieth and at the end."""
    with Trial(seed) as trial:
        for number in range(1, kills + 1):
            trial.start()
            killer = threading.Timer(trial.random.uniform(0.02, 0.8), trial.kill)
            killer.start()
            trial.load(2.0)
            killer.join()
            if number % 20 == 0 or number == kills:
                trial.start()
                stages = trial.check()
                trial.stop()
                sys.stdout.write(
                    f"{number} kills: {len(trial.ledger.accepted)} acknowledged, none lost; {dict(stages)}; "
                    f"back after at most {max(each.own_s for each in trial.returns):.2f} s of its own, "
                    f"{max(each.wall_s for each in trial.returns):.2f} s on the wall\n"
                )
                sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nexus.testing.kill", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--random", type=int, default=60, metavar="KILLS", help="how many random kills")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeat a sequence of kills")
    arguments = parser.parse_args()
    if arguments.serve:
        return _serve(arguments.serve)
    sys.stdout.write(f"seed {arguments.seed}\n")
    soak(arguments.random, arguments.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
