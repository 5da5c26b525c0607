"""REQ-1 on real metadata: each miss is a finding, and what could not be checked is never a pass."""

from __future__ import annotations

from datetime import datetime

import pytest

from nexus.variants import packagefacts, packageimports
from nexus.variants.packagefacts import Facts
from nexus.variants.packageimports import Import
from nexus.variants.ports import Release, Target

METADATA = """\
Metadata-Version: 2.4
Name: My_Package
Version: 1.2.0
Summary: Does things.
Author-email: Someone <someone@example.org>
Project-URL: Documentation, https://example.org/docs
Requires-Dist: numpy>=2
Requires-Dist: pyyaml ; extra == 'yaml'

A longer text.
"""
TARGET = Target(python="3.12", platform="x86_64-manylinux_2_28")


def release(version: str, day: str, *, yanked: bool = False) -> Release:
    return Release(version=version, uploaded_at=datetime.fromisoformat(f"{day}T00:00:00+00:00"), yanked=yanked)


def facts(**changes: object) -> Facts:
    given: dict[str, object] = {
        "name": "my-package", "source": "my-package 1.2.0", "version": "1.2.0", "metadata": METADATA,
        "releases": (release("1.0.0", "2026-01-01"), release("1.2.0", "2026-02-01")),
        "wheels": ("my_package-1.2.0-py3-none-any.whl",), "wheel": "my_package-1.2.0-py3-none-any.whl",
        "wheel_tags": ("py3-none-any",),
    }  # fmt: skip
    return Facts(**(given | changes))  # type: ignore[arg-type]


def found(held: Facts) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in packagefacts.check(held, [TARGET])]


def without(text: str) -> Facts:
    return facts(metadata=METADATA.replace(text, ""))


def test_a_package_that_meets_everything_has_no_finding() -> None:
    """Releases that grow, people, description, documentation, dependencies and a wheel: nothing to say."""
    assert found(facts()) == []


def test_each_miss_of_the_metadata_is_a_finding() -> None:
    """No people, no description, no documentation link: one code each; half a description or another link is a warning."""
    assert found(without("Author-email: Someone <someone@example.org>\n")) == [("NX-R03", "error")]
    assert found(facts(metadata=METADATA.replace("Summary: Does things.\n", "").replace("A longer text.\n", ""))) == [
        ("NX-R04", "error")
    ]
    assert found(without("Summary: Does things.\n")) == [("NX-R04", "warning")]
    assert found(without("Project-URL: Documentation, https://example.org/docs\n")) == [("NX-R05", "error")]
    assert found(facts(metadata=METADATA.replace("Documentation,", "Source,"))) == [("NX-R05", "warning")]
    assert found(facts(metadata=METADATA.replace("https://example.org/docs", "file:///etc"))) == [("NX-R05", "error")]
    assert found(facts(metadata=METADATA.replace("Summary: Does things.", "Summary: UNKNOWN"))) == [("NX-R04", "warning")]


def test_metadata_that_contradicts_its_file_is_an_error() -> None:
    """Another name, another version, and a version that is none."""
    assert found(facts(metadata=METADATA.replace("My_Package", "other"))) == [("NX-R10", "error")]
    assert found(facts(metadata=METADATA.replace("1.2.0", "1.3.0"))) == [("NX-R10", "error")]
    assert found(facts(metadata=METADATA.replace("1.2.0", "latest"))) == [("NX-R01", "error")]


