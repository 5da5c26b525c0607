"""An audit report as a CycloneDX bill of materials with VEX statements.

Made with the maintained library of the format (`cyclonedx-python-lib`, extra ``audit``), imported only here. The same report
gives the same document: serial number and time come from it. What a verdict means in VEX terms is :func:`_statement`.

Source: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/ (component, vulnerability, impact analysis).
"""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nexus.kernel.errors import SbomUnavailable
from nexus.variants.audit import MARKER, UNKNOWN, WITHDRAWN, Issue, PinVerdict, Report
from nexus.variants.severity import Severity

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.vulnerability import Vulnerability, VulnerabilityAnalysis, VulnerabilityRating

_NAMESPACE = uuid.UUID("5f3f3a0e-9d0b-5a43-8a3c-0f6a1f1d7b52")
_OSV = "https://osv.dev/vulnerability/"


def document(report: Report, *, name: str) -> str:
    """The report as CycloneDX 1.6 JSON. Raises SbomUnavailable when the extra ``audit`` is not installed."""
    try:
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError as error:
        raise SbomUnavailable(
            "CycloneDX needs a library that is not installed", hint="pip install 'algorithm-nexus[audit]'"
        ) from error
    return str(JsonV1Dot6(_bom(report, name)).output_as_string(indent=2)) + "\n"


def _bom(report: Report, name: str) -> Bom:
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.dependency import Dependency

    bom = Bom()
    seed = "|".join(
        [
            name,
            report.audited_at.isoformat(),
            report.snapshot.id if report.snapshot else "",
            *(_reference(item) for item in report.verdicts),
        ]
    )
    bom.serial_number = uuid.uuid5(_NAMESPACE, seed)
    bom.metadata.timestamp = report.audited_at
    root = Component(name=name, type=ComponentType.APPLICATION, bom_ref=f"root:{name}")
    bom.metadata.component = root
    if report.snapshot is not None:
        bom.metadata.properties.update([
            Property(name="nexus:advisories:date", value=report.snapshot.manifest.date),
            Property(name="nexus:advisories:sha256", value=report.snapshot.id),
        ])  # fmt: skip
    grouped: dict[str, list[PinVerdict]] = {}
    for item in report.verdicts:
        grouped.setdefault(_reference(item), []).append(item)
    components = {reference: _component(reference, items) for reference, items in grouped.items()}
    bom.components.update(components.values())
    leaves = [Dependency(component.bom_ref) for component in components.values()]  # `register_dependency` is quadratic
    bom.dependencies.update([Dependency(root.bom_ref, dependencies=leaves), *leaves])
    for vulnerability in _vulnerabilities(grouped):
        bom.vulnerabilities.add(vulnerability)
    return bom


def _reference(item: PinVerdict) -> str:
    if item.name == "?":
        return f"{item.file}:{item.line}" if item.file else f"lock:{item.lock}"
    return f"pkg:pypi/{item.name}" + (
        f"@{item.version}" if item.version else f"?reference={item.reference}" if item.reference else ""
    )


def _component(reference: str, items: list[PinVerdict]) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    first = items[0]
    properties = [Property(name="nexus:lock", value=lock) for lock in sorted({item.lock for item in items})]
    properties += [Property(name="nexus:marker", value=marker) for marker in sorted({item.marker for item in items if item.marker})]
    properties += [Property(name="nexus:audit", value=status) for status in sorted({item.status for item in items})]
    properties += [
        Property(name="nexus:not-audited", value=reason)
        for reason in sorted({item.reason for item in items if item.status == UNKNOWN})
    ]
    known = first.name != "?"
    return Component(
        name=first.name if known else reference if first.file else f"lock of {first.lock}",
        version=first.version or None,
        type=ComponentType.LIBRARY,
        bom_ref=reference,
        purl=PackageURL("pypi", name=first.name, version=first.version or None) if known else None,
        properties=properties,
    )


