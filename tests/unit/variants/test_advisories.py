"""Advisories: what a record says, and which versions it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from nexus.variants import advisories
from nexus.variants.advisories import Advisory

RECORD = """\
id: PYSEC-2024-60
modified: 2024-07-11T17:21:37.216928Z
published: 2024-07-07T18:15:00Z
aliases:
- CVE-2024-3651
details: |
  Quadratic time in
  idna.encode().
affected:
- package:
    ecosystem: PyPI
    name: IDNA
  ranges:
  - type: GIT
    repo: https://github.com/kjd/idna
    events:
    - introduced: "0"
    - fixed: 1d365e17e10d72d0b7876316fc7b9ca0eebdd38d
  - type: ECOSYSTEM
    events:
    - introduced: "0.1"
    - fixed: "3.7"
  versions:
  - "3.6"
severity:
- type: CVSS_V3
  score: CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H
references:
- type: EVIDENCE
  url: https://example.org/evidence
- type: FIX
  url: https://example.org/fix
"""


def ranged(*events: tuple[str, str], versions: tuple[str, ...] = ()) -> Advisory:
    """An advisory of one range."""
    return Advisory(id="X-1", package="x", ranges=(events,) if events else (), versions=versions)


def affected(advisory: Advisory, version: str) -> bool:
    return advisories.match(advisory, Version(version)).affected


def test_a_record_becomes_one_advisory_with_a_normalised_name() -> None:
    """A YAML record gives its ids, ranges of the ecosystem, severity, one line of text and the most telling address."""
    found, findings = advisories.read_text(RECORD, "PYSEC-2024-60.yaml")
    assert findings == []
    (advisory,) = found
    assert (advisory.id, advisory.package, advisory.aliases) == ("PYSEC-2024-60", "idna", ("CVE-2024-3651",))
    assert advisory.ranges == ((("introduced", "0.1"), ("fixed", "3.7")),)
    assert advisory.summary == "Quadratic time in idna.encode()."
    assert advisory.url == "https://example.org/fix"
    assert advisory.modified == "2024-07-11T17:21:37.216928Z"


def test_json_and_yaml_say_the_same() -> None:
    """The same record as JSON gives the same advisory."""
    import msgspec

    from nexus.kernel import documents

    text = msgspec.json.encode(documents.load(RECORD)).decode()
    assert advisories.read_text(text, "a.json")[0] == advisories.read_text(RECORD, "a.yaml")[0]


@pytest.mark.parametrize(
    ("events", "version", "expected"),
    [
        ([("introduced", "0"), ("fixed", "2.0")], "1.9", True),
        ([("introduced", "0"), ("fixed", "2.0")], "2.0", False),
        ([("introduced", "0"), ("fixed", "2.0")], "2.0rc1", True),
        ([("introduced", "1.0"), ("fixed", "2.0")], "0.9", False),
        ([("introduced", "1.0"), ("fixed", "2.0")], "1.0", True),
        ([("introduced", "0"), ("last_affected", "2.0")], "2.0", True),
        ([("introduced", "0"), ("last_affected", "2.0")], "2.0.post1", False),
        ([("introduced", "2.0"), ("last_affected", "2.0")], "2.0", True),
        ([("introduced", "0")], "99", True),
        ([("introduced", "0"), ("fixed", "1.5"), ("introduced", "2.0"), ("fixed", "2.3")], "1.7", False),
        ([("introduced", "0"), ("fixed", "1.5"), ("introduced", "2.0"), ("fixed", "2.3")], "2.2", True),
        ([("introduced", "2.0"), ("fixed", "2.3"), ("introduced", "0"), ("fixed", "1.5")], "1.4", True),
        ([("introduced", "0"), ("limit", "2.0")], "2.0", False),
        ([("introduced", "0"), ("fixed", "10.0")], "9.0", True),
        ([("introduced", "0"), ("fixed", "1!1.0")], "2024.1", True),
    ],
)
def test_ranges_are_evaluated_by_pep_440(events: list[tuple[str, str]], version: str, expected: bool) -> None:
    """Introduced, fixed, last affected and limit are compared as versions, in any order of the events."""
    assert affected(ranged(*events), version) is expected


def test_a_listed_version_is_affected_however_it_is_spelled() -> None:
    """``1.0`` in the list means ``1.0.0`` too, ``v1.0-RC.1`` is ``1.0rc1``, and ``2024.01.05`` is ``2024.1.5``."""
    assert affected(ranged(versions=("1.0",)), "1.0.0")
    assert affected(ranged(versions=("1.0.0",)), "1")
    assert not affected(ranged(versions=("1.0",)), "1.0.1")
    text = "id: A-1\naffected:\n- package: {ecosystem: PyPI, name: x}\n  versions: [v1.0-RC.1, 2024.01.05, 1!2.0-3, odd]\n"
    (advisory,), _ = advisories.read_text(text, "a.yaml")
    assert [affected(advisory, version) for version in ("1.0rc1", "1.0.0c1", "2024.1.5", "1!2.post3", "1.0", "2.0.post3")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip


def test_a_local_build_counts_as_its_release() -> None:
    """``1.0+cu121`` is as vulnerable as ``1.0``, unless the advisory itself names a local build as the fix."""
    assert affected(ranged(("introduced", "0"), ("last_affected", "1.0")), "1.0+cu121")
    assert affected(ranged(versions=("1.0",)), "1.0+cu121")
    assert affected(ranged(("introduced", "0"), ("fixed", "1.0+sec2")), "1.0+sec1")
    assert not affected(ranged(("introduced", "0"), ("fixed", "1.0+sec2")), "1.0+sec2")


def test_the_fix_is_that_of_the_interval_the_version_lies_in() -> None:
    """A version of the old branch is told the fix of the old branch."""
    advisory = ranged(("introduced", "0"), ("fixed", "1.5"), ("introduced", "2.0"), ("fixed", "2.3"))
    assert advisories.match(advisory, Version("1.4")).fixed_in == ("1.5",)
    assert advisories.match(advisory, Version("2.1")).fixed_in == ("2.3",)


def test_a_version_that_is_only_listed_is_told_later_fixes() -> None:
    """``3.2a1`` is listed and lies before the range: the fix of the range is offered all the same."""
    advisory = ranged(("introduced", "3.2"), ("fixed", "3.2.19"), versions=("3.2a1",))
    assert advisories.match(advisory, Version("3.2a1")).fixed_in == ("3.2.19",)


def test_without_a_fix_the_last_affected_version_is_told() -> None:
    """``last_affected`` gives no fix, and says through which version the package is affected."""
    match = advisories.match(ranged(("introduced", "0"), ("last_affected", "3.1")), Version("3.0"))
    assert (match.affected, match.fixed_in, match.last_affected) == (True, (), "3.1")


def test_an_unreadable_bound_makes_the_advisory_undecided_and_not_harmless() -> None:
    """A fix that is no PEP 440 version gives a warning, and a version outside the list cannot be judged."""
    text = RECORD.replace('fixed: "3.7"', "fixed: 2019-09-12")
    (advisory,), (finding,) = advisories.read_text(text, "a.yaml")
    assert (finding.code, finding.severity, finding.line) == ("NX-A07", "warning", 22)
    assert advisories.match(advisory, Version("3.6")).affected
    assert "2019-09-12" in advisories.match(advisory, Version("3.9")).undecided


def test_a_record_with_commits_only_is_undecided() -> None:
    """Git ranges say nothing about versions: nobody is told that a version is safe."""
    text = "id: A-1\naffected:\n- package: {ecosystem: PyPI, name: x}\n  ranges:\n  - {type: GIT, events: [{introduced: '0'}]}\n"
    (advisory,), (finding,) = advisories.read_text(text, "a.yaml")
    assert finding.code == "NX-A07"
    assert advisories.match(advisory, Version("1.0")).undecided


def test_records_of_other_ecosystems_are_no_findings_and_no_advisories() -> None:
    """An npm record in a mixed archive is passed over."""
    text = "id: A-1\naffected:\n- package: {ecosystem: npm, name: '@babel/core'}\n"
    assert advisories.read_text(text, "a.yaml") == ([], [])


def test_a_file_that_is_no_record_at_all_is_a_warning() -> None:
    """A checkout holds other YAML too (PyPA's `triage/false_positives.yaml`): it is told and left out, and fails no import."""
    found, (finding,) = advisories.read_text("cves:\n- CVE-2020-1\n", "triage.yaml")
    assert (found, finding.code, finding.severity) == ([], "NX-A01", "warning")


def test_one_record_may_name_a_package_twice() -> None:
    """Entries of the same package (in any spelling) are merged: all their ranges count."""
    text = """\
id: A-1
affected:
- package: {ecosystem: PyPI, name: My.Package}
  ranges: [{type: ECOSYSTEM, events: [{introduced: "1.0"}, {fixed: "1.2"}]}]
- package: {ecosystem: PyPI, name: my_package}
  ranges: [{type: ECOSYSTEM, events: [{introduced: "2.0"}, {fixed: "2.2"}]}]
"""
    (advisory,), _ = advisories.read_text(text, "a.yaml")
    assert advisory.package == "my-package"
    assert affected(advisory, "1.1")
    assert affected(advisory, "2.1")
    assert not affected(advisory, "1.5")


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("- a\n- b\n", ["NX-A01"]),
        ("", ["NX-A01"]),
        ("id: 5\naffected: []\n", ["NX-A02", "NX-A03"]),
        ("id: A-1\n", ["NX-A03"]),
        ("id: A-1\naffected: {}\n", ["NX-A03"]),
        ("id: A-1\naffected: [x]\n", ["NX-A04"]),
        ("id: A-1\naffected:\n- package: {ecosystem: PyPI, name: '../x'}\n", ["NX-A04"]),
        ("id: A-1\naffected:\n- package: {ecosystem: PyPI, name: x}\n  versions: [1.0, '2']\n", ["NX-A05"]),
        ("id: A-1\naffected:\n- package: {ecosystem: PyPI, name: x}\n  ranges: [{type: ODD, events: []}]\n", ["NX-A05", "NX-A07"]),
        ("id: A-1\naffected:\n- package: {ecosystem: PyPI, name: x}\n  ranges: [{type: ECOSYSTEM, events: [{fixed: '1'}]}]\n",
         ["NX-A05"]),
        ("id: A-1\naffected:\n- package: {ecosystem: PyPI, name: x}\n  ranges: [{type: ECOSYSTEM, events: [{introduced: 1}]}]\n",
         ["NX-A05", "NX-A05", "NX-A07"]),
        ("id: A-1\nmodified: yesterday\naffected:\n- package: {ecosystem: PyPI, name: x}\n  versions: ['1']\n", ["NX-A10"]),
        ("id: A-1\nid: A-2\n", ["NX-Y07"]),
        ("id:\tA-1\n\tx: y\n", ["NX-Y06"]),
    ],
)  # fmt: skip
def test_bad_records_give_every_finding_and_no_advisory(text: str, codes: list[str]) -> None:
    """Wrong types, missing fields and broken YAML are findings with a code; nothing of the record is believed."""
    found, findings = advisories.read_text(text, "bad.yaml")
    assert found == []
    assert {finding.code for finding in findings} == set(codes)


