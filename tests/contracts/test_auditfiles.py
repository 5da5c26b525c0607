"""What an audit reads from a registry's folder: locks, settings, waivers, the place of the snapshot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nexus.adapters import advisories, auditfiles
from nexus.kernel.errors import InvalidInput, NotAudited, UnknownVariant
from tests.contracts.test_advisories import folder, record, saved

NOW = datetime(2026, 11, 21, tzinfo=UTC)
VARIANTS = '[project]\nname = "r"\n[project.optional-dependencies]\necosystem = ["idna"]\nproduct = ["idna"]\n'


def registry(root: Path, extra: str = "") -> Path:
    """A registry of two variants, one of them resolved."""
    root.mkdir()
    (root / "pyproject.toml").write_text(VARIANTS + extra)
    (root / "requirements-ecosystem.txt").write_text("idna==3.6\n")
    return root


def test_variants_are_those_declared_and_their_git_sources_are_read_too(tmp_path: Path) -> None:
    """Both files of a variant are one lock; a declared variant without a lock is there, with its reason."""
    root = registry(tmp_path / "r")
    (root / "requirements-ecosystem.git.txt").write_text("x @ git+https://example.org/x@" + "a" * 40 + "\n")
    first, second = auditfiles.read(root).locks
    assert (first.name, sorted(first.files)) == ("ecosystem", ["requirements-ecosystem.git.txt", "requirements-ecosystem.txt"])
    assert (second.name, dict(second.files)) == ("product", {})
    assert "variants resolve product" in second.reason


def test_a_section_without_a_value_waives_nothing(tmp_path: Path) -> None:
    """`advisories:` with nothing below it is no reason to refuse an audit; `nexus validate catalog` warns of it."""
    root = registry(tmp_path / "r")
    (root / "waivers.yaml").write_text("waivers: []\nadvisories:\n")
    assert auditfiles.read(root).waivers == ()


def test_a_tree_without_a_pyproject_has_the_variants_of_its_files(tmp_path: Path) -> None:
    """Requirements files alone are enough; nothing at all is an error."""
    (tmp_path / "requirements-candidate.txt").write_text("idna==3.7\n")
    assert [lock.name for lock in auditfiles.read(tmp_path).locks] == ["candidate"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="declares no variant"):
        auditfiles.read(tmp_path / "empty")
    with pytest.raises(UnknownVariant):
        auditfiles.read(tmp_path, ["product"])


def test_a_variant_that_asks_for_nothing_has_nothing_to_audit(tmp_path: Path) -> None:
    """Its empty lock passes; the empty lock of a variant that asks for something, or of a file, was cut short and does not."""
    table = '[project]\nname = "r"\nversion = "1"\n[project.optional-dependencies]\necosystem = ["idna"]\nproduct = []\n'
    (tmp_path / "pyproject.toml").write_text(table)
    for name in ("ecosystem", "product"):
        (tmp_path / f"requirements-{name}.txt").write_text("# nothing\n")
    saved(folder(tmp_path / "db", one=record()), tmp_path / "advisories")
    report = auditfiles.read(tmp_path).report(NOW)
    assert [(item.lock, item.status) for item in report.verdicts] == [("ecosystem", "not-audited")]
    assert auditfiles.read(tmp_path, ["product"]).report(NOW).ok
    assert not auditfiles.read(tmp_path, files=[tmp_path / "requirements-product.txt"]).report(NOW).ok


def test_the_snapshot_is_where_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named snapshot comes first, then `advisories/` of the registry, then the user's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    root = registry(tmp_path / "r")
    assert auditfiles.snapshot_folder(root) == tmp_path / "home" / "nexus" / "advisories"
    saved(folder(tmp_path / "db", one=record()), root / "advisories")
    assert auditfiles.snapshot_folder(root) == root / "advisories"
    other = registry(tmp_path / "other", '[tool.nexus.advisories]\nsnapshot = "../r/advisories"\nmax-age-days = 3\n')
    inputs = auditfiles.read(other, ["ecosystem"])
    assert inputs.snapshot is not None
    assert inputs.max_age == timedelta(days=3)
    assert [item.status for item in inputs.report(NOW).verdicts] == ["vulnerable"]


@pytest.mark.parametrize("table", ["snapshot = 3", "max-age-days = 0", "max-age-days = true", "sauce = 'x'", "source = []"])
def test_settings_that_cannot_be_are_refused(tmp_path: Path, table: str) -> None:
    """A wrong type, an impossible age and a mistyped key are errors."""
    root = registry(tmp_path / "r", f"[tool.nexus.advisories]\n{table}\n")
    with pytest.raises(InvalidInput, match=rf"cannot be used\npyproject\.toml:\d+: error\[NX-V05\].*{table.split()[0]}"):
        auditfiles.read(root)
    assert [finding.code for finding in auditfiles.read_declaration(root).findings if "advisories" in finding.message] == ["NX-V05"]


def test_a_project_file_that_cannot_be_read_stops_the_audit(tmp_path: Path) -> None:
    """Settings that nobody can read are not taken for none: the error names the line."""
    (tmp_path / "pyproject.toml").write_text("[tool.nexus.advisories]\nsnapshot = \n")
    with pytest.raises(InvalidInput, match=r"pyproject\.toml:2"):
        auditfiles.read(tmp_path)


def test_targets_of_the_registry_decide_about_markers(tmp_path: Path) -> None:
    """A Windows-only pin counts for a registry that targets Windows."""
    root = registry(tmp_path / "r", '[tool.nexus]\nplatforms = ["x86_64-pc-windows-msvc"]\n')
    (root / "requirements-ecosystem.txt").write_text("idna==3.6 ; sys_platform == 'win32'\n")
    saved(folder(tmp_path / "db", one=record()), root / "advisories")
    assert [item.status for item in auditfiles.read(root, ["ecosystem"]).report(NOW).verdicts] == ["vulnerable"]


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x" * (17 << 20)])
def test_unreadable_locks_are_errors(tmp_path: Path, data: bytes) -> None:
    """A lock that is not UTF-8 or far too large is refused."""
    root = registry(tmp_path / "r")
    (root / "requirements-ecosystem.txt").write_bytes(data)
    with pytest.raises(InvalidInput):
        auditfiles.read(root)


def test_records_are_written_whole_and_checked_against_locks_and_snapshot(tmp_path: Path) -> None:
    """A record file holds one record a lock; a foreign file, a lock without a record and a lost snapshot are refused."""
    root = registry(tmp_path / "r")
    (root / "requirements-ecosystem.txt").write_text("idna==3.7\n")
    saved(folder(tmp_path / "db", one=record()), root / "advisories")
    inputs = auditfiles.read(root, ["ecosystem"])
    auditfiles.write_records(tmp_path / "audit.json", inputs.records(NOW))
    records = auditfiles.read_records(tmp_path / "audit.json")
    inputs.check(records, NOW)
    with pytest.raises(NotAudited, match="do not name it"):
        auditfiles.read(root, ["product"]).check(records, NOW)
    (tmp_path / "other.json").write_text('{"ok": true}')
    with pytest.raises(InvalidInput, match="no audit records"):
        auditfiles.read_records(tmp_path / "other.json")
    (root / "advisories" / advisories.MANIFEST).unlink()
    lost = auditfiles.read(root, ["ecosystem"])
    for attempt in (lambda: lost.check(records, NOW), lambda: lost.records(NOW)):
        with pytest.raises(NotAudited, match="no advisory snapshot"):
            attempt()