def _vulnerabilities(grouped: dict[str, list[PinVerdict]]) -> list[Vulnerability]:
    """One entry a vulnerability and statement: pins with the same verdict share it."""
    from cyclonedx.model import XsUri
    from cyclonedx.model.vulnerability import (
        BomTarget,
        Vulnerability,
        VulnerabilityAdvisory,
        VulnerabilityReference,
        VulnerabilitySource,
    )

    entries: dict[tuple[str, str, str], tuple[Issue, PinVerdict, list[str]]] = {}
    for reference, items in grouped.items():
        for item in items:
            for issue in item.issues:
                key = (issue.id, issue.verdict + str(issue.waiver), item.upgrade_to)
                targets = entries.setdefault(key, (issue, item, []))[2]
                if reference not in targets:
                    targets.append(reference)
    made = []
    for number, (issue, item, targets) in enumerate(entries.values(), start=1):
        made.append(
            Vulnerability(
                bom_ref=f"vulnerability:{number}:{issue.id}",
                id=issue.id,
                source=VulnerabilitySource(name="OSV", url=XsUri(_OSV + issue.id)),
                references=[
                    VulnerabilityReference(id=alias, source=VulnerabilitySource(name="OSV", url=XsUri(_OSV + alias)))
                    for alias in issue.aliases
                ],
                ratings=[_rating(issue.severity)],
                description=issue.summary or None,
                recommendation=_recommendation(issue, item),
                advisories=[VulnerabilityAdvisory(url=XsUri(issue.url))] if issue.url else None,
                analysis=_statement(issue),
                affects=[BomTarget(ref=target) for target in targets],
            )
        )
    return made


def _rating(severity: Severity) -> VulnerabilityRating:
    from cyclonedx.model.vulnerability import VulnerabilityRating, VulnerabilityScoreSource, VulnerabilitySeverity

    version_2 = "/Au:" in severity.vector  # the vectors of CVSS 2 name no standard, and the library takes them for another
    found = VulnerabilityScoreSource.CVSS_V2 if version_2 else VulnerabilityScoreSource.get_from_vector(severity.vector)
    method = found if severity.vector else None
    return VulnerabilityRating(
        score=Decimal(str(severity.score)) if severity.score is not None else None,
        severity=VulnerabilitySeverity(severity.level),
        method=method,
        vector=severity.vector or None,
    )


def _recommendation(issue: Issue, item: PinVerdict) -> str | None:
    if not issue.counts:
        return None
    if item.upgrade_to:
        return f"Upgrade {item.name} to {item.upgrade_to} or later."
    return f"Upgrade {item.name} to {' or '.join(issue.fixed_in)}." if issue.fixed_in else None


def _statement(issue: Issue) -> VulnerabilityAnalysis:
    """What the verdict says in VEX terms. An open vulnerability is `in_triage`: nobody claimed that it can be exploited."""
    from cyclonedx.model.impact_analysis import ImpactAnalysisJustification as Why
    from cyclonedx.model.impact_analysis import ImpactAnalysisResponse as Response
    from cyclonedx.model.impact_analysis import ImpactAnalysisState as State
    from cyclonedx.model.vulnerability import VulnerabilityAnalysis

    said: dict[str, Any]
    if issue.verdict == WITHDRAWN:
        said = {"state": State.FALSE_POSITIVE, "detail": f"The advisory was withdrawn on {issue.withdrawn[:10]}."}
    elif issue.verdict == MARKER:
        said = {
            "state": State.NOT_AFFECTED, "justification": Why.REQUIRES_ENVIRONMENT,
            "detail": "The pin's marker is false on every target: it is not installed.",
        }  # fmt: skip
    elif issue.waiver is not None:
        waiver = issue.waiver
        said = {
            "state": State.EXPLOITABLE, "responses": [Response.WILL_NOT_FIX],
            "detail": f"Accepted until {waiver.expires} by {waiver.owner}: {waiver.reason}",
        }  # fmt: skip
    else:
        said = {"state": State.IN_TRIAGE, "responses": [Response.UPDATE] if issue.fixed_in else []}
    return VulnerabilityAnalysis(**said)
