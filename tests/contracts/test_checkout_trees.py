"""Trees as people and strangers leave them: links above the files that are read, empty folders, names that are not UTF-8."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

from nexus.adapters import checkout
from nexus.catalog import checks, snapshot
from tests.unit.catalog.trees import NEXUS


def codes(root: Path) -> dict[str, str]:
    """Path → code of every finding."""
    found = checks.check(snapshot.build(checkout.read_folder(root)), date(2026, 11, 21))
    return {one.file: one.code for one in found.findings}


def test_a_folder_that_is_a_link_hides_nothing_from_elsewhere(root: Path) -> None:
    """`.github` that leads out of the registry is not read through, and `packages` has to stand there itself."""
    outside = root.parent / "elsewhere"
    (outside / "packages").mkdir(parents=True)
    (outside / "CODEOWNERS").write_text("secret\n")
    (root / ".github").symlink_to(outside)
    (root / "benchmarks").rename(root / "kept")
    (root / "benchmarks").symlink_to(root / "kept")
    files = checkout.read_folder(root)
    assert ".github/CODEOWNERS" not in files.contents
    assert codes(root) == {".github/CODEOWNERS": "NX-C003", "benchmarks": "NX-C003"}


def test_packages_that_is_a_link_is_no_registry_of_others(root: Path) -> None:
    """A `packages` folder elsewhere is not checked as this one."""
    (root / "packages").rename(root.parent / "others")
    (root / "packages").symlink_to(root.parent / "others")
    assert codes(root)["packages"] in ("NX-C003", "NX-C080")
    assert not checkout.read_folder(root).contents.keys() & {NEXUS}


def test_an_empty_folder_is_no_package_that_is_right(root: Path) -> None:
    """Git knows no empty folders, but whoever made one is told what is missing in it."""
    (root / "packages/empty").mkdir()
    (root / "packages/graphs/models/later").mkdir()
    (root / "packages/graphs/benchmark_packages/x/__pycache__").mkdir(parents=True)  # left behind by another branch
    assert codes(root) == {
        "packages/empty/nexus.yaml": "NX-C010",
        "packages/graphs/models/later/model.yaml": "NX-C011",
    }


def test_a_manifest_that_is_a_folder_is_missing(root: Path) -> None:
    """A folder in place of `nexus.yaml` does not make the package vanish."""
    (root / NEXUS).unlink()
    (root / NEXUS).mkdir()
    assert codes(root)[NEXUS] == "NX-C010"


def test_a_name_that_is_not_utf8_is_a_name_nobody_can_take(root: Path) -> None:
    """In a package and beside packages: the finding is about the name, and asks for another one."""
    packages = os.fsencode(root / "packages")
    os.mkdir(packages + b"/\xff\xfe")
    Path(os.fsdecode(packages + b"/graphs/\xff.txt")).write_text("x")
    assert codes(root) == {"packages/\ufffd\ufffd": "NX-C005", "packages/graphs/\ufffd.txt": "NX-C005"}
