"""The input of the catalogue: the files of a registry as ``{path: bytes}``, and which of them matter.

Adapters (``nexus.adapters.checkout``) fill it from a folder or a Git revision; everything after is pure. Paths are relative to
the registry, with ``/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PACKAGES = "packages"
BENCHMARKS = "benchmarks"
PROJECT = "pyproject.toml"
WAIVERS = "waivers.yaml"
EDIT = ".nexus-edit"  # the folder of an edit under way (`nexus.adapters.edits`)
CODEOWNERS = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")  # GitHub takes the first it finds
PACKAGE_FILE = "nexus.yaml"
MODEL_FILE = "model.yaml"
SPACE_FILE = "space.yaml"
SKILL_FILE = "SKILL.md"
USAGE_FILE = "usage.md"
ROOT_FILES = frozenset({PROJECT, WAIVERS, *CODEOWNERS})
_READ = frozenset({PACKAGE_FILE, MODEL_FILE, SPACE_FILE, SKILL_FILE, USAGE_FILE})
SKIPPED = frozenset({".git", "__pycache__", ".venv", "node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """A path that could not be read. ``kind``: ``unreadable``, ``unsettled``, ``link``, ``oversized`` or ``name``."""

    kind: str
    path: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """``contents`` holds what :func:`wanted` asks for, ``others`` the paths of all else, ``troubles`` what could not be read.

    The path of an empty folder ends with ``/``.
    """

    contents: Mapping[str, bytes] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    troubles: tuple[Trouble, ...] = ()

    def __contains__(self, path: str) -> bool:
        return path in self.contents or path in self.others


def wanted(path: str) -> bool:
    """Whether the content of this file matters; of all others only their being there does."""
    if path in ROOT_FILES:
        return True
    first, _, rest = path.partition("/")
    if first == BENCHMARKS:
        return "/" not in rest and rest.endswith((".yaml", ".yml"))
    return first == PACKAGES and path.rpartition("/")[2] in _READ
