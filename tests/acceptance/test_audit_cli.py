"""`nexus advisories`, `nexus audit` and `nexus validate requirements` as a user runs them, and the how-to as it is printed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "registry"
HOWTO = ROOT / "docs" / "howto" / "answer-a-cve.md"
NEXUS = Path(sys.executable).with_name("nexus")
HASH = "0" * 64


def nexus(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, run in *cwd*, with a home of its own so that nothing of this user's is read."""
    import os

    given = {
        **os.environ,
        "HOME": str(cwd / ".home"),
        "XDG_DATA_HOME": str(cwd / ".home"),
        "XDG_CACHE_HOME": str(cwd / ".home"),
        **environment,
    }
    return subprocess.run([str(NEXUS), *arguments], cwd=cwd, capture_output=True, text=True, timeout=180, check=False, env=given)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A copy of the example registry's pins and snapshot, whatever else stands there."""
    target = tmp_path / "registry"
    target.mkdir()
    for name in ("pyproject.toml", "requirements-ecosystem.txt", "requirements-candidate.txt", "requirements-product.txt"):
        shutil.copy(EXAMPLE / name, target)
    shutil.copytree(EXAMPLE / "advisories", target / "advisories")
    return target


def plant(registry: Path) -> None:
    done = nexus(
        "advisories", "import", "advisories", "advisories/planted/NEXUS-EXAMPLE-2026-1.yaml", "--to", "advisories", cwd=registry
    )
    assert done.returncode == 0, done.stderr


def data_of(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_the_example_registry_is_clean_and_a_planted_advisory_is_found(registry: Path) -> None:
    """Exit 0 before; exit 1 after, with package, fix, severity and the snapshot; JSON is all there is on stdout."""
    before = nexus("audit", "-o", "json", cwd=registry)
    assert (before.returncode, data_of(before)["ok"]) == (0, True), before.stderr
    plant(registry)
    after = nexus("audit", "-o", "json", cwd=registry)
    assert after.returncode == 1
    (vulnerable,) = [item for item in data_of(after)["verdicts"] if item["status"] == "vulnerable"]
    assert (vulnerable["lock"], vulnerable["package"], vulnerable["upgrade_to"]) == ("product", "babel", "2.17.0")
    assert vulnerable["snapshot"]["id"] == data_of(after)["snapshot"]["id"] != data_of(before)["snapshot"]["id"]
    table = nexus("audit", "product", cwd=registry)
    assert "NEXUS-EXAMPLE-2026-1" in table.stdout
    assert "high 7.5" in table.stdout
    assert re.search(r"sha256:[0-9a-f]{64}", table.stderr)


@pytest.mark.parametrize("damage", ["gone", "empty", "truncated", "manifest"])
def test_without_usable_advisories_nothing_passes(registry: Path, damage: str) -> None:
    """No snapshot, an empty folder, half an index or a broken manifest: exit 1, every pin not audited, valid JSON."""
    folder = registry / "advisories"
    index = next(folder.glob("advisories-*.json"))
    if damage == "truncated":
        index.write_bytes(index.read_bytes()[:100])
    elif damage == "manifest":
        (folder / "manifest.json").write_text("{")
    else:
        shutil.rmtree(folder)
        if damage == "empty":
            folder.mkdir()
    done = nexus("audit", "-o", "json", cwd=registry)
    assert done.returncode == 1
    data = data_of(done)
    assert data["counts"]["not-audited"] == len(data["verdicts"]) > 10
    assert data["snapshot"] is None


def test_a_pin_the_snapshot_does_not_know_is_not_audited(registry: Path, tmp_path: Path) -> None:
    """A file of one's own: a covered pin, a package outside the snapshot, a Git source, a range and nonsense."""
    git = "tokamind @ git+https://example.org/tokamind@" + "a" * 40
    (tmp_path / "lock.txt").write_text(f"idna==3.20 --hash=sha256:{HASH}\nunheard-of==1.0\n{git}\nrich>=1\n\x07\n")
    done = nexus("audit", "-r", "../lock.txt", "-o", "json", cwd=registry)
    assert done.returncode == 1
    assert [item["status"] for item in data_of(done)["verdicts"]] == [
        "clean",
        "not-audited",
        "not-audited",
        "not-audited",
        "not-audited",
    ]


def test_every_format_is_clean_on_stdout(registry: Path) -> None:
    """CycloneDX, SARIF and CSV can be piped as they are; a second run gives the same SARIF."""
    plant(registry)
    bom = data_of(nexus("audit", "-o", "cyclonedx", cwd=registry))
    assert bom["vulnerabilities"][0]["analysis"]["state"] == "in_triage"
    first = nexus("audit", "-o", "sarif", cwd=registry)
    assert data_of(first)["runs"][0]["results"][0]["ruleId"] == "NEXUS-EXAMPLE-2026-1"
    assert first.stdout == nexus("audit", "-o", "sarif", cwd=registry).stdout
    assert nexus("audit", "-o", "csv", cwd=registry).stdout.splitlines()[0].startswith("lock,package,version,status")


@pytest.mark.parametrize("planted", [False, True])
def test_the_bill_of_materials_passes_the_strict_schema(registry: Path, planted: bool) -> None:
    """The document of the example registry is valid CycloneDX 1.6, clean and with the planted advisory, open and waived."""
    if planted:
        plant(registry)
    for waived in (False, True) if planted else (False,):
        if waived:
            (registry / "waivers.yaml").write_text(
                "advisories:\n  - {advisory: NEXUS-EXAMPLE-2026-1, package: babel, reason: fiction, owner: octocat, "
                "expires: 2099-12-31}\n"
            )
        done = nexus("audit", "-o", "cyclonedx", cwd=registry)
        assert done.returncode == int(planted and not waived), done.stderr
        assert not list(JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout, all_errors=True) or ())
        states = {item["analysis"]["state"] for item in data_of(done).get("vulnerabilities", ())}
        assert states == ({"exploitable" if waived else "in_triage"} if planted else set())


