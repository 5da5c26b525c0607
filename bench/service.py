"""A service under measurement: started on a free loopback port, pinned to one core, stopped at the end."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import machine

TEMPLATE = """\
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {name: NAME}
spec:
  container: {image: none, registry: none, versionTag: v1}
  command: COMMAND
"""


class Service:
    """``with Service(...) as service``: a running service; ``service.cpu_s()`` is what it has used so far."""

    def __init__(
        self, *arguments: str, core: int | None = 0, module: str = "nexus", templates: dict[str, str] | None = None
    ) -> None:
        self._arguments = arguments
        self._core = core
        self._module = module
        self._templates = templates or {"bench": "true"}

    def __enter__(self) -> Service:
        self.folder = Path(tempfile.mkdtemp(prefix="nexus-bench-"))
        manifest = self.folder / "algorithms.yaml"
        texts = [
            TEMPLATE.replace("NAME", name).replace("COMMAND", json.dumps(command)) for name, command in self._templates.items()
        ]
        manifest.write_text("---\n".join(texts))
        command = (
            [sys.executable, "-m", self._module] if self._module != "nexus" else [str(Path(sys.executable).with_name("nexus"))]
        )
        command += ["serve", "--port", "0", "--data-dir", str(self.folder / "data"), "--algorithms", str(manifest)]
        command += ["--log-level", "warning", *self._arguments]
        if self._core is not None:
            command = ["taskset", "-c", str(self._core), *command]
        self.log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            said = (self.folder / "log").read_text()
            self.__exit__()
            raise SystemExit(f"the service did not start: {line}{said}")
        self.port = int(found[1])
        self.url = found[0]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu_s(self) -> float:
        return machine.cpu_s(self.pid)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stages(self) -> dict[str, int]:
        """Runs by stage."""
        return dict(json.loads(self.ask("GET", "/algorithm/latest/queue")[1])["stages"])


def wrk(service: Service, path: str, script: str, *, seconds: float, connections: int = 64, core: int = 1) -> dict[str, float]:
    """The closed-loop load of wrk on one thread, pinned to the other core. Raises SystemExit when wrk is missing."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("`wrk` is missing: apt-get install wrk")
    command: Sequence[str] = [
        "taskset", "-c", str(core), program, "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s",
        str(Path(__file__).with_name(script)), f"{service.url}{path}",
    ]  # fmt: skip
    before = service.cpu_s()
    began = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "BENCH_FOLDER": str(service.folder)}
    )
    took = time.perf_counter() - began
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    figures = {key: float(value) for key, value in (part.split("=") for part in line.split()[1:])}
    if figures["status"] or figures["socket"]:
        raise SystemExit(f"the load had errors: {line}\n{(service.folder / 'log').read_text()[-2000:]}")
    figures["cpu_s"] = service.cpu_s() - before
    figures["wall_s"] = took
    return figures
