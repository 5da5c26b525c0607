"""The audit: verdicts on pins, and that nothing unknown ever passes."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

import pytest

from nexus.catalog import checks
from nexus.catalog import snapshot as catalogue
from nexus.catalog.files import Files
from nexus.kernel import documents
from nexus.kernel.errors import AdvisoriesUnusable
from nexus.variants import audit, auditsnapshot, auditviews, auditwaivers
from nexus.variants.audit import CLEAN, FIXED_IN, MARKER, NO_FIX, UNKNOWN, VULNERABLE, WAIVED, WITHDRAWN, PinVerdict, Report
from tests.unit.variants.auditing import CRITICAL, NOW, advisory, lock, snapshot, waiver

HASH = "0" * 64


def run(text: str, *advisories: object, **options: object) -> Report:
    """The audit of one lock against a complete snapshot of these advisories."""
    return audit.audit([lock(text)], snapshot(*advisories), now=NOW, **options)  # type: ignore[arg-type]


def only(report: Report) -> PinVerdict:
    (verdict,) = report.verdicts
    return verdict


def test_a_vulnerable_pin_names_advisory_severity_and_fix() -> None:
    """A pin below the fix is vulnerable, and the verdict says what, how bad, and which version mends it."""
    report = run(f"idna==3.6 \\\n    --hash=sha256:{HASH}\n    # via requests\n", advisory(aliases=("CVE-2026-1",)))
    verdict = only(report)
    (issue,) = verdict.issues
    assert not report.ok
    assert (verdict.status, verdict.line, verdict.upgrade_to) == (VULNERABLE, 1, "3.7")
    assert (issue.verdict, issue.fixed_in, issue.severity.score, issue.aliases) == (FIXED_IN, ("3.7",), 7.5, ("CVE-2026-1",))


def test_a_fixed_version_is_clean() -> None:
    """The fixed version itself passes."""
    report = run("idna==3.7\n", advisory())
    assert report.ok
    assert only(report).status == CLEAN


def test_a_vulnerability_without_a_fix_says_so() -> None:
    """An open-ended range is vulnerable with no fix to offer."""
    verdict = only(run("idna==3.6\n", advisory(fixed="")))
    assert (verdict.status, verdict.issues[0].verdict, verdict.upgrade_to) == (VULNERABLE, NO_FIX, "")


def test_a_withdrawn_advisory_is_told_and_does_not_count() -> None:
    """A withdrawn advisory stands in the report and leaves the pin clean."""
    report = run("idna==3.6\n", advisory(withdrawn="2026-11-01T00:00:00Z"))
    assert report.ok
    assert (only(report).status, only(report).issues[0].verdict) == (CLEAN, WITHDRAWN)


def test_withdrawing_one_alias_does_not_withdraw_the_other() -> None:
    """A duplicate that was withdrawn in favour of its alias leaves the vulnerability standing."""
    gone = advisory("GHSA-1", aliases=("PYSEC-2026-1",), withdrawn="2026-11-01T00:00:00Z")
    assert only(run("idna==3.6\n", gone, advisory())).status == VULNERABLE


@pytest.mark.parametrize(
    ("marker", "status"),
    [
        ("sys_platform == 'win32'", CLEAN),
        ("python_version < '3.11'", CLEAN),
        ("python_version >= '3.13'", VULNERABLE),
        ("platform_machine == 'aarch64'", VULNERABLE),
        ("extra == 'x'", CLEAN),
    ],
)
def test_a_marker_that_is_false_on_every_target_means_not_affected(marker: str, status: str) -> None:
    """A pin that no target installs is not affected; one target is enough to be."""
    verdict = only(run(f"idna==3.6 ; {marker}\n", advisory()))
    assert verdict.status == status
    assert (verdict.issues[0].verdict == MARKER) is (status == CLEAN)


def test_targets_decide_what_a_marker_means() -> None:
    """With a Windows target the Windows pin counts."""
    report = run("idna==3.6 ; sys_platform == 'win32'\n", advisory(), targets=[audit.environment("3.12", "x86_64-pc-windows-msvc")])
    assert only(report).status == VULNERABLE


def test_records_that_are_aliases_are_one_issue() -> None:
    """PYSEC, GHSA and CVE records of one vulnerability count once, with the worst severity and a fix that satisfies all."""
    report = run(
        "idna==3.6\n",
        advisory("PYSEC-2026-1", aliases=("CVE-2026-1",), fixed="3.7"),
        advisory("GHSA-aaaa", aliases=("CVE-2026-1",), fixed="3.8", severity=CRITICAL),
        advisory("CVE-2026-1", fixed="3.7", severity=()),
    )
    (issue,) = only(report).issues
    assert (issue.id, issue.aliases) == ("PYSEC-2026-1", ("CVE-2026-1", "GHSA-aaaa"))
    assert (issue.severity.score, issue.fixed_in) == (9.8, ("3.8",))
    assert report.score(waived=True).vulnerabilities == 1


def test_the_upgrade_is_clear_of_every_known_advisory() -> None:
    """The version to move to is not one that another advisory affects."""
    report = run(
        "idna==3.6\n", advisory("A-1", fixed="3.7"), advisory("A-2", introduced="3.7", fixed="3.9"), advisory("A-3", fixed="3.10")
    )
    assert only(report).upgrade_to == "3.10"


def test_names_are_compared_normalised() -> None:
    """``Foo_Bar`` in a lock is ``foo-bar`` in an advisory."""
    assert only(run("Foo_Bar==1.0\n", advisory(package="foo-bar"))).status == VULNERABLE


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("idna>=3", "not a pinned"),
        ("idna", "not a pinned"),
        ("idna==3.*", "not a pinned"),
        ("idna===3.6-odd", "not a pinned"),
        ("-e .", "not a pinned"),
        ("-r other.txt", "not a pinned"),
        ("idna @ git+https://user:secret@example.org/idna.git@" + "a" * 40, "Git commit"),
        ("idna @ https://example.org/idna-latest.tar.gz", "direct URL"),
        ("idna @ https://example.org/other-3.6-py3-none-any.whl", "is `other`"),
        ("idna==3.6 ; python_version ~ 3", "not a pinned"),
        ("\x00\x01", "not a pinned"),
    ],
)
def test_a_line_that_pins_no_version_is_not_audited(line: str, why: str) -> None:
    """Ranges, includes, editable paths, Git commits and nonsense are reported as not audited and fail the audit."""
    report = run(f"{line}\n", advisory())
    assert not report.ok
    assert only(report).status == UNKNOWN
    assert why in only(report).reason
    assert "secret" not in str(auditviews.summary(report))


def test_a_wheel_at_a_url_is_audited_by_its_name() -> None:
    """A direct URL of a wheel says its version."""
    assert only(run("idna @ https://example.org/idna-3.6-py3-none-any.whl\n", advisory())).status == VULNERABLE


def test_an_undecided_advisory_leaves_the_pin_not_audited() -> None:
    """When a record cannot say whether the version is affected, nobody says that it is not."""
    report = run("idna==3.6\n", advisory(undecided="the record names no versions"))
    assert (only(report).status, report.ok) == (UNKNOWN, False)
    assert "names no versions" in only(report).reason


def test_an_alias_that_can_decide_settles_an_undecided_record() -> None:
    """One readable record of a vulnerability is enough to clear a version."""
    report = run("idna==3.7\n", advisory("A-1", undecided="unreadable", aliases=("A-2",)), advisory("A-2"))
    assert report.ok


# ── silence is never a pass ───────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_snapshot_nothing_is_audited() -> None:
    """No snapshot: every pin is not audited with the reason, and the report is not ok."""
    report = audit.audit([lock("idna==3.7\njinja2==3.1.6\n")], None, now=NOW, missing="the network is down")
    assert not report.ok
    assert [(item.status, item.reason) for item in report.verdicts] == [(UNKNOWN, "the network is down")] * 2


def test_a_package_outside_a_partial_snapshot_is_not_audited() -> None:
    """A snapshot of some packages says nothing about others; a covered package without a record is clean."""
    held = snapshot(advisory(), covers=["idna", "jinja2"])
    report = audit.audit([lock("jinja2==3.1.6\nrich==14.0\n")], held, now=NOW)
    assert [item.status for item in report.verdicts] == [CLEAN, UNKNOWN]


def test_coverage_of_one_version_is_not_coverage_of_another() -> None:
    """A source that was asked about one version (PyPI's own field) covers that version alone."""
    held = snapshot(covers=["rich==14.0"])
    report = audit.audit([lock("rich==14.0\n"), lock("rich==14.1\n", "candidate")], held, now=NOW)
    assert [item.status for item in report.verdicts] == [CLEAN, UNKNOWN]


def test_an_empty_lock_is_not_ok() -> None:
    """A lock without a pin, a lock without a file, and no lock at all are no pass."""
    assert not run("# nothing\n").ok
    assert not audit.audit([audit.Lock(name="product", files={}, reason="missing")], snapshot(), now=NOW).ok
    assert not audit.audit([], snapshot(), now=NOW).ok


def test_an_empty_snapshot_of_an_ecosystem_cannot_be_opened() -> None:
    """A snapshot that claims the whole ecosystem and holds no record is refused."""
    manifest, index = auditsnapshot.build([], [], now=NOW)
    with pytest.raises(AdvisoriesUnusable, match="holds no record"):
        auditsnapshot.open_snapshot(manifest, index, "empty")


def test_a_changed_index_cannot_be_opened() -> None:
    """One byte that differs from what the manifest names is refused."""
    manifest, index = auditsnapshot.build([advisory()], [], now=NOW)
    with pytest.raises(AdvisoriesUnusable, match="SHA-256"):
        auditsnapshot.open_snapshot(manifest, index.replace(b"3.7", b"3.6"), "changed")


def test_the_snapshot_id_covers_what_a_verdict_depends_on() -> None:
    """Coverage and date change the id; the time of import does not."""
    base, _ = auditsnapshot.build([advisory()], [], now=NOW)
    later, _ = auditsnapshot.build([advisory()], [], now=NOW + timedelta(days=3))
    partial, _ = auditsnapshot.build([advisory()], [], now=NOW, covers=["idna"])
    assert auditsnapshot.identity(base) == auditsnapshot.identity(later)
    assert auditsnapshot.identity(base) != auditsnapshot.identity(partial)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"format": 2}', b"\xff", b"[" * 5000])
