"""`nexus new` on a terminal: a question is asked until its answer can be one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

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
