"""What the HTTP API and other slices show of variants, as plain dictionaries. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nexus.variants import graph
from nexus.variants.model import Asked, Declaration, Variant
from nexus.variants.pins import Pin
from nexus.variants.resolution import Committed


def variants(declaration: Declaration, committed: Committed) -> list[dict[str, Any]]:
    """Every declared variant: what it asks for, how many packages it pins, the engine it stands on."""
    return [_variant(declaration, variant, committed.of(variant.name)) for variant in declaration.variants.values()]


def _variant(declaration: Declaration, variant: Variant, held: Sequence[Pin]) -> dict[str, Any]:
    engine = declaration.rules.engine
    return {
        "name": variant.name,
        "requirements": [asked.text for asked in variant.requirements],
        "packages": len({pin.name for pin in held}),
        "engine": {"package": engine, "version": next((pin.shown for pin in held if pin.name == engine), None)},
        "targets": [{"python": target.python, "platform": target.platform} for target in declaration.rules.targets],
        "exclude_newer": declaration.rules.exclude_newer or None,
    }


def pins(variant: str, committed: Committed) -> list[dict[str, Any]]:
    """Every pin of one variant, with its hashes and what asked for it."""
    return [
        {
            "package": pin.name, "version": pin.version or None, "source": pin.url or None, "marker": pin.marker or None,
            "hashes": list(pin.hashes), "via": list(pin.via),
        }
        for pin in committed.of(variant)
    ]  # fmt: skip


def matrix(declaration: Declaration, committed: Committed, names: Sequence[str], *, members: bool = False) -> list[dict[str, Any]]:
    """One row a package: the version each of the variants pins, empty where it is absent."""
    asked = {one.name for name in names if name in declaration.variants for one in declaration.variants[name].requirements}
    by_variant = {name: _versions(committed.of(name)) for name in names}
    packages = sorted({package for held in by_variant.values() for package in held})
    return [
        {"package": package, **{name: by_variant[name].get(package, "") for name in names}}
        for package in packages if not members or package in asked
    ]  # fmt: skip


def _versions(held: Sequence[Pin]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pin in held:
        found[pin.name] = f"{found[pin.name]}, {pin.shown}" if pin.name in found else pin.shown
    return found


def changes(
    before: Mapping[str, Sequence[Pin]],
    after: Mapping[str, Sequence[Pin]],
    asked_before: Mapping[str, Sequence[Asked]],
    asked_after: Mapping[str, Sequence[Asked]],
) -> list[dict[str, Any]]:
    """What differs between two states of the pins, one row a variant and package, with its causes."""
    return [
        {"variant": name, "package": change.package, "change": change.kind, "before": change.before, "after": change.after,
         "because_of": list(change.causes)}
        for name in dict.fromkeys([*before, *after])
        for change in graph.compare(
            before.get(name, ()), after.get(name, ()), asked_before.get(name, ()), asked_after.get(name, ())
        )
    ]  # fmt: skip


def chains(package: str, names: Sequence[str], committed: Committed) -> tuple[list[dict[str, Any]], bool]:
    """Every chain that brings *package* into the variants, one row each, and whether that is all of them."""
    rows, complete = [], True
    for name in names:
        held = committed.of(name)
        version = ", ".join(pin.shown for pin in held if pin.name == package)
        found = graph.chains(held, package)
        complete = complete and found.complete
        rows += [{"variant": name, "version": version, "chain": " → ".join(chain.packages)} for chain in found.chains]
    return rows, complete
