"""Everything `nexus variants check` asks of a registry's variants, each answer a finding with file and line.

An index or a tool that cannot be asked is a finding too (NX-V40): what could not be checked never passes. The pure checks take
values; :func:`check` runs them all, with the resolver where one is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from packaging.version import Version

from nexus.kernel.documents import Finding
from nexus.kernel.errors import MetadataUnavailable, NexusError
from nexus.variants import archives, classes, graph, pins, resolution, rules
from nexus.variants.model import FILE, WITH_ENGINE, Asked, Declaration, Variant
from nexus.variants.pins import Pin
from nexus.variants.ports import Locker, PackageMetadata, Resolver, Unsatisfiable
from nexus.variants.resolution import Committed

_INSTALL_HINT = "pin versions that have wheels for this target, or change the targets in `[tool.nexus]`"
_SHOWN = 12  # lines of a difference within one finding; `nexus variants diff` shows them all


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The ports a check uses."""

    resolver: Resolver
    locker: Locker
    metadata: PackageMetadata


def check(
    declaration: Declaration, variants: Sequence[Variant], committed: Committed, tools: Tools, *,
    root: str = "", members: frozenset[str] | None = None, progress: resolution.Progress | None = None,
) -> tuple[Finding, ...]:  # fmt: skip
    """Every finding of these variants. *members* are the registry's packages (None: everything a variant asks for)."""
    steps: dict[str, Callable[[], Iterable[Finding]]] = {
        "pins are fresh": partial(check_fresh, declaration, variants, committed, tools, root=root),
        "candidate is on the latest release": partial(check_candidate, declaration, variants, committed, tools.resolver),
    }
    for variant in variants:
        steps[f"classes of {variant.name}"] = partial(check_classes, declaration, variant, committed, tools.metadata, members)
        steps[f"{variant.name} installs"] = partial(check_install, declaration, variant, committed, tools.resolver)
    findings = [*declaration.findings, *committed.findings]
    for variant in variants:
        findings += check_files(variant, committed)
        findings += check_engine(declaration, variant, committed.of(variant.name))
    with ThreadPoolExecutor(resolution.WORKERS) as pool:
        for done, (label, found) in enumerate(zip(steps, pool.map(_guarded, steps.values()), strict=True), start=1):
            findings += found
            if progress is not None:
                progress(f"{done} of {len(steps)}: {label}")
    return weigh(findings, declaration)


def _guarded(step: Callable[[], Iterable[Finding]]) -> tuple[Finding, ...]:
    try:
        return tuple(step())
    except NexusError as error:
        return (unchecked(error),)


def unchecked(error: NexusError, file: str = FILE, line: int = 0) -> Finding:
    """What could not be checked, as a finding: never a pass."""
    return Finding(code="NX-V40", file=file, line=line, message=f"could not check: {error.message}", hint=error.hint)


def weigh(findings: Iterable[Finding], declaration: Declaration) -> tuple[Finding, ...]:
    """The findings once each, with the registry's own severities (`off` drops one), by file and line."""
    kept = rules.graded(findings, declaration.rules.severities)
    return tuple(sorted(kept, key=lambda one: (one.file, one.line, one.column, one.code)))


def check_files(variant: Variant, committed: Committed) -> list[Finding]:
    """The variant's file is there."""
    path = pins.file_of(variant.name)
    if path in committed.texts:
        return []
    message = f"`{variant.name}` has no committed pins"
    return [Finding(code="NX-V21", file=path, message=message, hint=f"write them with `nexus variants resolve {variant.name}`")]


def check_fresh(
    declaration: Declaration, variants: Sequence[Variant], committed: Committed, tools: Tools, *, root: str
) -> list[Finding]:
    """The committed pins are what the declaration gives today: by the registry's lock, else with the pins as preferences."""
    if committed.locked:
        return _check_lock(declaration, variants, committed, tools, root)
    answers = resolution.resolve(declaration, variants, tools.resolver, committed, root=root)
    findings: list[Finding] = []
    for variant in variants:
        answer = answers[variant.name]
        if isinstance(answer, Unsatisfiable):
            message = f"`{variant.name}` does not resolve: {answer.proof.splitlines()[0]}"
            hint = archives.ALLOW if archives.needs_build(answer.proof) else f"see `nexus variants explain {variant.name}`"
            findings.append(Finding(code="NX-V25", file=FILE, line=variant.line, message=message, hint=hint))
        else:
            findings += _differences(variant, answer.pins, committed, "the declaration")
            findings += _passed_over(declaration, variant, answer.pins, committed, tools.resolver, root)
    return findings


