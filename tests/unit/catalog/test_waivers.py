"""Waivers: accepted for a time, by somebody, for a reason."""

from __future__ import annotations

from datetime import date

import pytest

from nexus.catalog import checks
from tests.unit.catalog.trees import MODEL, USAGE, build, report

FILE = "waivers.yaml"


def waiver(**fields: str) -> dict[str, str | bytes | None]:
    """The tree's waivers file with one waiver."""
    entry = {"code": "NX-C043", "owner": "octocat", "reason": "being written", "expires": "2026-12-01"} | fields
    return {FILE: "waivers:\n  - " + "\n    ".join(f"{key}: {value}" for key, value in entry.items() if value) + "\n"}


@pytest.mark.parametrize("path", ["", "packages/graphs", "packages/graphs/", "./packages/graphs/models/clubs", MODEL])
def test_a_waiver_covers_its_file_or_folder(path: str) -> None:
    """A waived finding does not count, and is reported with its waiver."""
    found = report({USAGE: None}, waiver(path=path))
    assert found.findings == ()
    assert [(one.finding.code, one.waiver.owner) for one in found.waived] == [("NX-C043", "octocat")]
    assert found.passes(strict=True)


def test_a_waiver_covers_nothing_beside_its_path() -> None:
    """A folder whose name only begins the same is another folder."""
    found = report({USAGE: None}, waiver(path="packages/graph"))
    assert {one.code for one in found.findings} == {"NX-C043", "NX-C091"}


@pytest.mark.parametrize(("day", "codes"), [(date(2026, 12, 1), set()), (date(2026, 12, 2), {"NX-C043", "NX-C090"})])
def test_a_waiver_holds_until_its_last_day(day: date, codes: set[str]) -> None:
    """On its last day it waives; the day after, the finding counts again and the waiver is a finding itself."""
    found = checks.check(build({USAGE: None}, waiver()), day)
    assert {one.code for one in found.findings} == codes


@pytest.mark.parametrize("field", ["owner", "reason", "expires", "code"])
def test_a_waiver_without_one_of_its_parts_waives_nothing(field: str) -> None:
    """Code, owner, reason and date are all needed."""
    found = report({USAGE: None}, waiver(**{field: ""}))
    assert {one.code for one in found.findings} == {"NX-C020", "NX-C043"}


def test_a_day_that_does_not_exist_is_refused() -> None:
    """The thirtieth of February waives nothing."""
    assert {one.code for one in report({USAGE: None}, waiver(expires="2027-02-30")).findings} == {"NX-C023", "NX-C043"}


def test_waivers_cannot_waive_waivers() -> None:
    """A finding about waivers stays whatever the file says."""
    found = report(waiver(code="NX-C093"))
    assert [one.code for one in found.findings] == ["NX-C093"]


ADVISORY = "advisories:\n  - {advisory: PYSEC-1, package: idna, owner: octocat, reason: known, expires: 2026-12-31}\n"


@pytest.mark.parametrize(
    ("code", "hint"), [("NX-V12", "codes"), ("C043", "codes"), ("usage-missing", "`NX-C043`"), ("NX-Y99", "codes")]
)
def test_a_code_that_cannot_be_waived_is_told(code: str, hint: str) -> None:
    """Codes of other checks, mistyped ones and names of rules waive nothing, and that is an error; a name gets its code."""
    found = report({USAGE: None}, waiver(code=code)).findings
    assert {one.code for one in found} == {"NX-C043", "NX-C093"}
    assert hint in next(one.hint for one in found if one.code == "NX-C093")


def test_a_waiver_names_a_person() -> None:
    """Whoever answers for a waiver is a GitHub user."""
    assert {one.code for one in report({USAGE: None}, waiver(owner="some body")).findings} == {"NX-C034", "NX-C043"}


def test_a_waiver_without_a_path_holds_for_the_registry() -> None:
    """Whether the field is absent or has no value."""
    assert {one.code for one in report({USAGE: None}, waiver(path="~")).findings} == {"NX-C025"}


def test_of_a_waived_advisory_only_the_form_is_checked() -> None:
    """Whether it meets a vulnerability is the audit's to say."""
    text = waiver(code="NX-C043")[FILE]
    assert isinstance(text, str)
    assert report({USAGE: None, FILE: text + ADVISORY}).findings == ()
    assert [one.line for one in report({USAGE: None, FILE: text + ADVISORY.replace("owner: octocat, ", "")}).findings] == [7]