def test_bad_records_stop_an_import_with_all_findings_and_keep_the_old_snapshot(registry: Path, tmp_path: Path) -> None:
    """Every bad file is named; nothing changes; with --skip-bad the rest comes in and each audit names what was left out."""
    source = tmp_path / "database"
    source.mkdir()
    (source / "good.yaml").write_text((EXAMPLE / "advisories/planted/NEXUS-EXAMPLE-2026-1.yaml").read_text())
    (source / "tab.yaml").write_text("id:\tx\n\ty: z\n")
    (source / "wrong.yaml").write_text("id: A-1\naffected: 7\n")
    before = nexus("advisories", "show", "-o", "json", cwd=registry).stdout
    done = nexus("advisories", "import", str(source), cwd=registry)
    assert done.returncode == 2
    assert "tab.yaml:" in done.stderr
    assert "wrong.yaml:2:1: error[NX-A03]" in done.stderr
    assert "Traceback" not in done.stderr
    assert nexus("advisories", "show", "-o", "json", cwd=registry).stdout == before
    assert nexus("advisories", "import", str(source), "--skip-bad", cwd=registry).returncode == 0
    assert "tab.yaml" in nexus("audit", cwd=registry).stderr


def test_an_empty_source_is_no_snapshot(registry: Path, tmp_path: Path) -> None:
    """A folder without a record is refused: its snapshot would let everything pass."""
    (tmp_path / "empty").mkdir()
    done = nexus("advisories", "import", str(tmp_path / "empty"), cwd=registry)
    assert (done.returncode, "nothing was written" in done.stderr) == (2, True)


