"""An edit of a registry is whole or has not happened: with a fault before each of its operations on the file system."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nexus.adapters import edits
from nexus.catalog.editing import Plan, Step
from nexus.kernel.errors import RegistryEditRefused
from tests.contracts import edits_child

NEW = {
    "packages/c/deep/nexus.yaml": "c\n",
    "packages/moved/nexus.yaml": "moved\n",
    "packages/moved/usage.md": "x\n",
    "pyproject.toml": "new\n",
    "requirements-product.txt": "made\n",
}


def child(folder: Path, how: str) -> str:
    command = [sys.executable, "-m", edits_child.__name__, str(folder), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[2])
    assert done.stderr == ""
    return done.stdout


def attempts(folder: Path, how: str) -> list[dict[str, Any]]:
    """What came of a fault before each operation in turn; the last try met none, and is not among them."""
    *found, last = [json.loads(line) for line in child(folder, how).splitlines()]
    assert len(found) > 20
    assert (last["exit"], last["after"]) == (0, NEW)
    return found


def test_a_full_disk_at_any_moment_leaves_the_registry_as_it_was(tmp_path: Path) -> None:
    """An operation that fails ends in a refusal with a hint and the old tree; once the edit is done, in the new tree."""
    for one in attempts(tmp_path, "full"):
        assert one["exit"] in (3, 6), one
        assert one["left"] == (NEW if one["exit"] == 6 else one["before"]), one
        assert one["told"] == ""


def test_a_kill_at_any_moment_leaves_a_whole_registry_or_says_that_it_does_not(tmp_path: Path) -> None:
    """After a kill the tree is old, new, or told to be half; the next edit makes it old, however often that is killed too."""
    halves = 0
    for one in attempts(tmp_path, "kill"):
        assert one["exit"] == 9, one
        if not one["told"]:
            assert one["left"] in (one["before"], NEW), one
        halves += one["left"] not in (one["before"], NEW)
        assert one["after"] == (NEW if one["left"] == NEW and not one["told"] else one["before"]), one
        assert not one["stage"]
    assert halves > 3  # so the journal was needed


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A registry in which an edit was killed half-way."""
    child(tmp_path / "registry", "interrupt")
    return tmp_path / "registry"


def test_what_was_written_by_hand_since_is_not_undone(interrupted: Path) -> None:
    """After an interrupted edit, a file that somebody changed stays; the refusal names it and where the text before is."""
    (interrupted / "pyproject.toml").write_text("mine\n")
    with pytest.raises(RegistryEditRefused, match=r"pyproject\.toml` was changed by hand") as caught:
        edits.apply(interrupted, Plan(steps=()))
    assert "nexus-edit" in caught.value.hint
    assert (interrupted / "pyproject.toml").read_text() == "mine\n"


def test_an_edit_that_goes_on_is_told_as_such(interrupted: Path) -> None:
    """Another command's edit is not taken for an interrupted one."""
    assert "was interrupted" in edits.state(interrupted)
    with edits._locked(interrupted):
        assert "another command is editing" in edits.state(interrupted)
    edits.recover(interrupted)
    assert edits.state(interrupted) == ""


def test_a_file_of_the_longest_name_is_written(tmp_path: Path) -> None:
    """A name may have 255 bytes, and so may that of the file which takes its place."""
    edits.write_file(tmp_path / ("図" * 85), "x")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("図" * 85, "x")]


def test_two_who_look_do_not_take_one_another_for_an_edit(interrupted: Path) -> None:
    """Looking whether an edit goes on holds nobody up who looks as well."""
    with edits._locked(interrupted, fcntl.LOCK_SH):
        assert "was interrupted" in edits.state(interrupted)


def test_what_was_not_replaced_yet_keeps_what_was_written_since(tmp_path: Path) -> None:
    """Killed between keeping a file and replacing it, an edit has not changed it: what an editor wrote there since stays."""
    (tmp_path / "a.txt").write_text("old")
    stage = tmp_path / edits.STAGE
    plan = Plan(steps=(Step(kind="write", path="a.txt", before=b"old", after=b"new"),))
    edits._stage(tmp_path, stage, plan)
    (stage / "old" / "0").hardlink_to(tmp_path / "a.txt")
    (tmp_path / "written").write_text("by hand")
    (tmp_path / "written").replace(tmp_path / "a.txt")
    edits.recover(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["by hand"]


def test_a_file_that_is_there_already_is_not_overwritten_as_new(tmp_path: Path) -> None:
    """A step that makes a new file, or deletes one, refuses when the file is not as it was read."""
    (tmp_path / "a.txt").write_text("there")
    for step in (Step(kind="write", path="a.txt", after=b"x"), Step(kind="delete", path="a.txt", before=b"other")):
        with pytest.raises(RegistryEditRefused, match="changed meanwhile"):
            edits.apply(tmp_path, Plan(steps=(step,)))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["there"]
