"""Releases that a resolution passed over because they have only source archives, and builds are not allowed.

Without a word such a package would stand on another version than its declaration seems to give. `nexus variants resolve` and
`check` ask :func:`passed_over` for each variant and print its findings. Asked of the resolver without dependencies, which
reads no metadata and builds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from packaging.version import Version

from nexus.kernel.documents import Finding
from nexus.variants import pins, resolution
from nexus.variants import proof as proofs
from nexus.variants.model import FILE, Declaration, Variant
from nexus.variants.pins import Pin
from nexus.variants.ports import Resolution, Resolver, Unsatisfiable

ALLOW = "a build runs the package's code: allow it with `--build`, or `build = true` in `[tool.nexus]`"
_MAX_ASKED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class PassedOver:
    """A release of a package that has only source archives, and the version taken instead."""

    package: str
    version: str
    taken: str


def passed_over(
    declaration: Declaration, variant: Variant, found: Sequence[Pin], resolver: Resolver, *,
    held: Sequence[Pin] = (), upgrade: Sequence[str] | None = (), root: str = "",
) -> tuple[PassedOver, ...]:  # fmt: skip
    """What *found*, an answer for the variant, passed over: the newest releases, and versions of the pins *held* before.

    A package that kept its pin passed over nothing, unless it was to be renewed (*upgrade*; None: all were). Empty where builds
    are allowed. Raises ResolverUnavailable.
    """
    if declaration.rules.build:
        return ()
    taken = _versions(found)
    before = _versions(held)
    kept = {name for name, version in before.items() if upgrade is not None and name not in upgrade and taken.get(name) == version}

    def newest(names: Iterable[str], *, build: bool) -> dict[str, Version]:
        asked = [text for name in sorted(names) for text in ([one.text for one in variant.of(name)] or [name])]
        question = replace(resolution.question(declaration, asked, root=root), dependencies=False, build=build)
        answer = resolver.resolve(question) if asked else Resolution(pins=())
        return _versions(answer.pins) if isinstance(answer, Resolution) else {}

    missed = {name: version for name, version in newest(taken.keys() - kept, build=True).items() if version > taken[name]}
    wheels = newest(missed, build=False)
    gone = [(name, version) for name, version in before.items() if name in taken and version > taken[name]]
    for name, version in gone[:_MAX_ASKED]:
        question = replace(resolution.question(declaration, [f"{name}=={version}"], root=root), dependencies=False)
        answer = resolver.resolve(question)
        if isinstance(answer, Unsatisfiable) and needs_build(answer.proof):
            missed[name], wheels[name] = version, taken[name]
    return tuple(
        PassedOver(package=name, version=str(version), taken=str(taken[name]))
        for name, version in sorted(missed.items()) if wheels.get(name) == taken[name]
    )  # fmt: skip


def findings(variant: Variant, passed: Iterable[PassedOver], held: Sequence[Pin]) -> list[Finding]:
    """A warning for each, where the package is pinned, else where it is asked for."""
    found = []
    for one in passed:
        line = next((pin.line_number for pin in held if pin.name == one.package), 0)
        asked = next(iter(variant.of(one.package)), None)
        place = (pins.file_of(variant.name), line) if line else (FILE, asked.line if asked is not None else variant.line)
        message = f"`{one.package}` {one.version} has only source archives and was not looked at: `{variant.name}` gets {one.taken}"
        found.append(Finding(code="NX-V27", file=place[0], line=place[1], message=message, hint=ALLOW, severity="warning"))
    return found


def needs_build(proof: str) -> bool:
    """Whether the resolver's proof rests on releases that have no wheel."""
    return bool(proofs.without_wheels(proof)) or "no usable wheels" in proof


def _versions(found: Iterable[Pin]) -> dict[str, Version]:
    """The highest version of each package that comes from an index."""
    versions: dict[str, Version] = {}
    for pin in found:
        if pin.version and not pin.url:
            version = Version(pin.version)
            versions[pin.name] = max(version, versions.get(pin.name, version))
    return versions
