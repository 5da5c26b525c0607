"""Pinned requirements as committed: reads and writes `requirements-<variant>.txt`.

Reads what `uv export`, `uv pip compile` and pip-tools write (hashes on continuation lines, ``# via`` comments after them). Writes
two files a variant: index packages with hashes, and — only when there are any — Git sources by full commit, in a file of their
own, because pip refuses a requirement without a hash beside hashed ones. The audit, the gate and the graph read pins from here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from nexus.kernel.documents import Finding

MAX_BYTES = 16 * 1024 * 1024  # a thousand packages with every wheel's hash are 1 MB
_HEAD = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:\[[^\]]*\])?\s*(?:==(?P<version>[^\s;]+)|@\s*(?P<url>\S+))\s*(?:;(?P<marker>.*))?"
)
_HASH = re.compile(r"--hash=(sha\d+:[0-9a-f]+)")
_COMMIT = re.compile(r"@([0-9a-f]{40})(?:#|$)")
_INDEX_OPTIONS = ("-i", "--index-url", "--extra-index-url", "--find-links", "-f", "--trusted-host")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One locked package. ``url`` is set for sources outside an index; then ``version`` may be unknown (empty)."""

    name: str  # normalised (PEP 503)
    version: str = ""
    url: str = ""
    marker: str = ""
    hashes: tuple[str, ...] = ()
    via: tuple[str, ...] = ()  # what asked for it: package names, and the project's name for the registry itself
    line_number: int = 0  # in the file it was read from; 0 when it comes from a resolver

    def line(self) -> str:
        """``name==version ; marker`` or ``name @ url ; marker``: what tells one pin from another, hashes aside."""
        head = f"{self.name} @ {self.url}" if self.url else f"{self.name}=={self.version}"
        return f"{head} ; {self.marker}" if self.marker else head

    @property
    def commit(self) -> str:
        """The full Git commit of a Git source, else empty."""
        match = _COMMIT.search(self.url) if self.url.startswith("git+") else None
        return match[1] if match else ""

    @property
    def shown(self) -> str:
        """The version for people; a short commit for Git sources."""
        return self.version or (self.commit[:12] if self.commit else self.url)


@dataclass(frozen=True, kw_only=True, slots=True)
class PinFile:
    """What a requirements file says, and what is wrong with it."""

    pins: tuple[Pin, ...]
    findings: tuple[Finding, ...] = ()


def file_of(variant: str) -> str:
    """The file that holds the variant's index packages, relative to the registry."""
    return f"requirements-{variant}.txt"


def git_file_of(variant: str) -> str:
    """The file that holds the variant's Git sources, relative to the registry."""
    return f"requirements-{variant}.git.txt"


def parse(text: str, file: str = "") -> PinFile:
    """The pins of a requirements file, in its order, with every finding (never raises on bad input)."""
    if len(text) > MAX_BYTES:
        message = f"the file has {len(text)} characters; at most {MAX_BYTES} are read"
        return PinFile(pins=(), findings=(Finding(code="NX-V20", file=file, message=message),))
    reader = _Reader(file)
    for number, line in enumerate(text.splitlines(), start=1):
        reader.feed(number, line)
    return PinFile(pins=tuple(reader.pins), findings=tuple(reader.findings))


class _Reader:
    """Line by line: a pin begins at the left margin, its hashes and comments follow indented."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.pins: list[Pin] = []
        self.findings: list[Finding] = []
        self._via_list = False

    def feed(self, number: int, line: str) -> None:
        text = line.strip()
        if text.startswith("#"):
            self._comment(text[1:].strip(), indented=line[:1].isspace())
        elif text.startswith("--hash"):
            self._hashes(number, text)
        elif text:
            self._via_list = False
            self._pin(number, text)

    def _comment(self, text: str, *, indented: bool) -> None:
        if not indented or not self.pins:
            return
        if text == "via":
            self._via_list = True
        elif text.startswith("via "):
            self._asked_by(text[4:])
        elif self._via_list:
            self._asked_by(text)

    def _asked_by(self, names: str) -> None:
        pin = self.pins[-1]
        asked = tuple(_asker(name) for name in names.split(",") if name.strip())
        self.pins[-1] = replace(pin, via=(*pin.via, *asked))

    def _hashes(self, number: int, text: str) -> None:
        found = tuple(_HASH.findall(text))
        if not found or not self.pins:
            self._finding(
                number, f"`{text[:80]}` is not a hash of the package above", "resolve again with `nexus variants resolve`"
            )
            return
        self.pins[-1] = replace(self.pins[-1], hashes=(*self.pins[-1].hashes, *found))

    def _pin(self, number: int, text: str) -> None:
        if text.split("=", 1)[0].split(" ", 1)[0] in _INDEX_OPTIONS:
            self._finding(
                number, "the file names a package index", "remove the line; the index belongs to the machine's own configuration"
            )
            return
        hashes = tuple(_HASH.findall(text))
        head = _HASH.sub("", text.split(" #", 1)[0]).rstrip(" \\")
        match = _HEAD.fullmatch(head)
        if match is None or not _valid(match):
            self._finding(
                number,
                f"`{head[:120]}` is not a pinned requirement",
                "write `name==version`, or resolve again with `nexus variants resolve`",
            )
            return
        self.pins.append(
            Pin(name=canonicalize_name(match["name"]), version=match["version"] or "", url=match["url"] or "",
                marker=(match["marker"] or "").strip(), hashes=hashes, line_number=number)
        )  # fmt: skip

    def _finding(self, number: int, message: str, hint: str) -> None:
        self.findings.append(Finding(code="NX-V20", file=self.file, line=number, message=message, hint=hint))


def _valid(match: re.Match[str]) -> bool:
    try:
        if match["version"]:
            Version(match["version"])
        if match["marker"]:
            Marker(match["marker"])
    except (InvalidVersion, InvalidMarker):
        return False
    return True


def _asker(text: str) -> str:
    """``rich``, ``example-registry (pyproject.toml)``, ``-r file`` → a normalised name."""
    return canonicalize_name(text.strip().split(" (", 1)[0].split("[", 1)[0].strip())


def render(pins: Sequence[Pin], command: str) -> str:
    """The text of a requirements file: sorted, hashes and ``# via`` on their own lines, no index address."""
    parts = [f"# Written by `{command}`. Install with `pip install --require-hashes -r`; do not edit.\n"]
    parts += [_rendered(pin) for pin in sorted(pins, key=lambda pin: (pin.name, pin.marker))]
    return "".join(parts)


