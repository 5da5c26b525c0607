"""New, rename and remove as an owner uses them, with flags and on a terminal."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.registry_copy import NEXUS, copied, nexus


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A copy of the example registry."""
    return copied(tmp_path)


def test_a_package_and_a_model_are_started_valid_renamed_and_removed(registry: Path) -> None:
    """From nothing and back: after each step the registry is right, and at the end it is what it was."""
    before = {path: path.read_bytes() for path in sorted(registry.rglob("*")) if path.is_file()}
    for arguments in (
        ("new", "package", "attrs", "--owner", "octocat", "--variant", "ecosystem", "--requirement", ">=23", "--yes"),
        ("new", "model", "example-org/example", "--package", "attrs", "--yes"),
        ("rename", "model", "example-org/example", "other", "--id", "example-org/other", "--yes"),
        ("rename", "package", "attrs", "cattrs", "--yes"),
        ("rename", "package", "networkx", "graphs", "--yes"),
        ("rename", "package", "graphs", "networkx", "--yes"),
        ("remove", "model", "example-org/other", "--yes"),
        ("remove", "package", "cattrs", "--yes"),
    ):
        done = nexus(*arguments, cwd=registry)
        assert done.returncode == 0, done.stderr
        check = nexus("validate", "catalog", "--strict", cwd=registry)
        assert check.returncode == 0, (arguments, check.stdout)
    assert {path: path.read_bytes() for path in sorted(registry.rglob("*")) if path.is_file()} == before


def test_an_edit_is_shown_first_and_needs_a_yes(registry: Path) -> None:
    """--dry-run writes nothing; without a terminal and without --yes nothing is written either."""
    for arguments, code in ((("--dry-run",), 0), ((), 1)):
        done = nexus("remove", "package", "rich", *arguments, cwd=registry)
        assert done.returncode == code
        assert "delete packages/rich" in done.stdout
        assert (registry / "packages/rich").is_dir()


@pytest.mark.parametrize("name", ["../evil", "-rf", "a b", "x;touch hacked", "a\nb", "a" * 200])
def test_hostile_names_are_refused(registry: Path, name: str) -> None:
    """Names that are paths, options, lines or commands are wrong input, and nothing is written."""
    done = nexus("new", "package", "--owner", "octocat", "--yes", "--", name, cwd=registry)
    assert done.returncode == 2
    assert not list(registry.parent.rglob("evil"))
    assert not list(registry.rglob("hacked"))


def test_a_guided_start_asks_until_it_is_right(registry: Path) -> None:
    """On a terminal the command asks for what is missing, asks again after a wrong answer, shows the plan and waits for a yes."""
    answers = ["not a name", "rich", "attrs", "octo cat", "octocat", "", "nothing", "ecosystem", ">=", ">=23", "", "y"]
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - becomes the command
        os.chdir(registry)
        os.execv(sys.executable, [*NEXUS, "new", "package"])
    seen = _talk(terminal, answers)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, seen
    assert "it is registered in `packages/rich`" in seen
    assert "create packages/attrs/nexus.yaml" in seen
    assert '"attrs>=23"' in (registry / "pyproject.toml").read_text()
    assert nexus("validate", "catalog", "--strict", cwd=registry).returncode == 0


def test_no_is_an_answer(registry: Path) -> None:
    """Whoever does not agree to the plan gets exit 1 and a word, and nothing is written."""
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - becomes the command
        os.chdir(registry)
        os.execv(sys.executable, [*NEXUS, "remove", "package", "rich"])
    seen = _talk(terminal, ["n"])
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert "nothing was written" in seen
    assert "interrupted" not in seen
    assert (registry / "packages/rich").is_dir()


def _talk(terminal: int, answers: list[str]) -> str:
    """Gives an answer at each prompt, and returns all that was printed."""
    seen, asked = "", 0
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 1)
        if not ready:
            continue
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the child closed its end
            break
        if not data:
            break
        seen += data.decode("utf-8", "replace")
        if seen[asked:].endswith(": ") and answers:
            asked = len(seen)
            os.write(terminal, answers.pop(0).encode() + b"\n")
    os.close(terminal)
    return seen
