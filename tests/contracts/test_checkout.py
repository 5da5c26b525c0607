"""Reading a registry from disk and from Git, and writing plans: nothing followed, nothing executed, nothing half done."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.adapters import checkout, edits
from nexus.catalog import editing, snapshot
from nexus.catalog.editing import Plan, Step
from nexus.catalog.files import Files
from nexus.kernel.errors import NotARegistry, RegistryEditRefused, RevisionUnreadable
from tests.unit.catalog.trees import BENCHMARK, MODEL, NEXUS, USAGE, VALID


def git(place: Path, *arguments: str) -> str:
    """One Git command, independent of this machine's settings."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
    }
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *who, *arguments], cwd=place, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(root: Path) -> Iterator[Path]:
    """The valid registry in a subfolder of a repository, committed and tagged `v1`."""
    top = root.parent
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "first")
    git(top, "tag", "v1")
    return root


def kinds(files: Files) -> set[tuple[str, str]]:
    """Kind and path of every trouble."""
    return {(one.kind, one.path) for one in files.troubles}


def test_a_folder_and_its_commit_read_the_same(repository: Path) -> None:
    """The files of the folder are the files of the revision, in a subfolder of the repository too."""
    assert checkout.read_revision(repository, "v1") == checkout.read_folder(repository)


def test_a_revision_is_read_without_touching_the_checkout(repository: Path) -> None:
    """An old revision is read while the folder holds other content, and the folder stays as it is."""
    (repository / MODEL).write_text("model: {id: example-org/other}\n")
    before = checkout.read_folder(repository)
    assert snapshot.build(checkout.read_revision(repository, "HEAD")).model("example-org/clubs") is not None
    assert checkout.read_folder(repository) == before


@pytest.mark.parametrize("revision", ["nothing", "--help", "", "v1 v1", "v1\nv1", "HEAD~99"])
def test_a_revision_that_is_none_is_refused(repository: Path, revision: str) -> None:
    """Unknown names, options and several words are refused with a hint."""
    with pytest.raises(RevisionUnreadable) as caught:
        checkout.read_revision(repository, revision)
    assert caught.value.hint


def test_a_folder_outside_git_has_no_revisions(root: Path) -> None:
    """Without a repository the refusal says so."""
    with pytest.raises(RevisionUnreadable, match="no Git checkout"):
        checkout.read_revision(root, "HEAD")


def test_changes_are_edits_and_new_files_but_not_ignored_ones(repository: Path) -> None:
    """Edited, deleted and untracked paths are named relative to the registry; ignored ones are not."""
    (repository.parent / ".gitignore").write_text("*.log\n")
    (repository / MODEL).write_text("model: {id: example-org/other}\n")
    (repository / USAGE).unlink()
    (repository / "packages/graphs/new.txt").write_text("x")
    (repository / "packages/graphs/x.log").write_text("x")
    assert checkout.changed_since(repository, checkout.merge_base(repository, "v1")) == {MODEL, USAGE, "packages/graphs/new.txt"}


def test_a_branch_is_compared_with_where_it_parted(repository: Path) -> None:
    """What main gained meanwhile is no change of the branch."""
    git(repository.parent, "checkout", "-qb", "feature")
    git(repository.parent, "checkout", "-q", "main")
    (repository / "packages/graphs/main.txt").write_text("x")
    git(repository.parent, "add", "-A")
    git(repository.parent, "commit", "-qm", "second")
    git(repository.parent, "checkout", "-q", "feature")
    assert checkout.changed_since(repository, checkout.merge_base(repository, "main")) == frozenset()


def test_no_hook_and_no_helper_of_the_repository_runs(repository: Path) -> None:
    """A repository whose settings name programs is read without starting them."""
    top = repository.parent
    mark = top / "ran"
    script = top / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "diff.external", "core.sshCommand"):
        git(top, "config", key, str(script))
    git(top, "config", "diff.evil.textconv", str(script))
    (top / ".gitattributes").write_text("*.yaml diff=evil\n")
    (repository / MODEL).write_text("model: {id: example-org/other}\n")
    checkout.read_revision(repository, "v1")
    checkout.changed_since(repository, checkout.merge_base(repository, "v1"))
    assert not mark.exists()


