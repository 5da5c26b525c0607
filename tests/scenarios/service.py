"""A real service in a folder of its own, and how scenarios talk to it: HTTP, files as gates, its signals and its log."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexus.adapters.process import folders

NEXUS = Path(sys.executable).with_name("nexus")
AGENT = Path(__file__).with_name("agent.py")
PATIENCE_S = 120.0  # for what must happen, on a machine with other work
OPEN_STAGES = ("NEW", "BUFFERED", "RUNNING")

MANIFESTS = f"""\
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {{name: agent}}
spec:
  container: {{image: none, registry: none, versionTag: v1}}
  command: {sys.executable} -S -E {AGENT}
  args: ["--sas-uri=%s", "--request-id=%s", "100%", "50%% off", "%d"]
  errorHandlingBehaviour: {{transientExitCodes: [75], fatalExitCodes: [134]}}
---
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {{name: quoted}}
spec:
  container: {{image: none, registry: none, versionTag: v1}}
  command: sh -c 'echo "a  b"; exit 0'
---
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {{name: bare}}
spec:
  container: {{image: none, registry: none, versionTag: v1}}
  command: "true"
---
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {{name: bare-done, annotations: {{local.nexus/completion: exit-code}}}}
spec:
  container: {{image: none, registry: none, versionTag: v1}}
  command: "true"
---
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {{name: missing}}
spec:
  container: {{image: none, registry: none, versionTag: v1}}
  command: /no/such/program