def _check_lock(
    declaration: Declaration, variants: Sequence[Variant], committed: Committed, tools: Tools, root: str
) -> list[Finding]:
    findings: list[Finding] = []
    if declaration.rules.exclude_newer and "exclude-newer" not in declaration.uv:
        message = "`[tool.nexus] exclude-newer` does not reach `uv.lock`, which this registry keeps"
        findings.append(Finding(code="NX-V05", file=FILE, message=message, hint="write it in `[tool.uv]`"))
    if stale := tools.locker.is_fresh(root):
        message = f"the lock does not answer {FILE}: {stale}"
        findings.append(
            Finding(code="NX-V23", file=resolution.LOCK, message=message, hint="renew it with `nexus variants resolve`")
        )
    for variant in variants:
        exported = tools.locker.export(root, variant.name, committed.texts[resolution.LOCK])
        findings += _differences(variant, exported, committed, resolution.LOCK)
        findings += _passed_over(declaration, variant, exported, committed, tools.resolver, root)
    return findings


def _passed_over(
    declaration: Declaration, variant: Variant, found: Sequence[Pin], committed: Committed, resolver: Resolver, root: str
) -> list[Finding]:
    held = committed.of(variant.name)
    return archives.findings(variant, archives.passed_over(declaration, variant, found, resolver, held=held, root=root), held)


def _differences(variant: Variant, expected: Sequence[Pin], committed: Committed, source: str) -> list[Finding]:
    path = pins.file_of(variant.name)
    lines = pins.compare(expected, committed.of(variant.name))
    if not lines or path not in committed.texts:
        return []
    more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    message = f"the pins differ from what {source} gives:\n" + "\n".join(f"    {line}" for line in [*lines[:_SHOWN], *more])
    names = {line[2:].split("==")[0].split(" ")[0] for line in lines}
    first = next((pin.line_number for pin in committed.of(variant.name) if pin.name in names), 0)
    return [
        Finding(
            code="NX-V22", file=path, line=first, message=message, hint=f"renew them with `nexus variants resolve {variant.name}`"
        )
    ]


def check_install(declaration: Declaration, variant: Variant, committed: Committed, resolver: Resolver) -> list[Finding]:
    """The committed pins install on every target (a dry run), and from wheels unless the registry allows builds."""
    held = committed.of(variant.name)
    findings: list[Finding] = []
    path = pins.file_of(variant.name)
    for target in declaration.rules.targets if held else ():
        found = resolver.install_check(held, target)
        place = f"Python {target.python}, {target.platform}"
        if found.problem:
            message = f"`{variant.name}` does not install on {place}: {found.problem}"
            findings.append(
                Finding(code="NX-V24", file=path, line=_named(held, found.problem), message=message, hint=_INSTALL_HINT)
            )
        elif found.built and not declaration.rules.build:
            names = ", ".join(f"`{name}`" for name in found.built)
            line = next((pin.line_number for pin in held if pin.name in found.built), 0)
            message = f"`{variant.name}` installs on {place} only by building {names}, which have no wheel there"
            hint = "a build runs the package's code: pin versions with wheels, or say `build = true` in `[tool.nexus]`"
            findings.append(Finding(code="NX-V26", file=path, line=line, message=message, hint=hint, severity="warning"))
    return findings


def _named(held: Sequence[Pin], reason: str) -> int:
    """The line of the first pin that the reason names."""
    return next((pin.line_number for pin in held if f"`{pin.name}" in reason or f"{pin.name}==" in reason), 0)


def check_engine(declaration: Declaration, variant: Variant, held: Sequence[Pin]) -> list[Finding]:
    """Ecosystem is free of the engine; product stands on its pin; candidate and product contain it."""
    if not held:
        return []
    engine = declaration.rules.engine
    found = [pin for pin in held if pin.name == engine]
    path = pins.file_of(variant.name)
    if variant.name not in WITH_ENGINE:
        return [_engine_in(variant, pin, held, path) for pin in found[:1]]
    asked = variant.of(engine)
    line = asked[0].line if asked else variant.line
    if not found:
        message = f"`{variant.name}` does not contain `{engine}`"
        return [Finding(code="NX-V33", file=FILE, line=line, message=message, hint=f"add `{engine}` to the extra `{variant.name}`")]
    if variant.name == "product":
        return _off_pin(declaration, asked, found, line, path)
    return []


def _engine_in(variant: Variant, pin: Pin, held: Sequence[Pin], path: str) -> Finding:
    chain = next(iter(graph.chains(held, pin.name).chains), graph.Chain(packages=(pin.name,)))
    line = next((asked.line for asked in variant.requirements if asked.name == chain.packages[0]), variant.line)
    message = f"`{variant.name}` contains `{pin.name}` {pin.shown}: {' → '.join(chain.packages)}"
    return Finding(
        code="NX-V30", file=FILE, line=line, message=message,
        hint=f"leave out the extra or the package that brings it (pinned at {path}:{pin.line_number})",
    )  # fmt: skip


