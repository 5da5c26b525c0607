"""What the figures were measured on, and small tools to measure whole processes."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from pathlib import Path


def describe() -> str:
    """One line: processor, cores, memory, kernel, Python, SQLite."""
    model = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def cpu_s(pid: int) -> float:
    """Processor seconds a process has used, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kb(pid: int, name: str) -> int:
    """A line of ``/proc/PID/status`` in KiB: RssAnon, VmRSS, VmHWM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def own_cpu_s(command: list[str], runs: int = 11) -> list[float]:
    """Processor seconds of a whole process, several runs after one warm-up, sorted."""
    code = (
        "import os,subprocess,sys;subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL);"
        "t=os.times();print(t.children_user+t.children_system)"
    )
    figures = [
        float(subprocess.run([sys.executable, "-I", "-S", "-c", code, *command], capture_output=True, text=True, check=True).stdout)
        for _ in range(runs + 1)
    ]
    return sorted(figures[1:])