def test_a_source_that_does_not_answer_is_an_error_and_keeps_the_snapshot(registry: Path) -> None:
    """`update` from a closed port, and without any source, exits with a hint; the old snapshot still answers."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        for source in ("osv", "pypi", f"{address}/all.zip"):
            done = nexus("advisories", "update", "--from", source, "--service", address, cwd=registry)
            assert done.returncode == 1
            assert "hint: check the network" in done.stderr
    assert nexus("advisories", "update", cwd=registry).returncode == 2
    assert nexus("audit", cwd=registry).returncode == 0


def test_waivers_records_and_days(registry: Path) -> None:
    """A waiver passes until its day, `--at` judges another day, and the record of a refused lock says no."""
    plant(registry)
    waiver = "advisories:\n- {advisory: CVE-0000-0001, package: babel, reason: fixed list, owner: octocat, expires: 2026-12-01}\n"
    (registry / "waivers.yaml").write_text(waiver)
    assert nexus("audit", "--at", "2026-12-01", "--record", "audit.json", cwd=registry).returncode == 0
    assert nexus("audit", "--at", "2026-12-02", cwd=registry).returncode == 1
    records = json.loads((registry / "audit.json").read_text())
    assert [(item["lock"], item["ok"], item["valid_until"]) for item in records] == [
        ("ecosystem", True, None), ("candidate", True, None), ("product", True, "2026-12-01"),
    ]  # fmt: skip
    assert nexus("audit", "--check", "audit.json", "--at", "2026-12-01", cwd=registry).returncode == 0
    assert nexus("audit", "--check", "audit.json", "--at", "2026-12-02", cwd=registry).returncode == 1
    with (registry / "requirements-ecosystem.txt").open("a") as lock:
        lock.write("# changed\n")
    changed = nexus("audit", "--check", "audit.json", "--at", "2026-12-01", cwd=registry)
    assert (changed.returncode, "not the one that was audited" in changed.stderr) == (1, True)
    (registry / "waivers.yaml").write_text(waiver.replace("reason: fixed list, ", ""))
    broken = nexus("audit", cwd=registry)
    assert (broken.returncode, "the field `reason` is missing" in broken.stderr) == (2, True)


def test_unknown_variants_and_missing_locks_are_told(registry: Path) -> None:
    """A name nobody declared is wrong usage of a registry; a declared variant without a lock is not audited."""
    assert nexus("audit", "nightly", cwd=registry).returncode == 2
    (registry / "requirements-product.txt").unlink()
    done = nexus("audit", "product", cwd=registry)
    assert done.returncode == 1
    assert "nexus variants resolve product" in done.stdout


def test_show_finds_by_id_alias_and_package(registry: Path) -> None:
    """One record under any name; a package without a record says so; one outside the snapshot is an error."""
    for name in ("PYSEC-2024-60", "cve-2024-3651", "IDNA"):
        assert [item["id"] for item in data_of(nexus("advisories", "show", name, "-o", "json", cwd=registry))] == ["PYSEC-2024-60"]
    assert nexus("advisories", "show", "rich", cwd=registry).returncode == 0
    assert nexus("advisories", "show", "unheard-of", cwd=registry).returncode == 1


def test_requirements_cannot_be_checked_without_an_index(registry: Path) -> None:
    """No network: an error finding, exit 1, no password."""
    done = nexus(
        "validate", "requirements", "idna", "-o", "json", cwd=registry, UV_DEFAULT_INDEX="http://user:hunter2@127.0.0.1:9/simple"
    )
    assert done.returncode == 1
    assert [item["code"] for item in data_of(done)] == ["NX-R09"]
    assert "hunter2" not in done.stdout + done.stderr


def test_a_name_that_is_none_is_refused_before_anything_is_asked(registry: Path) -> None:
    """A path or an option in the place of a name is wrong input, told as it was written."""
    done = nexus("validate", "requirements", "../x", cwd=registry, UV_DEFAULT_INDEX="http://127.0.0.1:9/simple")
    assert (done.returncode, done.stdout) == (2, "")
    assert "`../x` is no name of a Python package" in done.stderr


EXPECTED = {
    "nexus audit": [0, 1, 0],
    "nexus advisories import advisories advisories/planted/NEXUS-EXAMPLE-2026-1.yaml --to advisories": [0],
    "nexus advisories show CVE-0000-0001": [0],
    "nexus variants why babel": [0],
    "nexus audit product": [0],
    "nexus variants resolve product": [0],
    "nexus audit --record audit.json": [0],
    "nexus audit -o cyclonedx > sbom.json": [0],
}


def test_the_how_to_works_as_printed(registry: Path) -> None:
    """Every command of the page runs on a copy of the example with the exit code the page gives; the waiver is the page's own."""
    text = HOWTO.read_text()
    waiver = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert waiver is not None
    expected = {command: list(codes) for command, codes in EXPECTED.items()}
    for line in (line[4:] for line in text.splitlines() if re.match(r"    [a-z]", line)):
        if line.startswith(("cp ", "cd ", "nexus advisories import ../advisory-database", "product ")):
            continue
        if line == "nexus audit product":
            (registry / "waivers.yaml").write_text(waiver[1])
        done = subprocess.run(
            ["bash", "-c", line.replace("nexus ", f"{shlex.quote(str(NEXUS))} ", 1)],
            cwd=registry,
            capture_output=True,
            text=True,
            check=False,
        )
        if line.startswith("nexus variants resolve") and "NX406" in done.stderr:
            pytest.skip("step 4 needs a package index, which does not answer: the rest of the page was not run")
        if line.startswith("nexus"):
            assert done.returncode == expected[line].pop(0), f"{line}\n{done.stdout}{done.stderr}"
    assert not any(expected.values())
    assert json.loads((registry / "sbom.json").read_text())["specVersion"] == "1.6"