def _off_pin(declaration: Declaration, asked: Sequence[Asked], found: Sequence[Pin], line: int, path: str) -> list[Finding]:
    engine, rule = declaration.rules.engine, declaration.rules.engine_pin
    declared = next((one.pinned for one in asked if one.pinned), "")
    if not declared:
        message = f"`product` does not pin `{engine}`"
        hint = f"write `{engine}=={rule or found[0].version}` in the extra `product`"
        return [Finding(code="NX-V32", file=FILE, line=line, message=message, hint=hint)]
    findings = []
    if rule and Version(rule) != Version(declared):
        message = f"`product` pins `{engine}` {declared}, and `[tool.nexus] product` says {rule}"
        findings.append(Finding(code="NX-V32", file=FILE, line=line, message=message, hint="write the same version in both"))
    for pin in found:
        if pin.version and Version(pin.version) != Version(declared):
            message = f"`{engine}` is locked at {pin.version}, and its pin is {declared}"
            hint = "renew the file with `nexus variants resolve product`"
            findings.append(Finding(code="NX-V32", file=path, line=pin.line_number, message=message, hint=hint))
    return findings


def check_candidate(
    declaration: Declaration, variants: Sequence[Variant], committed: Committed, resolver: Resolver
) -> list[Finding]:
    """The candidate stands on the engine's latest stable release that the index offers (within `exclude-newer`)."""
    candidate = next((variant for variant in variants if variant.name == "candidate"), None)
    if candidate is None or declaration.rules.candidate != "latest":
        return []
    engine = declaration.rules.engine
    held = [pin for pin in committed.of("candidate") if pin.name == engine and pin.version]
    if not held:
        return []
    answer = resolver.resolve(replace(resolution.question(declaration, [engine]), dependencies=False))
    if isinstance(answer, Unsatisfiable):
        return [
            Finding(
                code="NX-V40", file=FILE, line=candidate.line, message=f"could not check: no release of `{engine}`: {answer.proof}"
            )
        ]
    latest, pinned = (max(Version(pin.version) for pin in found) for found in (answer.pins, held))
    if latest == pinned:
        return []
    asked = next(iter(candidate.of(engine)), None)
    place = (FILE, asked.line) if asked is not None and asked.specifier else (pins.file_of("candidate"), held[0].line_number)
    message = f"`candidate` stands on `{engine}` {pinned}, and the latest stable release is {latest}"
    hint = f"write `{engine}=={latest}`, then `nexus variants resolve candidate --upgrade {engine}`"
    return [Finding(code="NX-V31", file=place[0], line=place[1], message=message, hint=hint)]


def check_classes(
    declaration: Declaration, variant: Variant, committed: Committed, metadata: PackageMetadata, members: frozenset[str] | None
) -> list[Finding]:
    """Every member stands where its class allows it to, by the metadata of the version that is pinned."""
    findings: list[Finding] = []
    standings = []
    for asked in {asked.name: asked for asked in variant.requirements if members is None or asked.name in members}.values():
        if asked.name == declaration.rules.engine:
            continue
        pin = next((pin for pin in committed.of(variant.name) if pin.name == asked.name), None)
        try:
            standings.append(standing_of(declaration, asked, pin, metadata))
        except NexusError as error:
            message = f"the class of `{asked.name}` could not be derived: {error.message}"
            findings.append(Finding(code="NX-V13", file=FILE, line=asked.line, message=message, hint=error.hint))
    return [*findings, *classes.check(declaration, variant, standings)]


def standing_of(declaration: Declaration, asked: Asked, pin: Pin | None, metadata: PackageMetadata) -> classes.Standing:
    """The class of one member: of the release or commit that is pinned, else of the newest release that is allowed.

    Raises MetadataUnavailable.
    """
    if pin is not None and pin.url:
        found = metadata.source(asked.name, pin.url)
    elif pin is None and (asked.url or asked.name in (declaration.uv.get("sources") or {})):
        raise MetadataUnavailable(f"`{asked.name}` comes from a source that is not pinned yet", hint="resolve the variant first")
    else:
        version = pin.version if pin is not None else asked.pinned or _newest(metadata, asked)
        found = metadata.metadata(asked.name, version)
    return classes.classify(found, declaration.rules.engine, declaration.rules.targets)


def _newest(metadata: PackageMetadata, asked: Asked) -> str:
    from packaging.specifiers import SpecifierSet

    releases = [release for release in metadata.releases(asked.name) if not release.yanked]
    allowed = list(SpecifierSet(asked.specifier).filter([release.version for release in releases]))
    return allowed[-1] if allowed else releases[-1].version if releases else ""
