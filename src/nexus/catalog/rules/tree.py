"""Rules about files as such: what cannot be read, names that are hostile or clash, manifests where nobody looks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nexus.catalog import files as places
from nexus.catalog.rulebook import Problem, rule
from nexus.catalog.snapshot import Package, Snapshot
from nexus.kernel.documents import MAX_BYTES, shown

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_HOSTILE = re.compile(r"[\x00-\x1f\x7f<>:\"|?*\\]|^[\s~-]|[\s.]$|\ufffd")
_MISSPELT = {
    "nexus.yml": "nexus.yaml",
    "model.yml": "model.yaml",
    "space.yml": "space.yaml",
    "skill.md": "SKILL.md",
    "Usage.md": "usage.md",
}


@rule(
    "NX-C001",
    "file-unreadable",
    "A file of the registry cannot be read",
    scope="registry",
    hint="make it an ordinary file that can be read",
)
def unreadable(snapshot: Snapshot) -> Iterator[Problem]:
    """A manifest without permission to read it, a named pipe or a device where a file is meant. Nothing is opened that is not
    an ordinary file; what it says is unknown, so the registry cannot be called right."""
    for trouble in snapshot.files.troubles:
        if trouble.kind == "unreadable":
            yield Problem(trouble.path, f"{shown(trouble.path)} cannot be read: {trouble.detail}")
        elif trouble.kind == "name" and trouble.path.count("/") == 1:  # in a package, `name-hostile` looks at it
            message = f"the name {shown(trouble.path)} {trouble.detail}"
            yield Problem(trouble.path, message, hint="rename it; use letters, digits, `.`, `_` and `-`", code="NX-C005")


@rule(
    "NX-C002",
    "file-unsettled",
    "A file changed while it was read",
    scope="registry",
    hint="run the command again when writing has ended",
)
def unsettled(snapshot: Snapshot) -> Iterator[Problem]:
    """The file had another size or time after each of several readings: someone is writing it. A half-written manifest is not
    judged."""
    for trouble in snapshot.files.troubles:
        if trouble.kind == "unsettled":
            yield Problem(trouble.path, f"{shown(trouble.path)} changed each time it was read")


@rule(
    "NX-C003",
    "link-followed-nowhere",
    "A symbolic link is not followed",
    scope="registry",
    hint="put the file or folder itself here",
)
def link(snapshot: Snapshot) -> Iterator[Problem]:
    """A link that leads out of the registry would publish a file of whoever runs the check; a link to a folder, or to nothing,
    makes the tree differ between machines. Links to files inside the registry are read."""
    for trouble in snapshot.files.troubles:
        if trouble.kind == "link":
            yield Problem(trouble.path, f"the link {shown(trouble.path)} {trouble.detail}")


@rule(
    "NX-C007", "file-oversized", "A manifest is too large to be one", scope="registry", hint="keep data out of manifests and pages"
)
def oversized(snapshot: Snapshot) -> Iterator[Problem]:
    """Manifests and pages are written by hand. Larger files are not read at all."""
    for trouble in snapshot.files.troubles:
        if trouble.kind == "oversized":
            yield Problem(trouble.path, f"{shown(trouble.path)} has {trouble.detail} bytes; at most {MAX_BYTES} are read")


@rule("NX-C004", "case-twins", "Two paths differ only by case", scope="registry", hint="rename one of them")
def case_twins(snapshot: Snapshot) -> Iterator[Problem]:
    """On file systems that ignore case (macOS, Windows) one of the two overwrites the other on checkout. Unicode forms that look
    the same count as the same."""
    seen: dict[str, str] = {}
    told: set[str] = set()
    for path in sorted([*snapshot.files.contents, *snapshot.files.others]):
        folded = path.lower() if path.isascii() else _folded(path)
        other = seen.setdefault(folded, path)
        if other != path:
            here, there = _first_difference(path, other)
            if here not in told:
                told.add(here)
                yield Problem(path, f"{shown(here)} and {shown(there)} are one path where case does not count")


@rule(
    "NX-C008",
    "manifest-stray",
    "A YAML file stands outside the folders that are read",
    scope="registry",
    severity="warning",
    hint="packages stand in `packages/<package>/nexus.yaml`, logical benchmarks in `benchmarks/<id>.yaml`",
)
def stray(snapshot: Snapshot) -> Iterator[Problem]:
    """`packages/terratorch.yaml` registers nothing, and `benchmarks/old/serving.yaml` defines nothing."""
    for path in [*snapshot.files.others, *snapshot.files.contents]:
        if path.endswith((".yaml", ".yml")):
            top, _, rest = path.partition("/")
            if (top == places.PACKAGES and "/" not in rest) or (top == places.BENCHMARKS and "/" in rest):
                yield Problem(path, f"{shown(path)} is not read")


def _folded(path: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", path).casefold()


def _first_difference(path: str, other: str) -> tuple[str, str]:
    mine, theirs = path.split("/"), other.split("/")
    depth = next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), len(mine) - 1)
    return "/".join(mine[: depth + 1]), "/".join(theirs[: depth + 1])


@rule(
    "NX-C005",
    "name-hostile",
    "A file or folder has a name that tools cannot take",
    scope="package",
    hint="use letters, digits, `.`, `_` and `-`",
)
def hostile_name(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Control characters, characters that Windows refuses, a leading `-` that reads as an option, a trailing dot or space, names
    of devices, and names that are not UTF-8: each breaks a checkout or a command somewhere."""
    told: set[str] = set()
    for path in ("", *package.paths):
        parts = (package.folder, *path.split("/")) if path else (package.folder,)
        for part in parts:
            if part and part not in told and (_HOSTILE.search(part) or _RESERVED.fullmatch(part) or not part.isprintable()):
                told.add(part)
                yield Problem(f"{package.path}/{path}".rstrip("/"), f"{shown(part)} is no name for a file or folder")


