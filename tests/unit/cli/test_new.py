"""`nexus new`: a question is asked until its answer can be one, and an interrupted edit is undone before anything is read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from nexus.adapters import edits
from nexus.catalog.editing import Plan, Step
from nexus.cli import variants_reading
from nexus.cli.main import main


class Terminal(io.StringIO):
    """A person's answers, a line each."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "packages").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "r"\n[project.optional-dependencies]\necosystem = []\n')
    return tmp_path


def test_an_answer_that_names_nothing_is_asked_for_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blanks and lone commas name no owner; what may be left out is, by an empty line."""
    answers = ["rich", "   ", ",", "octo cat", "octocat, hubot", ",", "", ""]
    monkeypatch.setattr("sys.stdin", Terminal("\n".join(answers) + "\n"))
    assert main(["new", "package", "--root", str(root), "--yes"]) == 0
    assert "owners: [octocat, hubot]" in (root / "packages/rich/nexus.yaml").read_text()
    told = capsys.readouterr().err
    assert told.count("it is not letters and digits") == 3
    assert told.count("there is no variant") == 1


@pytest.fixture
def interrupted(root: Path) -> Path:
    """A registry in which an edit that adds a package was killed when it had written the project file."""
    before = (root / "pyproject.toml").read_bytes()
    step = Step(kind="write", path="pyproject.toml", before=before, after=before.replace(b"[]", b'["half"]'))
    edits._stage(root, root / edits.STAGE, Plan(steps=(step,)))
    edits._do(root, root / edits.STAGE, 0, step)
    return root


def test_an_edit_begins_with_a_whole_registry(interrupted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an interrupted edit left is undone before the next one is planned, so that nothing is planned from half of it."""
    arguments = ["new", "package", "rich", "--owner", "octocat", "--variant", "ecosystem", "--root", str(interrupted)]
    assert main([*arguments, "--dry-run"]) == 0
    assert "half" in (interrupted / "pyproject.toml").read_text()
    assert main([*arguments, "--yes"]) == 0
    assert "it was undone first" in capsys.readouterr().err
    assert '"rich"' in (text := (interrupted / "pyproject.toml").read_text())
    assert "half" not in text
    assert not (interrupted / edits.STAGE).exists()


def test_pins_are_not_made_from_half_an_edit(interrupted: Path) -> None:
    """A command that only reads takes the declaration as it stands; one that writes undoes the edit first."""

    def names(*, to_edit: bool) -> list[str]:
        held = variants_reading.load([], interrupted, to_edit=to_edit).declaration.variants["ecosystem"]
        return [asked.name for asked in held.requirements]

    assert (names(to_edit=False), names(to_edit=True)) == (["half"], [])


def test_a_registry_that_is_being_edited_is_not_edited(interrupted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lock of the edit under way is held: it is not undone, and the second edit is refused."""
    with edits._locked(interrupted):
        assert main(["remove", "package", "half", "--root", str(interrupted), "--yes"]) == 1
    assert "another edit of" in capsys.readouterr().err
    assert "half" in (interrupted / "pyproject.toml").read_text()
