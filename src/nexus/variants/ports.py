"""What the variants slice needs from the world: a resolver, package metadata, the history of a registry.

The CLI and the wiring hand in adapters (`nexus.adapters.uv`, `nexus.adapters.packageindex`, `nexus.adapters.history`); decisions
in this slice take the values below. All ports block: callers that live in an event loop use a thread.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from nexus.variants.pins import Pin


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """Core metadata of one release. ``text`` is the METADATA file itself, for rules that need more than these fields."""

    name: str  # normalised (PEP 503)
    version: str
    requires_dist: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    requires_python: str = ""
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """One version an index offers. ``uploaded_at`` is None where the index does not say."""

    version: str
    files: tuple[str, ...] = ()  # file names: wheels and source archives
    requires_python: str = ""
    uploaded_at: datetime | None = None
    yanked: bool = False


class PackageMetadata(Protocol):
    """Reads what an index says of a package, without building or importing it.

    M1  releases() of an unknown package raises MetadataUnavailable.  M2  metadata() never runs code of the package.
    M3  A network failure raises MetadataUnavailable and is never an empty answer.  M4  Credentials never stand in an error.
    """

    def releases(self, name: str) -> Sequence[Release]:
        """Every release of *name*, oldest first (PEP 440 order)."""
        ...

    def metadata(self, name: str, version: str) -> Metadata:
        """The metadata of one release, from a wheel where there is one."""
        ...

    def source(self, name: str, url: str) -> Metadata:
        """The metadata of a Git source pinned by commit (`git+https://…@<commit>`), as its `pyproject.toml` declares it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One question to the resolver: these requirements together, for every platform and Python from ``python`` on."""

    name: str  # of the registry's project; stands as the root in `# via` comments
    requirements: tuple[str, ...]
    python: str  # lowest Python, such as `3.11`
    requires_python: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)  # of `[tool.uv]`, sources included, paths absolute
    overrides: tuple[str, ...] = ()  # requirements that replace what packages declare
    preferences: tuple[Pin, ...] = ()  # kept where they still fit
    upgrade: tuple[str, ...] = ()  # packages whose preference is dropped
    exclude_newer: str = ""
    dependencies: bool = True  # False: the named packages alone
    build: bool = False  # True: source archives may be built, which runs their code

    def key(self) -> str:
        """The same text for the same question."""
        kept = sorted(pin.line() for pin in self.preferences)
        question = [
            self.name,
            sorted(self.requirements),
            self.python,
            self.requires_python,
            self.settings,
            sorted(self.overrides),
            kept,
        ]
        choices = [sorted(self.upgrade), self.exclude_newer, self.dependencies, self.build]
        return json.dumps([question, choices], sort_keys=True, default=str)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """The question has an answer: one pin a package (several where markers part them), by name."""

    pins: tuple[Pin, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsatisfiable:
    """The question has no answer; ``proof`` is the resolver's own derivation, as text."""

    proof: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A machine a variant must install on: a Python such as ``3.12`` and a platform as uv names it."""

    python: str
    platform: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Installable:
    """Whether pins install on a target: ``problem`` says why not; ``built`` names those that have no wheel and would be built."""

    problem: str = ""
    built: tuple[str, ...] = ()


class Resolver(Protocol):
    """Resolves, and says whether pins install.

    R1  resolve() answers Unsatisfiable only when there is no solution; an index or process failure raises ResolverUnavailable.
    R2  Nothing is installed and no interpreter is downloaded.  R3  Calls end within the adapter's time limit.
    R4  Credentials never stand in a result or an error.
    """

    def resolve(self, problem: Problem, *, limit_s: float = math.inf) -> Resolution | Unsatisfiable:
        """The answer, within *limit_s* seconds too."""
        ...

    def install_check(self, pins: Sequence[Pin], target: Target) -> Installable:
        """Whether the pins install on *target*, by a dry run."""
        ...


class Locker(Protocol):
    """Keeps a registry's own `uv.lock`. The files of the registry are read and never written.

    L1  is_fresh() is an empty text when the lock answers the declaration, else the reason.  L2  lock() raises as resolve() does.
    """

    def is_fresh(self, root: str) -> str: ...

    def lock(self, root: str, *, upgrade: Sequence[str] | None = ()) -> str | Unsatisfiable:
        """The text of a renewed lock; *upgrade* None renews every package."""
        ...

    def export(self, root: str, extra: str, lock: str) -> tuple[Pin, ...]:
        """What the lock text pins for one extra."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """One change of the registry, as Git tells it."""

    id: str
    author: str
    at: datetime
    subject: str


class History(Protocol):
    """Reads a registry at any revision, without checking it out."""

    def text(self, revision: str, path: str) -> str | None:
        """The file at *revision*; None when it does not exist there. Raises RevisionUnreadable."""
        ...

    def commits(self, paths: Sequence[str], limit: int) -> Sequence[Commit]:
        """The commits that touched *paths*, newest first; empty where the folder is no Git checkout."""
        ...
