"""Findings as SARIF, workflow commands and plain data."""

from __future__ import annotations

from nexus.catalog import renderings
from nexus.catalog.checks import Report
from nexus.kernel.documents import Finding
from tests.unit.catalog.test_waivers import waiver
from tests.unit.catalog.trees import MODEL, NEXUS, USAGE, edited, report


def test_sarif_has_rules_results_and_places() -> None:
    """Each result points to its rule by index, and to file, line and column relative to the repository."""
    found = renderings.sarif(report({USAGE: None}, edited(NEXUS, "docs:", "doc:")), "1.2.3", "examples/r/")
    run = found["runs"][0]
    assert found["version"] == "2.1.0"
    assert run["tool"]["driver"]["semanticVersion"] == "1.2.3"
    ids = [one["id"] for one in run["tool"]["driver"]["rules"]]
    assert [ids[one["ruleIndex"]] for one in run["results"]] == [one["ruleId"] for one in run["results"]] == ["NX-C043", "NX-C021"]
    place = run["results"][1]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": f"examples/r/{NEXUS}"}, "region": {"startLine": 4, "startColumn": 3}}


def test_sarif_marks_waived_findings_as_suppressed() -> None:
    """A waived finding is in the report with the reason why it does not count."""
    result = renderings.sarif(report({USAGE: None}, waiver()), "1")["runs"][0]["results"][0]
    assert result["suppressions"] == [{"kind": "external", "justification": "being written"}]


def test_workflow_commands_cannot_be_forged() -> None:
    """Line breaks, percent signs, colons and commas of a finding are escaped."""
    finding = Finding(code="NX-C001", message="100 %\n::error::x", hint="a,b", file="a,b:c.yaml", line=3, column=0)
    (line,) = renderings.workflow_commands(Report(findings=(finding,)))
    assert line == "::error file=a%2Cb%3Ac.yaml,line=3,col=1,title=NX-C001::100 %25%0A::error::x%0Aa,b"


def test_plain_data_counts() -> None:
    """The summary counts errors, warnings and waived findings."""
    found = renderings.report(report({USAGE: None, MODEL: "model: {id: x}\n"}))
    assert found["summary"] == {"errors": 1, "warnings": 2, "waived": 0}
    assert set(found["findings"][0]) == set(renderings.COLUMNS)
