"""How the service is started and stopped by what starts and stops it in the field."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.scenarios.service import NEXUS, PATIENCE_S


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_closed_streams_are_no_files_of_the_service(tmp_path: Path, closed: str) -> None:
    """Started with standard streams closed, as daemons are, it serves and stops as always, and nothing lands in its files."""
    words = f"exec {NEXUS} serve --port 0 --data-dir {tmp_path / 'data'} {closed}"
    process = subprocess.Popen(["bash", "-c", words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().startswith("nexus ready on ")
        shown = {number: os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (0, 2)}
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert not [place for place in shown.values() if str(tmp_path) in place or "anon_inode" in place]


@pytest.mark.parametrize(("ignored", "survives"), [(False, False), (True, True)])
def test_a_closed_terminal_stops_the_service_in_order(tmp_path: Path, ignored: bool, survives: bool) -> None:
    """SIGHUP drains and exits 0, as SIGTERM does, also when shell and system both send it; under `nohup` the service goes on."""
    trap = "trap '' HUP; " if ignored else ""
    words = f"{trap}exec {NEXUS} serve --port 0 --data-dir {tmp_path / 'data'}"
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(["bash", "-c", words], stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        with process.stdout:
            assert re.match("nexus ready on ", process.stdout.readline())
            for _ in range(3 if survives else 2000):
                process.send_signal(signal.SIGHUP)
                time.sleep(0.01)  # or the system would make one of them
                if process.poll() is not None:  # it was told until the end
                    break
            if survives:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.5)
                process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        log.seek(0)
        assert "service.stopped" in log.read()