---
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmWorkgroup
metadata: {{name: fast-machines}}
spec: {{description: Fast ones, cluster: shard-7}}
"""


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Service:
    """One data folder and the service on it, through as many lives as a scenario needs. Used as a context manager."""

    folder: Path
    flags: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    data: Path | None = None
    tracer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.data = self.data or self.folder / "data"
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        self.log = self.folder / "service.log"
        self.manifests = self.folder / "algorithms.yaml"
        self.manifests.write_text(MANIFESTS)

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()
        self.end_attempts()

    # ── its lives ────────────────────────────────────────────────────────────────────────────────────────────────────

    def launch(self) -> subprocess.Popen[str]:
        """A new process of the service, not waited for."""
        paced = {"NEXUS__RECONCILE_EVERY": "1s", "NEXUS__RETRY_PAUSE": "100ms", "NEXUS__DRAIN_TIMEOUT": "60s"}
        environment = {**os.environ, **paced, **self.environ}
        command = [
            *self.tracer, str(NEXUS), "serve", "--port", "0", "--data-dir", str(self.data),
            "--algorithms", str(self.manifests), *self.flags,
        ]  # fmt: skip
        with self.log.open("a") as log:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)

    def start(self) -> None:
        """Starts it and waits for its readiness line."""
        self.process = self.launch()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, f"no readiness line: {line!r}\n{self.log.read_text()[-4000:]}"
        self.port = int(found[1])

    def refused(self) -> str:
        """What a start that must fail says; raises when it does not end by itself."""
        process = self.launch()
        try:
            out, _ = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        assert process.returncode not in (0, None), out
        return self.log.read_text()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.gone()

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.gone()

    def gone(self) -> int:
        """The exit code of a process that is ending."""
        assert self.process is not None
        code = self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def end_attempts(self) -> None:
        """Ends what algorithms still do without a service, so that no scenario leaves a process behind."""
        assert self.data is not None
        attempts = [str(lock.parent) for lock in (self.data / "engine" / "attempts").glob("*/*/lock")]
        for folder in filter(folders.is_held, attempts):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(str((folders.read_record(folder, folders.LOCK) or {})["pid"])), signal.SIGTERM)
        eventually(lambda: not any(map(folders.is_held, attempts)), "what algorithms do to end")

    # ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, port: int | None = None
    ) -> Answer:
        """One request on a connection of its own. *body*: bytes as they are, anything else as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE_S)
        try:
            given = {"Content-Type": "application/json"} if data is not None else {}
            connection.request(method, path, data, {**given, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def json(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of an answer that must be 200."""
        answer = self.ask(method, path, body)
        assert answer.status == 200, (path, answer)
        return answer.json

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, *steps: object, algorithm: str = "agent", **envelope: object) -> str:
        """The id of an accepted run; *steps* are what the agent does."""
        body = {"algorithmParameters": {"do": list(steps)}, **envelope}
        answer = self.ask("POST", f"/algorithm/v1/run/{algorithm}", body)
        assert answer.status == 202, answer
        return str(answer.json["requestId"])

    def run(self, run_id: str, algorithm: str = "agent", *, wait: bool = False) -> dict[str, Any]:
        """The run as ``latest`` shows it; with *wait* once it has ended."""
        until = time.monotonic() + PATIENCE_S
        while True:
            path = f"/algorithm/latest/runs/{algorithm}/{run_id}" + ("?wait=30" if wait else "")
            run: dict[str, Any] = self.json("GET", path)
            if not wait or run["stage"] not in OPEN_STAGES:
                return run
            assert time.monotonic() < until, f"it did not end: {run}\n{self.log.read_text()[-3000:]}"

    def end(self, run_id: str, algorithm: str = "agent") -> dict[str, Any]:
        """The run once it has ended."""
        return self.run(run_id, algorithm, wait=True)

    def reach(self, run_id: str, stage: str, algorithm: str = "agent") -> dict[str, Any]:
        """The run once it is at *stage*."""
        return eventually(lambda: self._at(run_id, stage, algorithm), f"{run_id} at {stage}")

    def _at(self, run_id: str, stage: str, algorithm: str) -> dict[str, Any] | None:
        run = self.run(run_id, algorithm)
        return run if run["stage"] == stage else None

    def metadata(self, run_id: str, algorithm: str = "agent") -> dict[str, Any]:
        shown: dict[str, Any] = self.json("GET", f"/algorithm/v1/metadata/{algorithm}/requests/{run_id}")
        return shown

    def result(self, run_id: str, algorithm: str = "agent") -> dict[str, Any]:
        shown: dict[str, Any] = self.json("GET", f"/algorithm/v1/results/{algorithm}/requests/{run_id}")
        return shown

    def complete(self, run_id: str, uri: str = "", cause: str = "", *, api: str = "v1", algorithm: str = "agent") -> Answer:
        body = {"resultUri": uri, "errorCause": cause, "errorDetails": ""}
        return self.ask("POST", f"/algorithm/{api}/complete/{algorithm}/requests/{run_id}", body)

    def cancel(self, run_id: str, algorithm: str = "agent", policy: str = "Background") -> Answer:
        body = {"initiator": "scenario", "reason": "because", "cancellationPolicy": policy}
        return self.ask("POST", f"/algorithm/v1/cancel/{algorithm}/requests/{run_id}", body)

    def output(self, run_id: str, stream: str = "stdout", algorithm: str = "agent", attempt: int = 1) -> bytes:
        """What an attempt printed, from its beginning to its end, which it may reach after its report: waits for that."""
        path = f"/algorithm/latest/runs/{algorithm}/{run_id}/logs/{stream}?limit=4194304&attempt={attempt}"

        def whole() -> Answer | None:
            answer = self.ask("GET", path)
            assert answer.status == 200, answer
            return answer if answer.headers["x-log-complete"] == "true" else None

        return bytes(eventually(whole, f"the end of attempt {attempt} of {run_id}").body)

    def files(self, folder: str) -> list[Path]:
        """Every file below a folder of the data folder, however the service moves them meanwhile."""
        assert self.data is not None
        return [Path(place, name) for place, _, names in os.walk(self.data / folder) for name in names]


def eventually(look: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """What *look* gives as soon as that is true. Raises AssertionError naming *what* was awaited."""
    until = time.monotonic() + patience_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < until, f"waited in vain for: {what}"
        time.sleep(0.02)


def pids(gate: Path) -> list[int]:
    """The processes that marked a gate, once there is one."""
    return [int(line) for line in eventually(lambda: gate.exists() and gate.read_text().split(), f"a mark in {gate.name}")]


def size(file: Path) -> int:
    """Bytes of a file; none when it has gone."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def free_port() -> int:
    """A port nobody listens on, below those the kernel hands out: nobody gets it by chance while a service is away."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(first // 2, first) if first > 4096 else random.randrange(20_000, 30_000)  # all are handed out
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
