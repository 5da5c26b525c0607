"""What one snapshot has that another has not: what a pull request changes, in the words of the registry. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nexus.catalog import owners
from nexus.catalog.files import Files
from nexus.catalog.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Change:
    """``what`` is package, model, owner, instance or benchmark; ``change`` is added, removed or changed."""

    what: str
    name: str
    change: str
    detail: str = ""


def changed_paths(before: Files, after: Files) -> frozenset[str]:
    """Paths whose content or being there differs, as far as contents were read."""
    paths = {path for path in {*before.contents, *after.contents} if before.contents.get(path) != after.contents.get(path)}
    return frozenset(paths | (before.others ^ after.others))


def compare(before: Snapshot, after: Snapshot, changed: frozenset[str] | None = None) -> list[Change]:
    """Every change from *before* to *after*. *changed* names the paths whose content differs, where an adapter knows them all."""
    paths = changed if changed is not None else changed_paths(before.files, after.files)
    return [
        *_compare("package", _packages(before), _packages(after), paths),
        *_compare("model", _models(before), _models(after), paths),
        *_compare("instance", _instances(before), _instances(after), paths),
        *_compare("benchmark", _benchmarks(before), _benchmarks(after), paths),
        *_owners(before, after),
    ]


def _compare(what: str, before: Mapping[str, str], after: Mapping[str, str], paths: frozenset[str]) -> Iterator[Change]:
    """Names with the folder (or file) each stands in."""
    for name in sorted({*before, *after}):
        if name not in before:
            yield Change(what, name, "added", after[name])
        elif name not in after:
            yield Change(what, name, "removed", before[name])
        else:
            touched = sorted(path for path in paths if _inside(path, after[name], what))
            if before[name] != after[name]:
                yield Change(what, name, "changed", f"moved from {before[name]} to {after[name]}")
            elif touched:
                yield Change(what, name, "changed", ", ".join(touched[:5]) + (" …" if len(touched) > 5 else ""))


def _inside(path: str, place: str, what: str) -> bool:
    """Whether a path belongs to the thing itself: models and instances count for themselves, not for what holds them."""
    if path == place:
        return True
    if not path.startswith(f"{place}/"):
        return False
    rest = path[len(place) + 1 :]
    if what == "package":
        return not rest.startswith(("models/", "benchmark_instances/"))
    return what != "model" or not rest.startswith("benchmark_instances/")


def _packages(registry: Snapshot) -> dict[str, str]:
    return {package.name: package.path for package in registry.packages}


def _models(registry: Snapshot) -> dict[str, str]:
    return {model.shown: model.path for _, model in registry.models()}


def _instances(registry: Snapshot) -> dict[str, str]:
    return {instance.path: instance.path for package in registry.packages for instance in package.every_instance()}


def _benchmarks(registry: Snapshot) -> dict[str, str]:
    return {benchmark.id or benchmark.file: benchmark.file for benchmark in registry.benchmarks}


def _owners(before: Snapshot, after: Snapshot) -> Iterator[Change]:
    old = {owner.handle.lower(): owner for owner in owners.owners(before)}
    new = {owner.handle.lower(): owner for owner in owners.owners(after)}
    for key in sorted({*old, *new}):
        if key not in old:
            yield Change("owner", new[key].handle, "added", _answers_for(new[key]))
        elif key not in new:
            yield Change("owner", old[key].handle, "removed", _answers_for(old[key]))
        else:
            held, holds = _holdings(old[key]), _holdings(new[key])
            if held != holds:
                parts = [f"+ {name}" for name in sorted(holds - held)] + [f"- {name}" for name in sorted(held - holds)]
                yield Change("owner", new[key].handle, "changed", ", ".join(parts))


def _holdings(owner: owners.Owner) -> set[str]:
    return {*owner.packages, *owner.models, *owner.default_models}


def _answers_for(owner: owners.Owner) -> str:
    return ", ".join(sorted(_holdings(owner)))