def test_a_broken_manifest_is_refused(data: bytes) -> None:
    """Whatever stands in the place of a manifest, it is refused with a reason."""
    with pytest.raises(AdvisoriesUnusable):
        auditsnapshot.read_manifest(data, "broken")


def test_a_manifest_cannot_name_an_index_elsewhere() -> None:
    """The index is a file beside the manifest."""
    manifest, _ = auditsnapshot.build([advisory()], [], now=NOW)
    data = auditsnapshot.encode_manifest(manifest).replace(manifest.index.encode(), b"../../secret.json")
    with pytest.raises(AdvisoriesUnusable, match="outside"):
        auditsnapshot.read_manifest(data, "hostile")


def test_an_old_snapshot_is_a_warning() -> None:
    """Advisories older than the limit are told, with their date."""
    report = audit.audit([lock("idna==3.7\n")], snapshot(advisory()), now=NOW + timedelta(days=40))
    assert report.ok
    assert "2026-11-20" in report.warnings[0]


def test_records_the_snapshot_left_out_are_a_warning() -> None:
    """An import that skipped bad records says so in every audit."""
    report = audit.audit([lock("idna==3.7\n")], snapshot(advisory(), skipped=["bad.yaml"]), now=NOW)
    assert "bad.yaml" in report.warnings[0]