def test_links_out_of_the_tree_are_never_read(root: Path) -> None:
    """A link to a file elsewhere, to a folder, or to nothing is a trouble; a link to a file of the registry is read."""
    secret = root.parent / "secret.yaml"
    secret.write_text("package: {name: secret}\n")
    package = root / "packages/linked"
    package.mkdir()
    (package / "nexus.yaml").symlink_to(secret)
    (root / "packages/folder").symlink_to(root / "packages/graphs")
    (root / "waivers.yaml").symlink_to(root.parent / "nowhere.yaml")
    inside = root / "packages/inside"
    inside.mkdir()
    (inside / "nexus.yaml").symlink_to("../graphs/nexus.yaml")
    files = checkout.read_folder(root)
    assert ("link", "packages/linked/nexus.yaml") in kinds(files)
    assert ("link", "packages/folder") in kinds(files)
    assert ("link", "waivers.yaml") in kinds(files)
    assert not any(b"secret" in data for data in files.contents.values())
    assert files.contents["packages/inside/nexus.yaml"] == VALID[NEXUS].encode()


def test_links_read_the_same_from_git(repository: Path) -> None:
    """A committed link inside the registry is read, one that leads out is not, as in the folder."""
    for name, target in (("inside", "../graphs/nexus.yaml"), ("outside", "../../../secret.yaml")):
        (repository / "packages" / name).mkdir()
        (repository / "packages" / name / "nexus.yaml").symlink_to(target)
    (repository.parent / "secret.yaml").write_text("x: 1\n")
    git(repository.parent, "add", "-A")
    git(repository.parent, "commit", "-qm", "links")
    assert checkout.read_revision(repository, "HEAD") == checkout.read_folder(repository)


def test_what_is_no_ordinary_file_is_not_opened(root: Path) -> None:
    """A named pipe does not hold the reading up; a file without permission is a trouble."""
    os.mkfifo(root / "packages/graphs/models/clubs/SKILL.md")
    files = checkout.read_folder(root)
    assert ("unreadable", "packages/graphs/models/clubs/SKILL.md") in kinds(files)


def test_large_files_are_not_read(repository: Path) -> None:
    """Ten megabytes are a trouble with their size, from the folder and from Git."""
    (repository / USAGE).write_bytes(b"x" * 10_000_000)
    git(repository.parent, "add", "-A")
    git(repository.parent, "commit", "-qm", "large")
    for files in (checkout.read_folder(repository), checkout.read_revision(repository, "HEAD")):
        assert [(one.kind, one.path, one.detail) for one in files.troubles] == [("oversized", USAGE, "10000000")]
        assert USAGE not in files.contents


