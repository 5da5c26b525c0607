"""CycloneDX documents with VEX statements."""

from __future__ import annotations

import builtins
import json
import sys
from typing import Any

import pytest

from nexus.kernel.errors import SbomUnavailable
from nexus.variants import audit, sbom
from tests.unit.variants.auditing import NOW, advisory, lock, snapshot, waiver

LOCK = """\
idna==3.6
rich==1.0
jinja2==1.0 ; sys_platform == 'win32'
networkx==1.0
packaging==1.0
tokamind @ git+https://example.org/tokamind@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
odd>=1
"""


def report() -> audit.Report:
    """One pin of each verdict."""
    held = snapshot(
        advisory(aliases=("CVE-2026-1",)),
        advisory("A-2", "jinja2", fixed="2"),
        advisory("A-3", "networkx", withdrawn="2026-01-01T00:00:00Z"),
        advisory("A-4", "packaging", fixed="", severity=()),
    )
    return audit.audit([lock(LOCK), lock("idna==3.6\n", "candidate")], held, now=NOW, waivers=[waiver("A-4", "packaging")])


def document() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(sbom.document(report(), name="registry"))
    return data


def test_the_document_is_valid_cyclonedx() -> None:
    """The library's own strict schema accepts it (where its validator is installed), and the head says what it is."""
    data = document()
    assert (data["bomFormat"], data["specVersion"]) == ("CycloneDX", "1.6")
    assert {"name": "nexus:advisories:sha256", "value": report().snapshot.id} in data["metadata"]["properties"]  # type: ignore[union-attr]
    assert len({item["bom-ref"] for item in data["components"]}) == 7


def test_components_have_package_urls_and_their_locks() -> None:
    """A pin in two locks is one component with both names; what was not audited says why."""
    components = {item["name"]: item for item in document()["components"]}
    assert components["idna"]["purl"] == "pkg:pypi/idna@3.6"
    locks = [item["value"] for item in components["idna"]["properties"] if item["name"] == "nexus:lock"]
    assert locks == ["candidate", "ecosystem"]
    assert "version" not in components["tokamind"]
    assert {"name": "nexus:audit", "value": "not-audited"} in components["tokamind"]["properties"]


@pytest.mark.parametrize(
    ("identity", "state", "said"),
    [
        ("PYSEC-2026-1", "in_triage", ""),
        ("A-2", "not_affected", "marker"),
        ("A-3", "false_positive", "withdrawn"),
        ("A-4", "exploitable", "@octocat"),
    ],
)
def test_each_verdict_is_a_vex_statement(identity: str, state: str, said: str) -> None:
    """Open, not affected by marker, withdrawn and waived are four different statements."""
    (entry,) = [item for item in document()["vulnerabilities"] if item["id"] == identity]
    assert entry["analysis"]["state"] == state
    assert said in entry["analysis"].get("detail", "")


def test_a_vulnerability_carries_rating_alias_fix_and_what_it_affects() -> None:
    """The entry names score, vector, alias, the upgrade, and the component's reference."""
    (entry,) = [item for item in document()["vulnerabilities"] if item["id"] == "PYSEC-2026-1"]
    assert entry["ratings"][0] | {"score": 7.5, "severity": "high", "method": "CVSSv31"} == entry["ratings"][0]
    assert entry["references"][0]["id"] == "CVE-2026-1"
    assert "3.7" in entry["recommendation"]
    assert [item["ref"] for item in entry["affects"]] == ["pkg:pypi/idna@3.6"]


def test_the_same_report_gives_the_same_document() -> None:
    """Serial number and time come from the report."""
    assert document() == document()


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the extra `audit` is told what to install."""
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("cyclonedx"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    for name in [name for name in sys.modules if name.startswith("cyclonedx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SbomUnavailable) as caught:
        sbom.document(report(), name="registry")
    assert "algorithm-nexus[audit]" in caught.value.hint
