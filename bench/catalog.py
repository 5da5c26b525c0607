"""The catalogue's speed: a registry of 1,000 packages and 3,000 models, whole and one file at a time.

``python -m bench.catalog FOLDER`` writes such a registry, to look at or to time by hand.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

from bench.model import Figure, median

PACKAGES = 1_000
MODELS_EACH = 3
_ROUNDS = 5
_DAY = date(2026, 11, 21)
_MODEL = """model:
  id: {id}
  owner: owner-{owner}
  testing:
    hardware:
      minimum:
        cpu: {{cores: 2}}
        memory: 8Gi
      cpu_only: true
    commands:
      - python -m pytest tests
    scenarios:
      - name: one input
        kind: inference
        checks: the output is what it should be
    time_limit: 20m
"""


def write_registry(root: Path, *, owners: bool = True) -> None:
    """A valid registry of this size; without owners, one with a warning in every file."""
    names = [f"package-{number:04d}" for number in range(PACKAGES)]
    extras = ",\n".join(f'    "{name}>=1.0"' for name in names)
    (root / "packages").mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        f'[project]\nname = "bench"\n\n[project.optional-dependencies]\necosystem = [\n{extras},\n]\n'
    )
    for number, name in enumerate(names):
        folder = root / "packages" / name
        folder.mkdir()
        who = f"\n  owners: [owner-{number % 50}]" if owners else ""
        (folder / "nexus.yaml").write_text(f"package:\n  name: {name}{who}\n  docs: https://example.org/{name}\n")
        for index in range(MODELS_EACH):
            model = folder / "models" / f"model-{index}"
            model.mkdir(parents=True)
            text = _MODEL.format(id=f"bench-org/{name}-model-{index}", owner=number % 50)
            (model / "model.yaml").write_text(text if owners else text.replace(f"  owner: owner-{number % 50}\n", ""))
            (model / "usage.md").write_text(f"# {name} {index}\n\nInstall `{name}` and load the model.\n")


def figures() -> Iterator[Figure]:
    """The figures of the issue's speed section about validation."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "registry"
        write_registry(root)
        yield _whole(root, "nexus validate catalog, 1,000 packages and 3,000 models, fresh process", 1.0)
        yield _one_changed(root)
        yield _one_package(root)
        bare = Path(folder) / "bare"
        write_registry(bare, owners=False)
        yield _whole(bare, "the same with a warning in every one of 4,000 files, lines looked up", None)


def _whole(root: Path, what: str, aim_s: float | None) -> Figure:
    walls, cpus = zip(*(_run("validate", "catalog", str(root)) for _ in range(_ROUNDS)), strict=True)
    wall = median(list(walls))
    reached = f"{wall:.2f} s wall ({min(walls):.2f}–{max(walls):.2f}), {median(list(cpus)):.2f} s CPU"
    aim = "stated" if aim_s is None else f"≤ {aim_s:.0f} s"
    return Figure(
        what=what,
        reached=reached,
        aim=aim,
        how=f"median of {_ROUNDS}, files in the page cache",
        met=None if aim_s is None else wall <= aim_s,
    )


def _one_package(root: Path) -> Figure:
    cpus = [_run("validate", "package", str(root / "packages/package-0500"))[1] for _ in range(_ROUNDS)]
    cpu = median(cpus)
    return Figure(
        what="nexus validate package in that registry, whole process", reached=f"{cpu * 1000:.0f} ms CPU", aim="≤ 250 ms CPU",
        how=f"median of {_ROUNDS}", met=cpu <= 0.25,
    )  # fmt: skip


def _one_changed(root: Path) -> Figure:
    """One file of 7,001 changes; snapshot and findings made again in the same process."""
    from nexus.adapters import checkout
    from nexus.catalog import checks, snapshot

    memory = snapshot.Memory()
    files = checkout.read_folder(root)
    checks.check(snapshot.build(files, memory), _DAY, memory)
    path = "packages/package-0500/models/model-1/model.yaml"
    times = []
    for number in range(_ROUNDS):
        contents = {**files.contents, path: files.contents[path] + f"# {number}\n".encode()}
        start = time.perf_counter()
        checks.check(snapshot.build(replace(files, contents=contents), memory), _DAY, memory)
        times.append(time.perf_counter() - start)
    middle = median(times)
    return Figure(
        what="one changed file of that registry, in process with the cache", reached=f"{middle * 1000:.0f} ms", aim="≤ 50 ms",
        how=f"median of {_ROUNDS}", met=middle <= 0.05,
    )  # fmt: skip


def _run(*arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of one call of the command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "-c", "import sys; from nexus.cli.main import main; sys.exit(main())", *arguments]
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    write_registry(Path(sys.argv[1]))
