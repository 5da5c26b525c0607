"""What happens to printed data where it cannot go, and how nested data is printed in one cell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nexus.cli import output
from nexus.cli.main import main
from nexus.cli.output import render

NEXUS = Path(sys.executable).with_name("nexus")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no /dev/full")
@pytest.mark.parametrize("command", ["--help", "settings"])
def test_a_full_disk_is_told_in_a_line(command: str) -> None:
    """Output that cannot be written ends with one sentence and 1, not with a traceback."""
    with open("/dev/full", "w") as full:
        done = subprocess.run([NEXUS, command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    ("command", "code"), [("settings | true", 1), ("settings | head -1", 0), ("--version >&-", 0), ("settings >&-", 0)]
)
def test_a_reader_that_is_gone_is_no_error_message(command: str, code: int) -> None:
    """A pipe whose reader has read enough, or a closed output, makes no noise."""
    script = f"{NEXUS} {command}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, code)


def test_nested_values_are_json_in_a_cell() -> None:
    """What has fields of its own can be read back from a CSV cell."""
    rows = [{"a": {"b": None, "c": [1, "x"]}, "d": [{"e": 1}], "f": ["g", "h"]}]
    assert render(rows, "csv") == 'a,d,f\n"{""b"":null,""c"":[1,""x""]}","[{""e"":1}]","g, h"\n'


def test_words_of_others_do_not_reach_the_terminal_as_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """An error's text, which may quote anything, is printed without control characters."""
    assert main(["runs", "show", "a\x1b[2Jb"]) == 2
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert "`a\N{REPLACEMENT CHARACTER}[2Jb` does not name a run" in told


def test_a_note_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """What a note repeats of an argument, a file or a proof is shown, not obeyed; its own lines stay lines."""
    output.note("no variant contains `a\x1b[31m`\n\tsee above")
    assert capsys.readouterr().err == "no variant contains `a\N{REPLACEMENT CHARACTER}[31m`\n\tsee above\n"
