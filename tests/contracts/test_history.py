"""A registry at any revision is read as Git has it; writes are all or nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nexus.adapters import history
from nexus.adapters.history import GitHistory
from nexus.kernel.errors import NotARegistry, RevisionUnreadable


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A registry in a folder of a checkout, with two commits."""
    root = tmp_path / "deep" / "registry"
    root.mkdir(parents=True)
    git(tmp_path, "init", "-q", ".")
    for number in (1, 2):
        (root / "pyproject.toml").write_text(f"# {number}\n")
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", f"change {number} – ü")
    return root


def test_files_are_read_at_a_revision(checkout: Path) -> None:
    """The registry may be a folder inside the checkout; a file that was not there is None."""
    past = GitHistory(checkout)
    assert past.text("HEAD", "pyproject.toml") == "# 2\n"
    assert past.text("HEAD~1", "pyproject.toml") == "# 1\n"
    assert past.text("HEAD", "uv.lock") is None


def test_commits_that_touched_a_path_come_newest_first(checkout: Path) -> None:
    """Author, day and subject come along; other paths have none."""
    past = GitHistory(checkout)
    assert [commit.subject for commit in past.commits(["pyproject.toml"], 10)] == ["change 2 – ü", "change 1 – ü"]
    assert past.commits(["pyproject.toml"], 1)[0].author == "Ann"
    assert past.commits(["other"], 10) == []


@pytest.mark.parametrize("revision", ["nowhere", "--output=/tmp/x", "HEAD:pyproject.toml", "a b", "$(id)", ""])
def test_unknown_and_hostile_revisions_are_refused(checkout: Path, revision: str) -> None:
    """A revision is never an option, a path or a command."""
    with pytest.raises(RevisionUnreadable):
        GitHistory(checkout).text(revision, "pyproject.toml")


def test_within_a_hook_the_registry_is_still_read_from_its_own_checkout(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git's hooks run with variables that name a repository; they do not lead the reader to another one."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert GitHistory(checkout).text("HEAD", "pyproject.toml") is not None


def test_a_folder_without_git_has_no_commits(tmp_path: Path) -> None:
    """No checkout is an empty history."""
    assert GitHistory(tmp_path).commits(["pyproject.toml"], 5) == []


def test_links_out_of_the_registry_and_bad_bytes_are_refused(tmp_path: Path) -> None:
    """A link that leaves the tree, and a file that is no UTF-8, are errors with the file's name."""
    (tmp_path / "out").symlink_to("/etc/hostname")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    for name in ("out", "bytes"):
        with pytest.raises(NotARegistry, match=name):
            history.read_texts(tmp_path, [name])
    assert history.read_texts(tmp_path, ["pipe", "missing"]) == {}