# ── waivers and scores ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_waiver_covers_one_advisory_of_one_package_by_any_of_its_names() -> None:
    """A waiver by alias makes the pin waived; the score is given with and without it."""
    report = run("idna==3.6\n", advisory(aliases=("CVE-2026-1",)), waivers=[waiver("cve-2026-1")])
    assert report.ok
    assert only(report).status == WAIVED
    assert (report.score(waived=False).worst, report.score(waived=True).worst) == (0.0, 7.5)


def test_an_expired_waiver_waives_nothing_and_is_told() -> None:
    """The day after it expires a waiver is only a warning; on the day itself it holds."""
    assert run("idna==3.6\n", advisory(), waivers=[waiver(expires=date(2026, 11, 21))]).ok
    report = run("idna==3.6\n", advisory(), waivers=[waiver(expires=date(2026, 11, 20))])
    assert not report.ok
    assert "expired on 2026-11-20" in report.warnings[0]


def test_a_waiver_of_one_advisory_leaves_the_others() -> None:
    """A second vulnerability of the same pin is not waived with the first."""
    report = run("idna==3.6\n", advisory("A-1"), advisory("A-2"), waivers=[waiver("A-1")])
    assert only(report).status == VULNERABLE


def test_a_waiver_that_meets_nothing_is_told() -> None:
    """A waiver nobody needs is a warning, so that it is removed."""
    assert "meets nothing" in run("idna==3.7\n", advisory(), waivers=[waiver()]).warnings[0]


