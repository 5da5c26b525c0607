"""Reads what a Git source declares of itself at one commit, without building it: the static `[project]` table.

Fetches that commit alone into a throw-away folder and reads one file of it; nothing is checked out, no hook runs, and Git asks for
no password. Used by `nexus.adapters.packageindex` for members that come from Git.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
import tomllib
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nexus.adapters import git
from nexus.kernel.errors import MetadataUnavailable
from nexus.variants.ports import Metadata

_URL = re.compile(
    r"git\+(?P<address>(?:https|ssh|file)://[^\s#]+?)@(?P<commit>[0-9a-f]{40})(?:#(?:.*&)?subdirectory=(?P<folder>[^&\s]+).*)?(?:#.*)?"
)
_SECRET = re.compile(r"(?<=://)[^/@\s]+@")
_MAX_BYTES = 1024 * 1024


def read(name: str, url: str, *, time_limit_s: float) -> Metadata:
    """The metadata of the source at its commit. Raises MetadataUnavailable, also when it is known only after a build."""
    match = _URL.fullmatch(url)
    if match is None:
        raise MetadataUnavailable(f"`{_SECRET.sub('', url)}` is not Git pinned by a full commit", hint="resolve the variant again")
    path = posixpath.normpath(posixpath.join(match["folder"] or "", "pyproject.toml"))
    with tempfile.TemporaryDirectory(prefix="nexus-git-") as folder:
        _git(folder, time_limit_s, "init", "--quiet", "--bare", ".")
        wanted = ("--end-of-options", match["address"], match["commit"])
        _git(folder, time_limit_s, "fetch", "--quiet", "--depth=1", "--no-tags", *wanted)
        text = _git(folder, time_limit_s, "cat-file", "blob", f"{match['commit']}:{path}")
    return _declared(name, match["commit"], text)


def _declared(name: str, commit: str, text: bytes) -> Metadata:
    try:
        project = tomllib.loads(text[:_MAX_BYTES].decode("utf-8")).get("project")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MetadataUnavailable(f"the `pyproject.toml` of `{name}` at {commit[:12]} is not valid TOML: {error}") from error
    dynamic = project.get("dynamic", []) if isinstance(project, dict) else ["dependencies"]
    if not isinstance(project, dict) or not {"dependencies", "optional-dependencies"}.isdisjoint(dynamic):
        raise MetadataUnavailable(
            f"the dependencies of `{name}` at {commit[:12]} are known only after a build",
            hint="register a release that has a wheel",
        )
    extras = project.get("optional-dependencies", {})
    asked = [str(text) for text in project.get("dependencies", [])]
    asked += [_with_extra(str(text), extra) for extra, texts in extras.items() for text in texts]
    return Metadata(
        name=canonicalize_name(str(project.get("name", name))), version=str(project.get("version", commit[:12])),
        requires_dist=tuple(asked), extras=tuple(extras), requires_python=str(project.get("requires-python", "")),
    )  # fmt: skip


def _with_extra(text: str, extra: str) -> str:
    """The requirement as core metadata writes it: with a marker that names its extra."""
    try:
        requirement: Any = Requirement(text)
    except InvalidRequirement:
        return text
    marker = f"({requirement.marker}) and " if requirement.marker is not None else ""
    requirement.marker = None
    return f'{requirement} ; {marker}extra == "{extra}"'


def _git(folder: str, time_limit_s: float, *arguments: str) -> bytes:
    try:
        answer = git.run(*arguments, folder=folder, time_limit_s=time_limit_s, protocols=git.REMOTE)
    except git.Unanswered as error:
        raise MetadataUnavailable(error.message, hint=error.hint) from error
    if not answer.ok:
        raise MetadataUnavailable(f"Git could not read the source: {answer.reason}", hint="check the address and the network")
    return answer.out
