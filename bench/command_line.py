"""What the command costs before it does anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bench import machine
from bench.model import Figure, median


def start_up() -> Iterator[Figure]:
    """Whole-process CPU of ``--version`` and ``--help``."""
    nexus = str(Path(sys.executable).with_name("nexus"))
    for flag, aim_ms in (("--version", 50), ("--help", 80)):
        reached = median(machine.own_cpu_s([nexus, flag])) * 1000
        yield Figure(
            what=f"`nexus {flag}`, CPU of the whole process",
            aim=f"≤ {aim_ms} ms",
            reached=f"{reached:.0f} ms",
            met=reached <= aim_ms,
            how="11 runs after a warm-up, user + system",
        )
