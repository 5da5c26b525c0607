"""Reads the resolver's proof that requirements exclude one another: who depends on what, and where the sides meet. Pure.

The text is uv's derivation ("Because `a>=2` depends on `b<1` and … we can conclude that …"). Only edges between packages are
taken from it; a proof that says nothing readable gives no edges, and callers fall back on resolved graphs.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.utils import canonicalize_name

_DEPENDS = re.compile(
    r"(?:all versions of )?(?P<from>[^\s,]+(?:,[<>=!~][^\s,]+)*) depends? on (?P<to>[^\s]+(?: and [^\s]+)*?)"
    r"(?=,? and |,? we can|[.]?$|[.]? )"
)
_LIST = re.compile(r"(?:any|all|one) of:\n((?:\s+[^\s]+\n)+)\s*")
_NO_WHEEL = re.compile(r"Wheels are required for `([^`]+)`")
_PYTHON = re.compile(r"Python>=(\d+\.\d+)")
_MARKED = re.compile(r"([A-Za-z0-9][\w.\[\],-]*)\{([^}]*)\}(\S*?)(?=[,.]?(?:\s|$))")  # `name{marker}>=1`
_SPACE = "\ue000"  # for private use: keeps a marker in one word while the sentence is read
_SHOWN = 3  # releases of a list that are all shown
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """*package* (with the versions meant, such as ``rich>=13.9``) asks for *needs* (``markdown-it-py>=2.2``)."""

    package: str
    needs: str

    @property
    def names(self) -> tuple[str, str]:
        return name_of(self.package), name_of(self.needs)


def name_of(text: str) -> str:
    """The normalised name at the head of ``name[extra]>=1``."""
    match = _NAME.match(text)
    return canonicalize_name(match[0]) if match else ""


def edges(proof: str, root: str) -> tuple[Edge, ...]:
    """The dependencies between packages that the proof names; those of the *root* project are left out.

    The same pair may be stated for several ranges; the last statement is the most general one and is kept.
    """
    text = _LIST.sub(lambda match: "|".join(match[1].split()) + " ", proof + "\n")
    text = _MARKED.sub(lambda match: f"{match[1]}{match[3]}{_SPACE};{_SPACE}{match[2].replace(' ', _SPACE)}", text)
    text = re.sub(r"[ \n]+", " ", text)
    stated: set[tuple[str, str]] = set()
    found: dict[tuple[str, str], Edge] = {}
    for sentence in re.split(r"(?<=\.) (?=And because|Because)", text):
        premise, _, conclusion = sentence.partition("we can conclude that")
        for part, is_premise in ((premise, True), (conclusion, False)):
            for match in _DEPENDS.finditer(part):
                edge = Edge(package=match["from"].replace(_SPACE, " "), needs=match["to"].rstrip(",.").replace(_SPACE, " "))
                if name_of(edge.package) in ("", root, "your") or edge.names[0] == edge.names[1]:
                    continue
                if is_premise:
                    stated.add(edge.names)
                if edge.names in stated:  # a conclusion about a pair that nobody stated is transitive
                    found[edge.names] = edge
    return tuple(found.values())


def shown(text: str) -> str:
    """One end of an edge for people: a long list of releases by its first and its last."""
    parts = text.split("|")
    return " or ".join(parts) if len(parts) <= _SHOWN else f"{parts[0]}, {len(parts) - 2} others, or {parts[-1]}"


def without_wheels(proof: str) -> tuple[str, ...]:
    """The packages of which some release counts for nothing because it has no wheel and builds are not allowed."""
    return tuple(dict.fromkeys(name_of(name) for name in _NO_WHEEL.findall(proof)))


def pythons(proof: str) -> tuple[str, ...]:
    """The lowest versions of Python that releases in the proof ask for, such as ``3.11``, lowest first."""
    return tuple(sorted(set(_PYTHON.findall(proof)), key=lambda text: [int(part) for part in text.split(".")]))


def reachable(links: Mapping[str, Iterable[str]], start: str) -> dict[str, tuple[str, ...]]:
    """Every package that *start* leads to, itself included, with one shortest path to it."""
    paths: dict[str, tuple[str, ...]] = {start: (start,)}
    queue = deque([start])
    while queue:
        name = queue.popleft()
        for other in links.get(name, ()):
            if other not in paths:
                paths[other] = (*paths[name], other)
                queue.append(other)
    return paths


def meeting_points(links: Mapping[str, Iterable[str]], starts: Iterable[str]) -> tuple[str, ...]:
    """The packages where chains from different *starts* first meet, by how many of them do and how near."""
    reached = [reachable(links, start) for start in dict.fromkeys(starts)]
    shared = {name for paths in reached for name in paths if sum(name in other for other in reached) > 1}
    behind = {other for name in shared for other in reachable(links, name) if other != name}
    first = [name for name in shared if name not in behind] or sorted(shared)

    def rank(name: str) -> tuple[int, int, str]:
        return -sum(name in paths for paths in reached), sum(len(paths[name]) for paths in reached if name in paths), name

    return tuple(sorted(first, key=rank))
