"""How a package stands to the engine (vllm by default), derived from its real metadata, and where it may therefore stand.

*ecosystem-only* never names the engine; *engine-dependent* needs it always; *engine-agnostic* brings it with an extra. Source of
the rules: the reference's dependency-resolution design, sections 4.1 to 4.3. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nexus.kernel.documents import Finding
from nexus.variants.model import FILE, WITH_ENGINE, Asked, Declaration, Variant
from nexus.variants.ports import Metadata, Target

_SYSTEMS = {  # sys_platform, platform_system, os_name
    "linux": ("linux", "Linux", "posix"),
    "macos": ("darwin", "Darwin", "posix"),
    "windows": ("win32", "Windows", "nt"),
}


class PackageClass(StrEnum):
    """How a package declares the engine."""

    ECOSYSTEM_ONLY = "ecosystem-only"
    DEPENDENT = "engine-dependent"
    AGNOSTIC = "engine-agnostic"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """The class of one package, and the extras that bring the engine."""

    package: str
    version: str
    kind: PackageClass
    extras: tuple[str, ...] = ()


def classify(metadata: Metadata, engine: str, targets: Sequence[Target]) -> Standing:
    """The standing of a release: an engine that is needed on any target counts as needed."""
    requirements = [one for text in metadata.requires_dist if (one := _requirement(text)) is not None]
    environments = [_environment(target) for target in targets] or [_environment(Target(python="3.12", platform="linux"))]
    if _brings(metadata.name, requirements, engine, "", environments, frozenset()):
        return Standing(package=metadata.name, version=metadata.version, kind=PackageClass.DEPENDENT)
    extras = tuple(
        extra for extra in sorted({canonicalize_name(extra) for extra in metadata.extras})
        if _brings(metadata.name, requirements, engine, extra, environments, frozenset())
    )  # fmt: skip
    kind = PackageClass.AGNOSTIC if extras else PackageClass.ECOSYSTEM_ONLY
    return Standing(package=metadata.name, version=metadata.version, kind=kind, extras=extras)


def _brings(
    package: str,
    requirements: Sequence[Requirement],
    engine: str,
    extra: str,
    environments: Sequence[dict[str, str]],
    seen: frozenset[str],
) -> bool:
    """Whether the package with *extra* asks for the engine; an extra may name another extra of the same package."""
    for requirement in requirements:
        if requirement.marker is not None and not any(requirement.marker.evaluate({**env, "extra": extra}) for env in environments):
            continue
        name = canonicalize_name(requirement.name)
        if name == engine:
            return True
        others = {canonicalize_name(other) for other in requirement.extras} - seen - {extra} if name == package else set()
        if any(_brings(package, requirements, engine, other, environments, seen | {extra}) for other in others):
            return True
    return False


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:  # old releases carry what was never valid; such a line cannot be installed either
        return None


def _environment(target: Target) -> dict[str, str]:
    platform = target.platform
    system = _SYSTEMS["windows" if "windows" in platform else "macos" if re.search("macos|apple", platform) else "linux"]
    machine = "aarch64" if "aarch64" in platform else "x86_64"
    return {
        "python_version": target.python, "python_full_version": f"{target.python}.0", "sys_platform": system[0],
        "platform_system": system[1], "os_name": system[2], "platform_machine": machine,
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip


def check(declaration: Declaration, variant: Variant, standings: Iterable[Standing]) -> tuple[Finding, ...]:
    """Every wrong association of a member with this variant, at the line to change."""
    by_name = {standing.package: standing for standing in standings}
    engine = declaration.rules.engine
    findings: list[Finding] = []
    for asked in variant.requirements:
        standing = by_name.get(asked.name)
        if standing is not None and asked.name != engine:
            findings += _wrong(asked, standing, variant.name, engine)
    return tuple(findings)


def _wrong(asked: Asked, standing: Standing, variant: str, engine: str) -> list[Finding]:
    enabled = sorted(asked.extras & set(standing.extras))
    what = f"`{standing.package}` {standing.version}"
    if variant in WITH_ENGINE:
        if standing.kind is PackageClass.ECOSYSTEM_ONLY:
            message = f"{what} never asks for `{engine}` (ecosystem-only), so it does not belong in `{variant}`"
            return [_finding("NX-V10", asked, message, f"remove `{asked.text}` from `{variant}`; keep it in `ecosystem`")]
        if standing.kind is PackageClass.AGNOSTIC and not enabled:
            message = f"{what} asks for `{engine}` only with an extra, and `{variant}` names none"
            return [_finding("NX-V11", asked, message, f"write `{asked.rewritten(extras={*asked.extras, standing.extras[0]})}`")]
        return []
    if standing.kind is PackageClass.DEPENDENT:
        message = f"{what} always needs `{engine}` (engine-dependent), which `{variant}` must not contain"
        return [_finding("NX-V12", asked, message, f"move `{asked.text}` to `candidate` or `product`")]
    if enabled:
        message = f"{what} brings `{engine}` with the extra `{enabled[0]}`, which `{variant}` must not contain"
        return [_finding("NX-V12", asked, message, f"write `{asked.rewritten(extras=asked.extras - set(enabled))}`")]
    return []


def _finding(code: str, asked: Asked, message: str, hint: str) -> Finding:
    return Finding(code=code, file=FILE, line=asked.line, column=asked.column, message=message, hint=hint)