def render_git(pins: Sequence[Pin], command: str) -> str:
    """The text of a variant's Git sources: full commits, no hashes because Git sources have none."""
    head = (
        f"# Written by `{command}`: Git sources, pinned by full commit (they carry no hash).\n"
        "# Install after the file with hashes: `pip install --no-deps -r`.\n"
    )
    return head + "".join(_rendered(pin) for pin in sorted(pins, key=lambda pin: (pin.name, pin.marker)))


def _rendered(pin: Pin) -> str:
    lines = [pin.line(), *(f"    --hash={digest}" for digest in sorted(set(pin.hashes)))]
    text = " \\\n".join(lines) + "\n"
    if len(pin.via) == 1:
        return text + f"    # via {pin.via[0]}\n"
    return text + ("    # via\n" + "".join(f"    #   {name}\n" for name in sorted(set(pin.via))) if pin.via else "")


def split(pins: Iterable[Pin]) -> tuple[tuple[Pin, ...], tuple[Pin, ...]]:
    """The pins of an index, and those of sources outside it."""
    held = tuple(pins)
    return tuple(pin for pin in held if not pin.url), tuple(pin for pin in held if pin.url)


def compare(expected: Iterable[Pin], actual: Iterable[Pin]) -> tuple[str, ...]:
    """The lines that differ, as ``-`` committed and ``+`` expected; empty when both pin the same files.

    Comments do not count, nor how a marker is written: resolvers simplify the same condition differently.
    """
    before = {pin.line(): pin for pin in actual}
    after = {pin.line(): pin for pin in expected}
    lines: list[tuple[str, str]] = []
    for line in sorted(after.keys() - before.keys()):
        twin = next((old for text, old in before.items() if text not in after and _same_but_marker(after[line], old)), None)
        if twin is None:
            lines.append((line, f"+ {line}"))
        else:
            after[twin.line()] = after.pop(line)
    lines += [(line, f"- {line}") for line in before.keys() - after.keys()]
    for line in before.keys() & after.keys():
        old, new = frozenset(before[line].hashes), frozenset(after[line].hashes)
        if old != new:
            lines.append((line, f"~ {line}  (hashes: {len(old - new)} gone, {len(new - old)} new)"))
    return tuple(text for _, text in sorted(lines))


def _same_but_marker(left: Pin, right: Pin) -> bool:
    """Whether two pins say the same on every machine of a grid, however their markers are written."""
    if (left.name, left.version, left.url) != (right.name, right.version, right.url) or not (left.marker and right.marker):
        return False
    one, other = Marker(left.marker), Marker(right.marker)
    return all(one.evaluate(machine) == other.evaluate(machine) for machine in _machines())


@functools.cache
def _machines() -> tuple[dict[str, str], ...]:
    systems = (("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"), ("win32", "Windows", "nt"))
    implementations = (("cpython", "CPython"), ("pypy", "PyPy"))
    return tuple(
        {
            "python_version": f"3.{minor}", "python_full_version": f"3.{minor}.{patch}", "sys_platform": system[0],
            "platform_system": system[1], "os_name": system[2], "platform_machine": machine,
            "implementation_name": implementation[0], "platform_python_implementation": implementation[1],
        }
        for minor in range(9, 16) for patch in (0, 9) for system in systems
        for machine in ("x86_64", "aarch64", "arm64", "AMD64") for implementation in implementations
    )  # fmt: skip