def test_a_file_that_changes_while_it_is_read_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that someone writes at every reading is not judged; one that settles is read."""
    real, left = os.read, [99]

    def read(descriptor: int, size: int) -> bytes:
        data = real(descriptor, size)
        if b"example-org/clubs" in data and left[0]:
            left[0] -= 1
            with (root / MODEL).open("ab") as file:
                file.write(b"#\n")
        return data

    monkeypatch.setattr(os, "read", read)
    assert kinds(checkout.read_folder(root)) == {("unsettled", MODEL)}
    left[0] = 1
    assert MODEL in checkout.read_folder(root).contents


def test_names_that_are_not_utf8_are_told_and_not_entered(root: Path) -> None:
    """A folder or manifest with a name of raw bytes is a trouble under a printable name."""
    raw = os.fsencode(root / "packages")
    os.mkdir(raw + b"/bad\xff")
    Path(os.fsdecode(raw + b"/bad\xff/nexus.yaml")).write_text("x")
    Path(os.fsdecode(raw + b"/graphs/model\xfe.yaml")).write_text("x")
    assert kinds(checkout.read_folder(root)) == {
        ("name", "packages/bad\N{REPLACEMENT CHARACTER}"),
        ("name", "packages/graphs/model\N{REPLACEMENT CHARACTER}.yaml"),
    }


def test_one_package_is_read_alone(root: Path) -> None:
    """With a package given, only it and the files at the root are read."""
    (root / "packages/other").mkdir()
    (root / "packages/other/nexus.yaml").write_text("package: {name: other}\n")
    files = checkout.read_folder(root, package="graphs")
    assert NEXUS in files
    assert "pyproject.toml" in files
    assert "packages/other/nexus.yaml" not in files
    assert BENCHMARK not in files


def test_a_folder_that_is_no_registry_is_refused(tmp_path: Path) -> None:
    """Without `packages` here or above there is no registry."""
    with pytest.raises(NotARegistry):
        checkout.find_root(tmp_path)
    with pytest.raises(NotARegistry):
        checkout.read_folder(tmp_path / "nothing")


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def tree(root: Path) -> dict[str, bytes]:
    """Every file of the folder with its content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rename(root: Path) -> Plan:
    """A plan of several steps."""
    return editing.rename_package(snapshot.build(checkout.read_folder(root)), "graphs", "networks")


def test_a_plan_is_carried_out_as_it_was_tried(root: Path) -> None:
    """The folder afterwards is what the plan gives in memory, and no trace of the work is left."""
    plan = rename(root)
    expected = editing.applied(checkout.read_folder(root), plan)
    edits.apply(root, plan)
    assert checkout.read_folder(root) == expected
    assert not (root / edits.STAGE).exists()
    assert edits.state(root) == ""


def test_a_file_that_changed_since_the_plan_is_not_overwritten(root: Path) -> None:
    """An edit made in an editor meanwhile survives, and the plan is refused whole."""
    plan = rename(root)
    (root / "packages/graphs/nexus.yaml").write_text("package: {name: graphs} # mine\n")
    before = tree(root)
    with pytest.raises(RegistryEditRefused, match="changed"):
        edits.apply(root, plan)
    assert tree(root) == before


def test_an_edit_never_passes_through_a_link(root: Path, tmp_path: Path) -> None:
    """A folder that is a link to elsewhere is not written into."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "packages/linked").symlink_to(elsewhere)
    plan = Plan(steps=(Step(kind="write", path="packages/linked/nexus.yaml", after=b"x"),))
    with pytest.raises(RegistryEditRefused, match="link"):
        edits.apply(root, plan)
    assert list(elsewhere.iterdir()) == []


def test_one_edit_at_a_time(root: Path) -> None:
    """While an edit goes on, another is refused."""
    with edits._locked(root), pytest.raises(RegistryEditRefused, match="another edit"):
        edits.apply(root, rename(root))


def test_new_folders_are_taken_back_with_their_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second new file fails, the folders made for the first are gone too."""
    steps = tuple(Step(kind="write", path=f"packages/new/{name}", after=b"x") for name in ("a/1", "b/2"))
    real = edits._do

    def fail(root_: Path, stage: Path, number: int, step: Step) -> None:
        if number == 1:
            raise OSError("disk trouble")
        real(root_, stage, number, step)

    monkeypatch.setattr(edits, "_do", fail)
    with pytest.raises(RegistryEditRefused, match="cannot be written"):
        edits.apply(root, Plan(steps=steps))
    assert not (root / "packages/new").exists()


def test_written_files_can_be_read_by_others(root: Path) -> None:
    """Manifests are public: a new file is not private to its writer."""
    edits.write_file(root / "out.txt", "x")
    assert stat.S_IMODE((root / "out.txt").stat().st_mode) & 0o044


def test_a_write_keeps_the_mode_of_a_file(tmp_path: Path) -> None:
    """A replaced file is as readable as before."""
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "a.txt").chmod(0o640)
    edits.write_file(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