def test_not_audited_can_be_waived_by_name() -> None:
    """A Git pin passes only with a waiver of `not-audited` for that package, and is told as waived."""
    line = "tokamind @ git+https://example.org/tokamind@" + "a" * 40 + "\n"
    report = run(line, waivers=[waiver(auditwaivers.NOT_AUDITED, "tokamind")])
    assert (report.ok, only(report).status) == (True, WAIVED)
    assert not run(line, waivers=[waiver("A-1", "tokamind")]).ok


def test_one_vulnerability_in_three_locks_counts_once_in_the_score() -> None:
    """The score is of vulnerabilities, not of rows."""
    locks = [lock("idna==3.6\n", name) for name in ("ecosystem", "candidate", "product")]
    report = audit.audit(locks, snapshot(advisory()), now=NOW)
    assert len(report.verdicts) == 3
    assert report.score(waived=False).total == 7.5


WAIVERS = """\
# other sections belong to other readers
rules: []
advisories:
  - advisory: PYSEC-2026-1
    package: IDNA
    reason: only trusted names
    owner: "@octocat"
    expires: 2026-12-31
"""


def test_waivers_are_read_with_their_line() -> None:
    """A complete waiver is read, its package normalised."""
    (held,), findings = auditwaivers.read(WAIVERS)
    assert findings == []
    assert (held.package, held.expires, held.line) == ("idna", date(2026, 12, 31), 4)


