"""``nexus show package``: what the tree, the locks and the last advisory snapshot say about one package. Data on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli import output, registry

if TYPE_CHECKING:
    from nexus.variants.pins import Pin


@click.group(name="show")
def show() -> None:
    """Everything about one thing of a registry.

    Example: nexus show package networkx
    """


@show.command()
@click.argument("name")
@registry.root_argument
@click.option("--advisories", type=click.Path(path_type=Path), help="The advisory snapshot.  [default: the registry's own]")
@output.output_option("table", "json", "yaml")
def package(name: str, root: Path, advisories: Path | None, fmt: str) -> None:
    """Everything about a package: owners, models, variants, pins, findings, audit. Asks nobody on the network.

    Example: nexus show package networkx -o json
    """
    from nexus.catalog import checks, views

    place, found = registry.load(root)
    one = registry.find_package(found, name)
    record = views.package(found, one, checks.check(found, registry.today()))
    record["pins"] = _pins(place, one.name, list(found.project.members))
    unlocked = [variant for variant in record["requirements"] if variant not in {pin["variant"] for pin in record["pins"]}]
    record["audit"] = [
        *_audit(place, one.name, record["pins"], advisories),
        *(_not_audited(variant, one.name) for variant in unlocked),
    ]
    if fmt == "table":
        sys.stdout.write(_page(record))
    else:
        output.emit_one(record, fmt)


def _pins(root: Path, name: str, variants: Sequence[str]) -> list[dict[str, Any]]:
    """For each variant the package is locked in: its version, and every package that a chain from it brings."""
    from nexus.adapters import history
    from nexus.catalog.formats import normalise
    from nexus.variants import resolution

    committed = resolution.read_committed(history.read_texts(root, resolution.files_of(variants)), variants)
    rows = []
    for variant in variants:
        held = committed.of(variant)
        versions = list(dict.fromkeys(pin.shown for pin in held if pin.name == normalise(name)))
        if versions:
            rows.append({"variant": variant, "version": ", ".join(versions), "brings": _brought(held, normalise(name))})
    return rows


def _brought(held: Sequence[Pin], name: str) -> list[str]:
    reached, waiting = {name}, [name]
    while waiting:
        asking = waiting.pop()
        for pin in held:
            if asking in pin.via and pin.name not in reached:
                reached.add(pin.name)
                waiting.append(pin.name)
    return sorted(reached - {name})


def _audit(root: Path, name: str, pins: Sequence[dict[str, Any]], advisories: Path | None) -> list[dict[str, Any]]:
    """The verdict on the package and on all it brings, in each variant it is locked in."""
    from nexus.adapters import auditfiles
    from nexus.catalog.formats import normalise
    from nexus.kernel.clock import SystemClock
    from nexus.variants import auditviews

    wanted = {pin["variant"]: {normalise(name), *pin["brings"]} for pin in pins}
    if not wanted:
        return []
    report = auditfiles.read(root, list(wanted), (), advisories).report(SystemClock().now())
    return [auditviews.verdict(item, report.snapshot) for item in report.verdicts if item.name in wanted.get(item.lock, ())]


def _not_audited(variant: str, name: str) -> dict[str, Any]:
    reason = "the variant's lock does not pin it"
    return {"lock": variant, "package": name, "version": None, "status": "not-audited", "reason": reason, "issues": []}


def _page(record: dict[str, Any]) -> str:
    """The record for people: a block of fields, then a table for each part that has rows."""
    fields = {"name": record["name"], "folder": record["folder"], "owners": record["owners"], "docs": record["docs"]}
    fields |= {"skills": record["skills"], "benchmark instances": record["benchmark_instances"]}
    width = max(map(len, fields))
    text = "".join(f"{key.ljust(width)}  {_cell(value)}\n" for key, value in fields.items() if value)
    pins = {pin["variant"]: pin for pin in record["pins"]}
    variants = [
        {"variant": name, "requirement": asked, "locked": pins.get(name, {}).get("version", "not locked"),
         "brings": pins.get(name, {}).get("brings", [])}
        for name, asked in record["requirements"].items()
    ]  # fmt: skip
    audit = [
        {"variant": row["lock"], "package": row["package"], "version": row["version"], "status": row["status"],
         "advisories": [issue["id"] for issue in row["issues"]], "reason": row.get("reason", "")}
        for row in record["audit"]
    ]  # fmt: skip
    parts = [
        ("Variants", variants, ["variant", "requirement", "locked", "brings"]),
        ("Models", record["models"], ["id", "owners", "vllm", "tested", "usage"]),
        ("Benchmark packages", record["benchmark_packages"], ["requirement", "experiments"]),
        ("Findings", record["findings"], ["severity", "code", "file", "line", "message"]),
        ("Waived", [{**row, **row["waiver"]} for row in record["waived"]], ["code", "file", "owner", "reason", "expires"]),
        ("Audit", audit, ["variant", "package", "version", "status", "advisories", "reason"]),
    ]
    return text + "".join(f"\n{title}\n{output.render(rows, 'table', columns)}" for title, rows, columns in parts if rows)


def _cell(value: Any) -> str:
    from nexus.kernel.documents import printable

    return printable(", ".join(value) if isinstance(value, list) else str(value))
