"""What the command line and the HTTP API (`/algorithm/latest/registry/…`) show of the catalogue, as plain dictionaries. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nexus.catalog import owners as answering
from nexus.catalog import renderings, schema
from nexus.catalog.checks import Report
from nexus.catalog.snapshot import Model, Package, Snapshot


def packages(registry: Snapshot, report: Report | None = None) -> list[dict[str, Any]]:
    """A row a package."""
    return [package_row(registry, one, report) for one in registry.packages]


def package_row(registry: Snapshot, package: Package, report: Report | None = None) -> dict[str, Any]:
    """The package in a line: name, owners, variants, how many models and instances, errors and warnings."""
    row: dict[str, Any] = {
        "name": package.name,
        "folder": package.path,
        "owners": list(package.owners),
        "variants": list(registry.variants_of(package)),
        "models": len(package.models),
        "instances": sum(1 for _ in package.every_instance()),
        "skills": len(package.skills),
    }
    if report is not None:
        mine = [one for one in report.findings if one.file.startswith(f"{package.path}/")]
        row["errors"] = sum(one.severity == "error" for one in mine)
        row["warnings"] = len(mine) - row["errors"]
    return row


def package(registry: Snapshot, one: Package, report: Report | None = None) -> dict[str, Any]:
    """Everything the tree says about a package."""
    manifest = one.manifest
    registrations = [
        {"requirement": entry.requirement, "experiments": [experiment.name for experiment in entry.experiments]}
        for entry in (manifest.registrations if manifest is not None else ())
    ]
    return {
        "name": one.name,
        "folder": one.path,
        "owners": list(one.owners),
        "variants": list(registry.variants_of(one)),
        "requirements": {variant: text for variant in registry.project.members if (text := _requirement(registry, variant, one))},
        "docs": (manifest.docs if manifest is not None else "") or None,
        "models": [model(registry, one, entry) for entry in one.models],
        "skills": [entry.name for entry in one.skills],
        "benchmark_packages": registrations,
        "benchmark_instances": [entry.path for entry in one.instances],
        **({"findings": findings(report, one.path), "waived": waived(report, one.path)} if report is not None else {}),
    }


def models(registry: Snapshot) -> list[dict[str, Any]]:
    """A row a model."""
    return [model(registry, package, one) for package, one in registry.models()]


def model(registry: Snapshot, package: Package, one: Model) -> dict[str, Any]:
    """Everything the tree says about a model."""
    manifest = one.manifest
    return {
        "id": one.id,
        "package": package.name,
        "folder": one.path,
        "owners": list(package.owners_of(one)),
        "variants": list(registry.variants_of(package)),
        "vllm": bool(manifest is not None and manifest.vllm is not None),
        "tested": bool(manifest is not None and manifest.testing),
        "usage": one.usage is not None,
        "benchmark_instances": [instance.path for instance in one.instances],
    }


def owners(registry: Snapshot) -> list[dict[str, Any]]:
    """A row an owner; ``models`` are those it owns itself, ``default_models`` those it has as owner of the package."""
    return [
        {
            "owner": one.handle,
            "packages": list(one.packages),
            "models": list(one.models),
            "default_models": list(one.default_models),
        }
        for one in answering.owners(registry)
    ]


def findings(report: Report, folder: str = "") -> list[dict[str, Any]]:
    """Every finding that counts, of the whole registry or of one folder."""
    return [
        renderings.record(one) for one in report.findings if not folder or one.file == folder or one.file.startswith(f"{folder}/")
    ]


def waived(report: Report, folder: str) -> list[dict[str, Any]]:
    """The findings of one folder that are waived, with their waivers."""
    return [
        renderings.waived(one) for one in report.waived if one.finding.file == folder or one.finding.file.startswith(f"{folder}/")
    ]


def supported(registry: Snapshot, report: Report, variant: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The models of a variant that are supported, and those left out with the reasons.

    A model is supported when its package is in the variant and neither it nor its package has an error that counts.
    """
    kept, left_out = [], []
    for package_, one in registry.models():
        if variant not in registry.variants_of(package_):
            continue
        row = {"id": one.shown, "package": package_.name, "owners": list(package_.owners_of(one)), "variant": variant}
        reasons = _errors(report, package_, one)
        if reasons:
            left_out.append({**row, "reasons": reasons})
        else:
            kept.append(row)
    return kept, left_out


def _errors(report: Report, package_: Package, one: Model) -> list[str]:
    others = tuple(f"{entry.path}/" for entry in package_.models if entry is not one)
    return [
        f"{entry.code} {entry.message}"
        for entry in report.findings
        if entry.severity == "error" and entry.file.startswith(f"{package_.path}/") and not entry.file.startswith(others or ("\0",))
    ]


def benchmark_experiments(registry: Snapshot, only: Sequence[Package] | None = None) -> list[dict[str, Any]]:
    """A row an experiment that is registered."""
    return [
        {
            "experiment": experiment.name,
            "actuator": experiment.actuator or None,
            "requirement": registration.requirement,
            "package": one.name,
        }
        for one in (only if only is not None else registry.packages)
        if one.manifest is not None
        for registration in one.manifest.registrations
        for experiment in registration.experiments
    ]


def benchmark_packages(registry: Snapshot, only: Sequence[Package] | None = None) -> list[dict[str, Any]]:
    """A row a benchmark package, with the packages that register it."""
    rows: dict[str, dict[str, Any]] = {}
    for row in benchmark_experiments(registry, only):
        entry = rows.setdefault(row["requirement"], {"requirement": row["requirement"], "packages": [], "experiments": []})
        for key, value in (("packages", row["package"]), ("experiments", row["experiment"])):
            if value not in entry[key]:
                entry[key].append(value)
    return [rows[key] for key in sorted(rows)]


def variants(registry: Snapshot) -> list[str]:
    """The variants the registry declares; the three usual ones where it declares none."""
    return list(registry.project.members) or list(schema.VARIANTS)


def _requirement(registry: Snapshot, variant: str, one: Package) -> str:
    from nexus.catalog.formats import normalise

    return registry.project.members[variant].get(normalise(one.name), "")
