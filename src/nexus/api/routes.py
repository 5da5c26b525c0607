"""Routes as data: one row says path, handler, who may call it, what goes in and out. The same rows route requests, make the
OpenAPI description and the page that shows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec

from nexus.api.answers import Answer, Stream
from nexus.api.request import Request
from nexus.api.services import Context
from nexus.kernel.access import Scope
from nexus.kernel.errors import InvalidInput, UnknownRoute, WrongMethod

Handler = Callable[[Context, Request], Awaitable[Answer | Stream]]
RunAccess = Literal["own", "tree", "spawn"]

LATEST = ("latest",)
BOTH = ("v1", "latest")
MAX_PATH_BYTES = 4 * 1024


class Field(msgspec.Struct, frozen=True):
    """A field of the query: its JSON schema type and what it means."""

    name: str
    type: str
    doc: str


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One row.

    ``path`` may hold ``{api}``, which stands for each of ``apis``; ``{name*}`` at its end takes all that is left. ``scope`` is
    what a token needs (None: open to all who reach the port); ``run`` what the token of a run's own process may do here: its
    ``own`` run only, runs of its ``tree``, ``spawn`` children. ``signed``: the address carries its own permission. ``takes``
    is the struct of a JSON body or the media type of another, ``gives`` that of the answer. ``statuses`` are further ones,
    with their meaning.
    """

    name: str
    method: str
    path: str
    handler: Handler
    doc: str
    apis: tuple[str, ...] = ()
    group: str = "runs"
    scope: Scope | None = None
    run: RunAccess | None = None
    signed: bool = False
    takes: Any = None
    gives: Any = None
    status: int = 200
    statuses: dict[int, str] = {}
    query: tuple[Field, ...] = ()

    def paths(self) -> list[tuple[str, str]]:
        """Path and api of each form of the route."""
        return [(self.path.replace("{api}", api), api) for api in self.apis] or [(self.path, "")]


class Found(msgspec.Struct, frozen=True):
    """A route for a request: its variable parts decoded."""

    route: Route
    api: str
    parts: tuple[str, ...]


class _Node:
    __slots__ = ("leaves", "literals", "rest", "variable")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Node] = {}
        self.variable: _Node | None = None
        self.rest: _Node | None = None  # takes all segments that are left
        self.leaves: dict[str, tuple[Route, str]] = {}


class Router:
    """Finds routes by the raw path: parts are split first and decoded afterwards, so that ``%2F`` works inside a name."""

    def __init__(self, rows: Iterable[Route]) -> None:
        self._root = _Node()
        self._hot: dict[str, tuple[bytes, Route]] = {}
        for route in rows:
            for path, api in route.paths():
                self._add(route, path, api)
                if route.name == "create" and api == "v1":
                    self._hot[route.method] = (path.partition("{")[0].encode(), route)

    def find(self, method: str, path: bytes) -> Found:
        """The route. Raises UnknownRoute, WrongMethod, InvalidInput."""
        hot = self._hot.get(method)
        if hot is not None and path.startswith(hot[0]):  # one request in a thousand is anything else
            name = path[len(hot[0]) :]
            if name.isalnum() or (name and b"/" not in name and b"%" not in name and name.isascii()):
                return Found(hot[1], "v1", (name.decode("ascii"),))
        if len(path) > MAX_PATH_BYTES:
            raise InvalidInput(f"the path has {len(path)} bytes; at most {MAX_PATH_BYTES} are read")
        segments = _versioned(path.split(b"/")[1:])
        method = "GET" if method == "HEAD" else method
        values: list[bytes] = []
        node = _match(self._root, segments, 0, values, method)
        if node is None:
            node = _match(self._root, segments, 0, [], None)
            if node is None:
                raise UnknownRoute(f"there is nothing at `{_shown(path)}`", hint="`/docs` shows every route")
            allow = tuple(sorted(node.leaves))
            raise WrongMethod(f"`{method[:16]}` is not possible here", hint=f"use `{'`, `'.join(allow)}`", allow=allow)
        return Found(*node.leaves[method], tuple(_text(value) for value in values))

    def _add(self, route: Route, path: str, api: str) -> None:
        node = self._root
        for segment in path.split("/")[1:]:
            if segment.endswith("*}"):
                node.rest = node.rest or _Node()
                node = node.rest
            elif segment.startswith("{"):
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literals.setdefault(segment.encode(), _Node())
        node.leaves[route.method] = (route, api)


def _versioned(segments: list[bytes]) -> list[bytes]:
    """``/algorithm/<rest>`` without a version means the newest one."""
    if len(segments) > 1 and segments[0] == b"algorithm":
        first = segments[1]
        if first != b"latest" and not (first[:1] == b"v" and first[1:].isdigit()):
            return [segments[0], b"latest", *segments[1:]]
    return segments


def _match(node: _Node, segments: list[bytes], at: int, values: list[bytes], method: str | None) -> _Node | None:
    """The node at the end of the path that has *method* (None: any); a literal is preferred where a variable would do too."""
    if at == len(segments):
        return node if (method in node.leaves if method is not None else node.leaves) else None
    segment = segments[at]
    literal = node.literals.get(segment)
    found = _match(literal, segments, at + 1, values, method) if literal is not None else None
    if found is None and node.variable is not None and segment:
        values.append(segment)
        found = _match(node.variable, segments, at + 1, values, method)
        if found is None:
            values.pop()
    if found is None and node.rest is not None and segment and (method is None or method in node.rest.leaves):
        values.append(b"/".join(segments[at:]))
        return node.rest
    return found


def _text(segment: bytes) -> str:
    try:
        return unquote_to_bytes(segment).decode() if b"%" in segment else segment.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"`{_shown(segment)}` is not UTF-8", hint="percent-encode names as UTF-8") from error


def _shown(path: bytes) -> str:
    return path[:200].decode("ascii", "replace")
