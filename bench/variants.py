"""Resolving variants: the example registry as `nexus variants resolve` does it, and the pins of a large one offline."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.model import Figure, median
from nexus.kernel.errors import ResolverUnavailable
from nexus.variants import graph, model, pins, resolution
from nexus.variants.pins import Pin

_EXAMPLE = Path(__file__).resolve().parent.parent / "examples/registry"
_ROUNDS = 5
_PACKAGES = 500


def figures() -> Iterator[Figure]:
    """Three variants resolved warm (needs the package index), then what reading and asking costs without one."""
    yield _resolved()
    yield from _read()


def _resolved() -> Figure:
    what = "three variants of the example registry resolved, uv's cache warm"
    text = (_EXAMPLE / "pyproject.toml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text(text)
        command = [str(Path(sys.executable).with_name("nexus")), "variants", "resolve", "--dry-run", folder]
        try:
            taken = [_seconds(command) for _ in range(_ROUNDS + 1)][1:]
        except (ResolverUnavailable, subprocess.CalledProcessError):
            return Figure(what=what, aim="≤ 5 s", reached="not measured: the package index does not answer")
    reached = median(taken)
    how = f"the whole command, {_ROUNDS} runs after a warm-up, median (longest {max(taken):.1f} s)"
    return Figure(what=what, aim="≤ 5 s", reached=f"{reached:.2f} s", met=reached <= 5, how=how)


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def _read() -> Iterator[Figure]:
    text = pins.render(_large(), "bench")
    started = time.perf_counter()
    read = pins.parse(text)
    parsed_s = time.perf_counter() - started
    yield Figure(what=f"a requirements file of {_PACKAGES} pins read", reached=f"{parsed_s * 1000:.0f} ms", how="20 hashes a pin")
    started = time.perf_counter()
    found = graph.chains(read.pins, f"p{_PACKAGES - 1}")
    taken_s = time.perf_counter() - started
    yield Figure(what="`why`: every chain to its deepest package", reached=f"{taken_s * 1000:.0f} ms, {len(found.chains)} chains")
    declaration = model.read((_EXAMPLE / "pyproject.toml").read_text())
    started = time.perf_counter()
    for _ in range(100):
        model.read((_EXAMPLE / "pyproject.toml").read_text())
        resolution.question(declaration, ["idna"])
    yield Figure(what="the declaration of the example read", reached=f"{(time.perf_counter() - started) * 10:.1f} ms")


def _large() -> list[Pin]:
    hashes = tuple(f"sha256:{number:064x}" for number in range(20))
    above = [("registry",), *[(f"p{(number - 1) // 2}",) for number in range(1, _PACKAGES)]]
    return [Pin(name=f"p{number}", version="1.0", hashes=hashes, via=above[number]) for number in range(_PACKAGES)]