@rule(
    "NX-C006",
    "file-misplaced",
    "A manifest stands where nobody looks",
    scope="package",
    severity="warning",
    hint="move it to where it is read",
)
def misplaced(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """A `model.yaml` outside `models/<model>/`, a `space.yaml` outside `benchmark_instances/<instance>/`, `nexus.yml` instead of
    `nexus.yaml`, a file where a folder is meant: they look registered and are not."""
    troubled = {trouble.path for trouble in snapshot.files.troubles}
    for path in package.paths:
        place, name = f"{package.path}/{path}", path.rpartition("/")[2]
        if place in troubled or path.startswith("benchmark_packages/"):
            continue
        if (folder := _FOLDER.fullmatch(path)) is not None:
            home = _HOME_TEXTS[_FOLDERS[folder[1].rpartition("/")[2]]]
            yield Problem(
                place, f"{shown(name)} is a file" if folder[2] is None else "no file is read here", hint=f"write `{home}`"
            )
        elif name in _MISSPELT:
            right = _MISSPELT[name]
            if f"{path[: -len(name)]}{right}" not in package.paths:
                yield Problem(place, f"{shown(name)} is not read", hint=f"rename it to `{right}`")
        elif name in _HOMES and not _HOMES[name].fullmatch(path):
            yield Problem(place, f"no `{name}` is read here", hint=f"it belongs in `{_HOME_TEXTS[name]}`")


_FOLDERS = {"models": places.MODEL_FILE, "skills": places.SKILL_FILE, "benchmark_instances": places.SPACE_FILE}
_FOLDER = re.compile(r"(models|skills|(?:models/[^/]+/)?benchmark_instances)(/[^/]+\.ya?ml)?")
_HOMES = {
    places.PACKAGE_FILE: re.compile(r"nexus\.yaml"),
    places.MODEL_FILE: re.compile(r"models/[^/]+/model\.yaml"),
    places.SPACE_FILE: re.compile(r"(models/[^/]+/)?benchmark_instances/[^/]+/space\.yaml"),
    places.SKILL_FILE: re.compile(r"skills/[^/]+/SKILL\.md"),
}
_HOME_TEXTS = {
    places.PACKAGE_FILE: "packages/<package>/nexus.yaml",
    places.MODEL_FILE: "models/<model>/model.yaml",
    places.SPACE_FILE: "benchmark_instances/<instance>/space.yaml",
    places.SKILL_FILE: "skills/<skill>/SKILL.md",
}
