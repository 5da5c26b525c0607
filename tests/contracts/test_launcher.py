"""The launcher alone, in an interpreter of its own: clocks that jump, disks that are full, what it keeps when all goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nexus.adapters.process import folders

SOURCE = str(Path(folders.__file__).parents[3])
BOOT = "import json, sys; sys.path.insert(0, sys.argv[1])\n{before}\nfrom nexus.adapters.process.launcher import launch\n{after}\n"
BOOT += "launch(json.loads(sys.argv[2]), {{}}, lambda answer: print(json.dumps(answer)))"


def run_launcher(
    folder: Path, script: str, *, before: str = "", after: str = "", **limits: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a launcher answered, and the exit it recorded."""
    command = {"path": "/bin/sh", "argv": ["sh", "-c", script], "environment": {"PATH": "/usr/bin:/bin"}, "cwd": "/"}
    request = {
        "folder": str(folder),
        **command,
        "deadline_s": None,
        "memory_bytes": None,
        "log_bytes": 1 << 16,
        "grace_s": 0.2,
        **limits,
    }
    code = BOOT.format(before=before, after=after)
    interpreter = [sys.executable, "-I", "-S", "-c", code, SOURCE, json.dumps(request)]
    done = subprocess.run(interpreter, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    record = folder / "exit"
    return json.loads(done.stdout), json.loads(record.read_text()) if record.exists() else {}


@pytest.mark.parametrize("step_s", [-86_400, 86_400])
def test_deadlines_do_not_follow_the_wall_clock(tmp_path: Path, step_s: int) -> None:
    """A wall clock that jumps by a day, either way, moves no deadline, and an end is never before its start."""
    jump = (
        "import time; real = time.time_ns; first = real()\n"
        f"time.time_ns = lambda: real() + (real() - first > 100_000_000) * {step_s} * 10**9"
    )
    _, late = run_launcher(tmp_path / "late", "sleep 30", before=jump, deadline_s=0.4)
    assert late["kind"] == "deadline"
    assert late["ended_us"] >= late["started_us"]
    _, in_time = run_launcher(tmp_path / "in_time", "sleep 0.3", before=jump, deadline_s=100.0)
    assert (in_time["kind"], in_time["code"]) == ("exited", 0)
    assert in_time["ended_us"] >= in_time["started_us"]


def test_a_passed_deadline_ends_it_at_once(tmp_path: Path) -> None:
    """Nothing left of the run's time: the attempt ends as DEADLINE."""
    _, record = run_launcher(tmp_path / "a", "sleep 30", deadline_s=-1.0)
    assert record["kind"] == "deadline"


def test_a_second_launcher_starts_nothing(tmp_path: Path) -> None:
    """Whoever comes second gives the uid of the first and leaves the command alone."""
    script = f"echo started >> {tmp_path}/starts"
    first, record = run_launcher(tmp_path / "a", script)
    second, unchanged = run_launcher(tmp_path / "a", script)
    assert second["uid"] == first["uid"]
    assert unchanged == record
    assert (tmp_path / "starts").read_text() == "started\n"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """No lock, no start: the answer carries the system's words."""
    (tmp_path / "file").write_text("")
    answer, record = run_launcher(tmp_path / "file" / "attempt", f"touch {tmp_path}/started")
    assert "directory" in answer["error"]
    assert record == {}
    assert not (tmp_path / "started").exists()


def test_signals_the_service_ignores_are_not_ignored_by_the_algorithm(tmp_path: Path) -> None:
    """A service that a shell started in the background ignores SIGINT, SIGQUIT and SIGHUP; what it starts hears them."""
    deaf = "import signal\nfor one in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP): signal.signal(one, signal.SIG_IGN)"
    for number, name in ((2, "INT"), (3, "QUIT"), (1, "HUP")):
        _, record = run_launcher(tmp_path / name, f"kill -{name} $$; exit 7", before=deaf)
        assert (record["kind"], record["signal"]) == ("signalled", number)


def test_output_left_in_the_pipes_is_kept_however_late_it_is_taken(tmp_path: Path) -> None:
    """A machine that stops for a while at the end of an attempt loses none of its last output."""
    stalled = (
        "from nexus.adapters.process import launcher\n"
        "import itertools, time\n"
        "pump, late = launcher.Launcher._pump, itertools.count(1)\n"
        "launcher.Launcher._pump = lambda self, fd: time.sleep(0.3)  # nothing is taken while it runs\n"
        "launcher.time.monotonic = lambda: next(late) * 5.0"
    )
    _, record = run_launcher(tmp_path / "a", "head -c 60000 /dev/zero; echo last words", after=stalled, log_bytes=1 << 20)
    assert record["code"] == 0
    text = (tmp_path / "a" / "stdout").read_bytes()
    assert (len(text), text[-11:]) == (60_011, b"last words\n")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_logs_on_a_full_disk_do_not_stop_the_algorithm(tmp_path: Path) -> None:
    """An algorithm whose output cannot be kept runs to its own end."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "stdout").symlink_to("/dev/full")
    _, record = run_launcher(folder, "head -c 300000 /dev/zero; exit 9")
    assert (record["kind"], record["code"]) == ("exited", 9)


def test_the_exit_waits_for_room(tmp_path: Path) -> None:
    """An exit that cannot be written is tried again until it can."""
    full = (
        "real, tries = folders.write_once, []\n"
        "def write_once(*args):\n"
        "    tries.append(1)\n"
        "    if len(tries) < 3: raise OSError(28, 'No space left on device')\n"
        "    real(*args)\n"
        "folders.write_once = write_once"
    )
    _, record = run_launcher(tmp_path / "a", "exit 4", after=f"from nexus.adapters.process import folders\n{full}")
    assert record["code"] == 4


def test_a_launcher_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    """An error inside the launcher ends the algorithm and is recorded as LOST with its words."""
    broken = (
        "from nexus.adapters.process import launcher\ndef fail(*_): raise RuntimeError('broken')\nlauncher.Launcher._sample = fail"
    )
    _, record = run_launcher(tmp_path / "a", "sleep 600", after=broken)
    assert record["kind"] == "lost"
    assert "broken" in record["detail"]


def test_a_launcher_stays_small() -> None:
    """A launcher loads nothing heavy (pathlib, asyncio, typing, dataclasses …) and nothing beyond the standard library."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import nexus.adapters.process.zygote; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, SOURCE], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {"pathlib", "asyncio", "typing", "dataclasses", "subprocess", "logging", "msgspec"} & loaded
    assert {name for name in loaded if name.startswith("nexus.")} <= {
        "nexus.adapters",
        "nexus.adapters.process",
        *(f"nexus.adapters.process.{name}" for name in ("folders", "launcher", "logs", "watch", "zygote")),
    }
