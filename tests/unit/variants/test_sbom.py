"""CycloneDX documents with VEX statements."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from nexus.kernel.errors import SbomUnavailable
from nexus.variants import advisories, audit, sbom
from nexus.variants.audit import Lock
from tests.unit.variants.auditing import CRITICAL, HIGH, NOW, advisory, lock, snapshot, waiver

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


def wrong(text: str) -> list[str]:
    """What the strict JSON schema of CycloneDX 1.6 has against the document."""
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text, all_errors=True)
    return [f"{list(one.data.absolute_path)}: {one.data.message[:200]}" for one in found or ()]


SEVERITIES = (
    HIGH, CRITICAL, (),
    (("CVSS_V2", "AV:N/AC:L/Au:N/C:P/I:P/A:P"),),
    (("CVSS_V3", "CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N"),),
    (("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"),),
    (("CVSS_V3", "garbage"),), (("Ubuntu", "high"),),
)  # fmt: skip


def rated() -> audit.Report:
    """One vulnerable pin of each kind of severity."""
    held = snapshot(*(advisory(f"A-{number}", f"p{number}", severity=each) for number, each in enumerate(SEVERITIES)))
    return audit.audit([lock("".join(f"p{number}==1.0+local.1\n" for number in range(len(SEVERITIES))))], held, now=NOW)


def odd() -> audit.Report:
    """Records and locks that nobody would write on purpose."""
    held = snapshot(
        advisory("U-1", "undecided", undecided="it has no ranges"),
        msgspec.structs.replace(advisory("L-1", "link"), url=advisories.link("not a link <>"), summary="bell \x07 and \u202e"),
        msgspec.structs.replace(advisory("L-2", "host"), url=advisories.link("http://[::bad"), aliases=("x y",)),
        msgspec.structs.replace(advisory("I 1/..?#", "script"), url=""),
    )
    text = "undecided==1\nlink==1\nhost==1\nscript==1\nnonsense [[\nx @ https://u:p@example.org/x-1.0-py3-none-any.whl\n"
    locks = [lock(text), Lock(name="candidate", files={}), Lock(name="product", files={}), Lock(name="none", files={}, empty=True)]
    return audit.audit(locks, held, now=NOW, waivers=[waiver("not-audited", "undecided")])


def unknown() -> audit.Report:
    return audit.audit([lock(LOCK)], None, now=NOW)


def nothing() -> audit.Report:
    return audit.audit([], snapshot(), now=NOW)


@pytest.mark.parametrize("made", [report, rated, odd, unknown, nothing])
def test_the_document_is_valid_cyclonedx(made: Callable[[], audit.Report]) -> None:
    """The strict schema of the format accepts a document of every verdict, every kind of severity, and of odd records."""
    assert wrong(sbom.document(made(), name="registry")) == []


def test_the_schema_would_tell() -> None:
    """A document with a state that the format does not know is refused, so an empty answer means something."""
    assert wrong(sbom.document(report(), name="registry").replace('"in_triage"', '"being looked at"'))


def test_a_rating_names_its_standard() -> None:
    """Each CVSS standard is named as such; a vector that is none is `other`."""
    data = json.loads(sbom.document(rated(), name="registry"))
    methods = {item["id"]: item["ratings"][0].get("method") for item in data["vulnerabilities"]}
    assert list(methods.values()) == ["CVSSv31", "CVSSv31", None, "CVSSv2", "CVSSv3", "CVSSv4", "other", "other"]


def test_a_lock_that_is_not_there_is_named() -> None:
    """Two variants without a lock are two components with the variant's name, and say why they were not audited."""
    data = json.loads(sbom.document(odd(), name="registry"))
    missing = {item["name"]: item for item in data["components"] if item["bom-ref"].startswith("lock:")}
    assert sorted(missing) == ["lock of candidate", "lock of product"]
    reasons = [item["value"] for item in missing["lock of product"]["properties"] if item["name"] == "nexus:not-audited"]
    assert reasons == ["the lock pins nothing"]


def test_the_head_says_what_it_is() -> None:
    """Format, version, and the snapshot that the verdicts rest on."""
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