@pytest.mark.parametrize(
    ("releases", "expected"),
    [
        ([("1.0", "2026-01-01"), ("1.1", "2026-02-01"), ("1.0.1", "2026-03-01")], []),  # a backport
        ([("1.0", "2026-01-01"), ("1.0.2", "2026-02-01"), ("1.0.1", "2026-03-01")], [("NX-R02", "error")]),
        ([("2024.1", "2024-01-01"), ("1.0", "2026-01-01")], [("NX-R02", "error")]),  # a new scheme without an epoch
        ([("2024.1", "2024-01-01"), ("1!1.0", "2026-01-01")], []),
        ([("2.0", "2020-01-01"), ("1.0", "2021-01-01"), ("3.0", "2026-01-01")], [("NX-R02", "warning")]),  # long ago
        ([("1.0", "2026-01-01"), ("2.0rc1", "2025-01-01")], []),
    ],
)
def test_release_numbers_only_grow(releases: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    """A newest release below an older one is an error, one that lies behind a warning; backports and pre-releases are fine."""
    assert found(facts(releases=tuple(release(*item) for item in releases))) == expected


def test_a_yanked_release_does_not_count() -> None:
    """What was taken back cannot be in the way."""
    assert found(facts(releases=(release("1.0", "2026-01-01"), release("9.0", "2025-01-01", yanked=True)))) == []


def test_no_release_and_no_dates_are_findings() -> None:
    """Never released is a miss; releases without dates could not be checked."""
    assert found(facts(releases=())) == [("NX-R01", "error")]
    assert found(facts(releases=(Release(version="1.0"), Release(version="1.2.0")))) == [("NX-R09", "error")]


def test_what_could_not_be_checked_is_an_error() -> None:
    """Every part that could not be read says so, and the whole package too."""
    assert found(facts(releases=(), unchecked={"releases": "no network"})) == [("NX-R09", "error")]
    assert found(facts(metadata="", unchecked={"metadata": "known after a build"})) == [("NX-R09", "error")]
    assert found(Facts(name="x", source="x", unchecked={packagefacts.PACKAGE: "no network"})) == [("NX-R09", "error")]


@pytest.mark.parametrize(
    ("wheels", "codes"),
    [
        ((), ["NX-R08"]),
        (("my_package-1.2.0-cp311-cp311-manylinux_2_17_x86_64.whl",), ["NX-R08"]),
        (("my_package-1.2.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",), []),
        (("my_package-1.2.0-cp312-cp312-manylinux_2_39_x86_64.whl",), ["NX-R08"]),
        (("my_package-1.2.0-cp39-abi3-manylinux_2_17_x86_64.whl",), []),
        (("my_package-1.2.0-cp312-cp312-win_amd64.whl",), ["NX-R08"]),
        (("nonsense.whl",), ["NX-R08", "NX-R08"]),
    ],
)
def test_a_wheel_for_every_target(wheels: tuple[str, ...], codes: list[str]) -> None:
    """Without a wheel that the target installs there is a finding; a newer glibc than the target's does not fit."""
    assert [code for code, _ in found(facts(wheels=wheels, wheel="", wheel_tags=()))] == codes


def test_a_wheel_whose_tags_differ_from_its_name_is_an_error() -> None:
    """The WHEEL file and the file's name must agree."""
    assert found(facts(wheel_tags=("cp312-cp312-linux_x86_64",))) == [("NX-R08", "error")]


def test_targets_on_other_platforms_are_known() -> None:
    """Windows and macOS names of uv are understood too."""
    held = facts(
        wheels=("my_package-1.2.0-cp312-cp312-win_amd64.whl", "my_package-1.2.0-cp312-cp312-macosx_11_0_arm64.whl"), wheel=""
    )
    for platform in ("x86_64-pc-windows-msvc", "aarch64-apple-darwin"):
        assert packagefacts.check(held, [Target(python="3.12", platform=platform)]) == []


def imported(name: str, kind: str = "required") -> Import:
    return Import(name=name, kind=kind, file="my_package/__init__.py", line=3)


def test_an_import_nobody_declares_is_a_finding_at_its_line() -> None:
    """A required import is an error, an optional one a warning, both with file and line."""
    held = facts(imports=(imported("sklearn"), imported("PIL", "optional"), imported("numpy"), imported("yaml")))
    findings = packagefacts.check(held, [TARGET])
    assert [(item.code, item.severity, item.line) for item in findings] == [("NX-R06", "error", 3), ("NX-R06", "warning", 3)]


def test_an_import_that_cannot_be_placed_is_a_warning_until_the_dependencies_are_known() -> None:
    """An unknown import may come from a dependency whose files nobody has seen; once they are seen it is decided."""
    held = facts(imports=(imported("odd_name"),))
    assert found(held) == [("NX-R07", "warning")]
    seen = {"numpy": frozenset({"numpy"}), "pyyaml": frozenset({"yaml"})}
    assert found(facts(imports=(imported("odd_name"),), provides=seen)) == [("NX-R06", "error")]
    assert found(facts(imports=(imported("odd_name"),), provides=seen | {"numpy": frozenset({"odd_name"})})) == []


def test_dependencies_that_cannot_be_read_are_errors() -> None:
    """A broken requirement is an error, one by address a warning."""
    assert found(facts(metadata=METADATA.replace("numpy>=2", "numpy >>= 2"))) == [("NX-R11", "error")]
    assert found(facts(metadata=METADATA.replace("numpy>=2", "numpy @ https://example.org/n.whl"))) == [("NX-R11", "warning")]


SOURCE = b"""\
from __future__ import annotations
import os, numpy as np
import my_package.inner
from . import sibling
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import typed_only
try:
    import fast
except ImportError:
    fast = None
if os.name == "nt":
    import win
def later():
    import lazy
class Body:
    import inside
with open("x") as f:
    import within
"""


def test_imports_are_read_with_their_kind() -> None:
    """Guarded, conditional and late imports are optional; typing-only, relative, own and standard ones do not count."""
    scan = packageimports.scan({"my_package/__init__.py": SOURCE})
    assert {item.name: item.kind for item in scan.imports} == {
        "numpy": "required", "inside": "required", "within": "required", "fast": "optional", "win": "optional", "lazy": "optional",
    }  # fmt: skip


def test_imports_of_tests_and_of_files_nobody_imports_are_optional() -> None:
    """Test folders, examples and hook files need more than users do."""
    scan = packageimports.scan(
        {
            "p/__init__.py": b"",
            "p/tests/test_a.py": b"import pytest",
            "p/_examples/a.py": b"import cffi",
            "p/hook-x.py": b"import odd",
        }
    )
    assert {item.kind for item in scan.imports} == {"optional"}


@pytest.mark.parametrize("source", [b"def (", b"\x00", b"(" * 100_000, b"-" * 300_000 + b"1", b"x" * (3 << 20), b"\xff\xfe"])
def test_a_module_that_cannot_be_parsed_is_named(source: bytes) -> None:
    """Broken, hostile and huge modules are unreadable and end nothing."""
    assert packageimports.scan({"p/a.py": source}).unreadable == ("p/a.py",)


def test_the_first_required_place_is_told() -> None:
    """An import that is optional in one file and required in another is required, at that place."""
    scan = packageimports.scan({"p/a.py": b"def f():\n    import numpy\n", "p/b.py": b"\nimport numpy\n"})
    assert [(item.kind, item.file, item.line) for item in scan.imports] == [("required", "p/b.py", 2)]