def test_findings_name_line_and_column() -> None:
    """The place of a wrong value is that of its key in the file."""
    _, findings = advisories.read_text(RECORD.replace('fixed: "3.7"', "fixed: 3.7"), "a.yaml")
    assert [(finding.line, finding.column) for finding in findings] == [(22, 7)]


def test_the_same_id_with_other_content_is_a_finding() -> None:
    """Two files that claim one id for one package must agree; equal twins are one."""
    one, other = ranged(versions=("1",)), ranged(versions=("2",))
    kept, findings = advisories.refuse_twins([("a", one), ("b", one), ("c", other)])
    assert kept == [one]
    assert [(finding.code, finding.file) for finding in findings] == [("NX-A06", "c")]


KEYS = ("id", "affected", "package", "name", "ecosystem", "ranges", "type", "events", "introduced", "severity", "score", "versions")
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["PyPI", "ECOSYSTEM", "0", "A-1"])


def _nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)


@given(st.recursive(SCALARS, _nested, max_leaves=12))
def test_any_value_is_read_without_an_error(record: object) -> None:
    """Whatever JSON holds, reading it returns advisories or findings and never raises."""
    found, findings = advisories.read_record(record, "any.json")
    assert isinstance(found, list)
    assert isinstance(findings, list)


NUMBERS = st.lists(st.integers(0, 30), min_size=1, max_size=5).map(lambda parts: ".".join(map(str, parts)))
SUFFIXES = st.sampled_from(["", "a1", "b2", "rc3", ".post4", ".dev5", "rc1.post2.dev3", "+cu121", "-1", "_alpha-2", ".0"])
SPELLED = st.builds(lambda epoch, number, suffix: epoch + number + suffix, st.sampled_from(["", "1!", "v"]), NUMBERS, SUFFIXES)


@given(SPELLED, SPELLED)
def test_listing_agrees_with_comparing(listed: str, asked: str) -> None:
    """A listed version is affected exactly when PEP 440 says that the two are equal (local labels aside)."""
    known, version = advisories.parse(listed), advisories.parse(asked)
    assert known is not None
    assert version is not None
    expected = known in (version, Version(version.public))
    assert affected(Advisory(id="A-1", package="x", versions=(advisories.spelled(listed),)), asked) is expected


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("https://example.org/a?b=%20c#d", True),
        ("http://localhost:8080", True),
        ("https://example.org/a b", False),
        ("https://example.org/%zz", False),
        ("http://[::bad", False),
        ("javascript:alert(1)", False),
        ("https://example.org/" + "a" * 500, False),
        (None, False),
    ],
)
def test_only_web_addresses_are_links(value: object, kept: bool) -> None:
    """What a record calls its link is one only when it is an http or https address that reports can print as it is."""
    assert advisories.link(value) == (value if kept else "")
