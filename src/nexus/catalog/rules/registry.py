"""Rules about the registry as a whole: something is registered, generated files are fresh."""

from __future__ import annotations

from collections.abc import Iterator

from nexus.catalog import files as places
from nexus.catalog import owners
from nexus.catalog.rulebook import Problem, rule
from nexus.catalog.snapshot import Snapshot


@rule(
    "NX-C080",
    "registry-empty",
    "The registry holds no package",
    scope="registry",
    severity="warning",
    hint="start one: `nexus new package NAME --owner HANDLE`",
)
def empty(snapshot: Snapshot) -> Iterator[Problem]:
    """Nothing below `packages/`: either the registry is new, or the command runs in the wrong folder."""
    if not snapshot.packages:
        yield Problem(places.PACKAGES, "no package is registered")


@rule(
    "NX-C081",
    "codeowners-stale",
    "CODEOWNERS does not say what the owners of packages and models say",
    scope="registry",
    severity="warning",
    hint="write it again: `nexus get codeowners --output-file .github/CODEOWNERS`",
)
def codeowners_stale(snapshot: Snapshot) -> Iterator[Problem]:
    """GitHub asks code owners for review. The part between our two marker lines is generated from `owners` and `owner`; a
    `CODEOWNERS` without the markers is left alone, and nothing is said while a manifest that names owners is wrong itself."""
    path = next((path for path in places.CODEOWNERS if path in snapshot.files.contents), None)
    if path is None or owners.unsettled(snapshot):
        return
    text = snapshot.files.contents[path].decode("utf-8", errors="replace")
    if owners.is_generated(text) and owners.merged(text, owners.codeowners(snapshot)) != text:
        line = text[: text.index(owners.BEGIN)].count("\n") + 1
        yield Problem(path, "the generated part is not fresh", line=line)
