"""Does an algorithm stack package meet REQ-1? Facts of its real metadata, and a finding for each miss. Pure.

The adapter (`nexus.adapters.distributions`) collects :class:`Facts` from an index, a wheel, a source archive or Git, without
building or importing anything; :func:`check` decides. What could not be read is a finding of its own, never a pass.

NX-R01 releases · NX-R02 numbers that do not grow · NX-R03 maintainer · NX-R04 description · NX-R05 documentation link ·
NX-R06 undeclared dependency · NX-R07 unplaced import (warning) · NX-R08 wheel tags · NX-R09 could not check · NX-R10 metadata that
contradicts its file · NX-R11 unreadable requirement
"""

from __future__ import annotations

import email.parser
import email.policy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from nexus.kernel.documents import Finding
from nexus.variants import packageimports
from nexus.variants.packageimports import REQUIRED, Import
from nexus.variants.ports import Release, Target

_DOCUMENTATION = (
    "documentation",
    "docs",
    "doc",
    "documentationurl",
    "readthedocs",
    "manual",
    "userguide",
    "apidocs",
    "apireference",
)
PACKAGE = "the package"  # key of `unchecked` when nothing at all could be read
_UNCHECKED = {"wheels": "warning"}  # a source is checked before there is a wheel of it
_EMPTY = ("", "unknown", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of one release. ``unchecked`` names what could not be read (``releases``, ``imports``, …) and why."""

    name: str  # as asked for, normalised
    source: str  # for people: an index, a file or a Git address, without credentials
    version: str = ""
    metadata: str = ""  # text of METADATA or PKG-INFO
    releases: tuple[Release, ...] = ()
    wheels: tuple[str, ...] = ()  # file names of this release's wheels
    wheel_tags: tuple[str, ...] = ()  # of the WHEEL file that was read
    wheel: str = ""  # the wheel that was read
    imports: tuple[Import, ...] = ()
    unreadable: tuple[str, ...] = ()  # modules that could not be parsed
    provides: Mapping[str, frozenset[str]] = field(default_factory=dict)  # import names of dependencies
    unchecked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Headers:
    """The core metadata that REQ-1 speaks of."""

    name: str
    version: str
    people: tuple[str, ...]
    summary: str
    description: bool
    links: Mapping[str, str]
    requires: tuple[str, ...]


def read_headers(text: str) -> Headers:
    """The fields of a METADATA or PKG-INFO text; absent ones are empty. Source: PyPA core metadata specification."""
    message = email.parser.HeaderParser(policy=email.policy.compat32).parsestr(text)
    people = [str(message.get(key, "")) for key in ("Maintainer", "Maintainer-email", "Author", "Author-email")]
    links = {}
    for entry in message.get_all("Project-URL", []):
        label, _, url = str(entry).partition(",")
        links[label.strip()] = url.strip()
    for key in ("Home-page", "Download-URL"):
        if str(message.get(key, "")).strip().lower() not in _EMPTY:
            links.setdefault(key, str(message[key]).strip())
    body = str(message.get_payload() or "").strip() or str(message.get("Description", "")).strip()
    return Headers(
        name=str(message.get("Name", "")).strip(), version=str(message.get("Version", "")).strip(),
        people=tuple(dict.fromkeys(person.strip() for person in people if person.strip().lower() not in _EMPTY)),
        summary=_given(str(message.get("Summary", ""))), description=body.lower() not in _EMPTY,
        links={label: url for label, url in links.items() if url.startswith(("https://", "http://"))},
        requires=tuple(str(item) for item in message.get_all("Requires-Dist", [])),
    )  # fmt: skip


def check(facts: Facts, targets: Sequence[Target]) -> list[Finding]:
    """Every miss of REQ-1, errors first; what could not be checked is an error."""
    findings = [
        _finding(
            facts, "NX-R09", f"could not check {what}: {why}", "check again where it can be read", _UNCHECKED.get(what, "error")
        )
        for what, why in facts.unchecked.items()
    ]
    if PACKAGE in facts.unchecked:
        return findings
    findings += _releases(facts)
    if facts.metadata:
        headers = read_headers(facts.metadata)
        findings += [
            *_identity(facts, headers),
            *_people(facts, headers),
            *_description(facts, headers),
            *_documentation(facts, headers),
        ]
        findings += _dependencies(facts, headers)
    if "wheels" not in facts.unchecked:
        findings += _tags(facts, targets)
    return sorted(findings, key=lambda finding: (finding.severity != "error", finding.code))


def declared(requires: Sequence[str]) -> frozenset[str]:
    """Normalised names of every readable requirement, extras included."""
    names = set()
    for text in requires:
        try:
            names.add(canonicalize_name(Requirement(text).name))
        except InvalidRequirement:
            continue
    return frozenset(names)


def _finding(facts: Facts, code: str, message: str, hint: str, severity: str = "error") -> Finding:
    return Finding(code=code, file=facts.source, message=message, hint=hint, severity=severity)


def _given(text: str) -> str:
    return "" if text.strip().lower() in _EMPTY else text.strip()


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _releases(facts: Facts) -> list[Finding]:
    """REQ-1.1: versioned releases whose numbers only grow."""
    if "releases" in facts.unchecked:
        return []
    if not facts.releases:
        return [
            _finding(facts, "NX-R01", f"`{facts.name}` has no versioned release", "publish a release on PyPI, or tag one on GitHub")
        ]
    strange = [release.version for release in facts.releases if _version(release.version) is None]
    findings = [
        _finding(facts, "NX-R01", f"release `{version[:60]}` has no PEP 440 version", "number releases as PEP 440 says", "warning")
        for version in strange
    ]
    dated = [release for release in facts.releases if release.uploaded_at is not None and not release.yanked]
    if len(facts.releases) > 1 and len(dated) * 2 < len(facts.releases):
        why = "could not check that release numbers grow: the source gives no dates"
        return [*findings, _finding(facts, "NX-R09", why, "check against an index that tells upload times")]
    return findings + _growth(facts, dated)


def _growth(facts: Facts, dated: Sequence[Release]) -> list[Finding]:
    """Later uploads have higher numbers, within a series (1.2.x) and between first releases of series; backports are fine."""
    known = [
        (version, release) for release in dated if (version := _version(release.version)) is not None and not version.is_prerelease
    ]
    known.sort(key=lambda item: item[0])
    firsts: dict[tuple[int, ...], tuple[Version, Release]] = {}
    pairs = []
    previous: tuple[Version, Release] | None = None
    for version, release in known:
        series = (version.epoch, *version.release[:2])
        if previous is not None and (previous[0].epoch, *previous[0].release[:2]) == series:
            pairs.append((previous, (version, release)))
        firsts.setdefault(series, (version, release))
        previous = (version, release)
    heads = list(firsts.values())
    pairs += itertools.pairwise(heads)
    newest = max((release.uploaded_at for _, release in known if release.uploaded_at), default=None)
    findings = []
    for (low, older), (high, newer) in pairs:
        assert older.uploaded_at is not None
        assert newer.uploaded_at is not None
        if newer.uploaded_at < older.uploaded_at:
            message = f"{low} was released on {older.uploaded_at:%Y-%m-%d}, after the higher {high} on {newer.uploaded_at:%Y-%m-%d}"
            severity = "error" if older.uploaded_at == newest else "warning"  # what lies behind cannot be mended any more
            findings.append(
                _finding(
                    facts, "NX-R02", message, "a newer release has a higher number; use an epoch to change the scheme", severity
                )
            )
    return findings


def _identity(facts: Facts, headers: Headers) -> list[Finding]:
    findings = []
    if canonicalize_name(headers.name) != facts.name:
        message = f"the metadata names `{headers.name[:80]}`, not `{facts.name}`"
        findings.append(_finding(facts, "NX-R10", message, "the registry must name the package as its metadata does"))
    said, asked = _version(headers.version), _version(facts.version)
    if said is None:
        findings.append(
            _finding(facts, "NX-R01", f"version `{headers.version[:60]}` is none by PEP 440", "number releases as PEP 440 says")
        )
    elif asked is not None and said != asked:
        findings.append(
            _finding(
                facts, "NX-R10", f"the metadata says version {said}, the release {asked}", "release it again under its own number"
            )
        )
    return findings


def _people(facts: Facts, headers: Headers) -> list[Finding]:
    if headers.people:
        return []
    return [_finding(facts, "NX-R03", "the metadata names no maintainer and no author", "add `maintainers` to `[project]`")]


def _description(facts: Facts, headers: Headers) -> list[Finding]:
    if headers.summary and headers.description:
        return []
    if not headers.summary and not headers.description:
        return [_finding(facts, "NX-R04", "the metadata has no description", "add `description` and `readme` to `[project]`")]
    missing = "long description" if headers.summary else "summary"
    hint = "add `readme` to `[project]`" if headers.summary else "add `description` to `[project]`"
    return [_finding(facts, "NX-R04", f"the metadata has no {missing}", hint, "warning")]


def _documentation(facts: Facts, headers: Headers) -> list[Finding]:
    labels = {"".join(character for character in label.lower() if character.isalnum()) for label in headers.links}
    hint = "add `Documentation` to `[project.urls]`"
    if labels & set(_DOCUMENTATION):
        return []
    if headers.links:
        only = ", ".join(sorted(headers.links))
        return [_finding(facts, "NX-R05", f"no link is labelled `Documentation`; there are: {only[:160]}", hint, "warning")]
    return [_finding(facts, "NX-R05", "the metadata has no link to documentation", hint)]


def _dependencies(facts: Facts, headers: Headers) -> list[Finding]:
    findings = []
    for text in headers.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            findings.append(
                _finding(facts, "NX-R11", f"the declared dependency `{text[:120]}` cannot be read", "write it as PEP 508 says")
            )
            continue
        if requirement.url:
            message = f"the dependency `{requirement.name}` is declared by an address, which an index does not resolve"
            findings.append(_finding(facts, "NX-R11", message, "depend on a release", "warning"))
    missing, unplaced = packageimports.undeclared(facts.imports, declared(headers.requires), facts.provides)
    for item in missing:
        severity = "error" if item.kind == REQUIRED else "warning"
        message = f"`{item.name}` is imported ({item.kind}) and no declared dependency provides it"
        findings.append(
            replace(
                _finding(facts, "NX-R06", message, "declare the distribution that provides it", severity),
                file=item.file,
                line=item.line,
            )
        )
    for item in unplaced:
        message = f"cannot tell which declared dependency provides `{item.name}`"
        findings.append(
            replace(_finding(facts, "NX-R07", message, "check that it is declared", "warning"), file=item.file, line=item.line)
        )
    findings += [
        replace(
            _finding(facts, "NX-R07", "this Python cannot parse the module: its imports are not known", "", "warning"), file=path
        )
        for path in facts.unreadable
    ]
    return findings


def _tags(facts: Facts, targets: Sequence[Target]) -> list[Finding]:
    """A wheel for every target, and a WHEEL file that agrees with its own name."""
    if not facts.wheels:
        return [
            _finding(
                facts,
                "NX-R08",
                f"{facts.name} {facts.version} has no wheel",
                "release a wheel: what is built at install time is not audited",
            )
        ]
    offered: set[Tag] = set()
    findings = []
    for name in facts.wheels:
        try:
            offered |= parse_wheel_filename(name)[3]
        except (InvalidWheelFilename, InvalidVersion):
            findings.append(_finding(facts, "NX-R08", f"`{name[:120]}` is no wheel's name", "build it with a standard tool"))
    for target in targets:
        if not offered & _accepted(target):
            message = f"no wheel fits Python {target.python} on {target.platform}"
            findings.append(_finding(facts, "NX-R08", message, "release a wheel for it, or narrow the targets in `[tool.nexus]`"))
    if facts.wheel and facts.wheel_tags:
        named = {str(tag) for tag in parse_wheel_filename(facts.wheel)[3]}
        if named != set(facts.wheel_tags):
            message = f"the WHEEL file says {', '.join(sorted(facts.wheel_tags))[:120]}, its name {', '.join(sorted(named))[:120]}"
            findings.append(_finding(facts, "NX-R08", message, "build it with a standard tool"))
    return findings


def _accepted(target: Target) -> set[Tag]:
    """The wheel tags that CPython on the target installs."""
    major, _, minor = target.python.partition(".")
    version = (int(major), int(minor))
    platforms = _platforms(target.platform)
    return {
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, interpreter=f"cp{major}{minor}", platforms=platforms),
    }


def _platforms(platform: str) -> list[str]:
    """Platform tags of a platform as uv names it: ``x86_64-manylinux_2_28`` takes every manylinux up to glibc 2.28."""
    machine, _, system = platform.partition("-")
    if system.startswith("manylinux_2_"):
        newest = int(system.rpartition("_")[2])
        legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)]
        return [*tags, *(f"{name}_{machine}" for minor, name in legacy.items() if minor <= newest), f"linux_{machine}"]
    if "linux" in system:
        return _platforms(f"{machine}-manylinux_2_28")
    if "windows" in system:
        return ["win_amd64" if machine == "x86_64" else "win_arm64"]
    return [
        f"macosx_{major}_0_{cpu}"
        for major in range(15, 10, -1)
        for cpu in ("arm64" if machine == "aarch64" else "x86_64", "universal2")
    ]