def test_the_lines_of_many_waivers_are_looked_up_in_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is read for positions once, not once a waiver: that took two minutes for a thousand."""
    readings: list[str] = []
    compose = documents._compose

    def counting(text: str) -> list[Any]:
        readings.append(text)
        return compose(text)

    monkeypatch.setattr(documents, "_compose", counting)
    entry = WAIVERS.partition("advisories:\n")[2]
    held, findings = auditwaivers.read("advisories:\n" + entry * 20)
    assert (len(held), findings, len(readings)) == (20, [], 1)
    assert len({waiver.line for waiver in held}) == 20


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("    owner: \"@octocat\"\n", ""), 4),
        (("2026-12-31", "next year"), 8),
        (("2026-12-31", "2026-02-30"), 8),
        (("    reason: only trusted names\n", "    reason: ''\n"), 6),
        (("    package: IDNA\n", "    package: IDNA\n    forever: yes\n"), 6),
        (("advisories:\n  - advisory: PYSEC-2026-1\n", "advisories:\n    advisory: PYSEC-2026-1\n"), 3),
        (("  - advisory: PYSEC-2026-1\n", "  - oops\n  - advisory: PYSEC-2026-1\n"), 4),
    ],
)  # fmt: skip
def test_an_incomplete_waiver_is_a_finding_and_waives_nothing(change: tuple[str, str], line: int) -> None:
    """Without reason, owner or a real day there is no waiver, and the finding names the line."""
    waivers, findings = auditwaivers.read(WAIVERS.replace(*change))
    assert [item.advisory for item in waivers] == (["PYSEC-2026-1"] if "oops" in change[1] else [])
    assert [finding.line for finding in findings] == [line]


BROKEN = (
    WAIVERS.replace("2026-12-31", "next year"),
    WAIVERS.replace("    reason: only trusted names\n", "").replace("IDNA", "no name at all"),
    WAIVERS.replace("advisories:", "advisories: many #"),
    "advisories: [1, {}, {advisory: x, advisory: y}]\n",
    "- a list\n",
    "advisories:\n\t- tab\n",
    "",
    "advisories:\n" + "  - {}\n" * 200 + "waivers:\n" + "  - {}\n" * 200,  # more than are listed
)


@pytest.mark.parametrize("text", BROKEN)
def test_validating_the_registry_finds_what_an_audit_finds(text: str) -> None:
    """The catalogue's check has the same findings about advisory waivers: code, message, file, line and column."""
    held = Files(contents={"waivers.yaml": text.encode()})
    checked = checks.check(catalogue.build(held), NOW.date()).findings
    known = {(one.code, one.message, one.file, one.line, one.column, one.hint) for one in checked}
    _, findings = auditwaivers.read(text)
    assert findings
    assert {(one.code, one.message, one.file, one.line, one.column, one.hint) for one in findings} <= known


# ── the report as data ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_verdict_names_the_snapshot_it_was_made_with() -> None:
    """Date and hash of the snapshot stand in each verdict and in each row."""
    report = run("idna==3.6\nrich==1.0\n", advisory())
    data = auditviews.summary(report)
    assert report.snapshot is not None
    assert {item["snapshot"]["id"] for item in data["verdicts"]} == {report.snapshot.id}
    assert all(row["snapshot"].startswith("2026-11-20") for row in auditviews.rows(report))
    assert data["counts"] == {"clean": 1, "vulnerable": 1, "waived": 0, "not-audited": 0}


def test_the_same_inputs_give_the_same_report() -> None:
    """A verdict can be computed again: equal lock, snapshot and day give equal data."""
    assert auditviews.summary(run("idna==3.6\n", advisory())) == auditviews.summary(run("idna==3.6\n", advisory()))


def test_sarif_has_a_result_a_problem_with_its_place_and_suppressions() -> None:
    """Vulnerable and unaudited pins are results at their line; waived ones carry the reason."""
    sarif = auditviews.sarif(run("# head\nidna==3.6\nrich>=1\n", advisory(), waivers=[waiver()]))
    first, second = sarif["runs"][0]["results"]
    assert first["locations"][0]["physicalLocation"]["region"]["startLine"] == 2
    assert "@octocat" in first["suppressions"][0]["justification"]
    assert (second["ruleId"], second["level"]) == ("not-audited", "error")
    assert sarif["runs"][0]["tool"]["driver"]["rules"][0]["properties"]["security-severity"] == "7.5"


def test_without_a_snapshot_the_table_says_it_once_a_lock() -> None:
    """A table of five hundred equal reasons helps nobody."""
    report = audit.audit([lock("idna==3.7\nrich==1.0\n")], None, now=NOW, missing="gone")
    assert [(row["package"], row["note"]) for row in auditviews.rows(report)] == [("all 2", "gone")]


def test_told_lines_name_counts_score_and_the_whole_hash() -> None:
    """People are told the full hash, so that the verdict can be reproduced."""
    report = run("idna==3.6\n", advisory())
    assert any(re.search(r"sha256:[0-9a-f]{64}$", line) for line in auditviews.lines(report))
