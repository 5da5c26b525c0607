"""The files that say something of a registry's variants, from the folder or from any Git revision without checking it out.

Implements History of `nexus.variants.ports`. Revisions and paths are passed to Git as data, never as options. They are written by
`nexus.adapters.edits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nexus.adapters import checkout, git
from nexus.kernel.errors import NotARegistry, RevisionUnreadable
from nexus.variants.ports import Commit

_MAX_FILE = 16 * 1024 * 1024
_LIMIT_S = 30


@dataclass(frozen=True, slots=True)
class GitHistory:
    """The history of the checkout that holds *root*; *root* may be a folder inside it."""

    root: Path

    def text(self, revision: str, path: str) -> str | None:
        """The file at *revision*; None when it is not there. Raises RevisionUnreadable."""
        commit = checkout.resolve_revision(self.root, revision)
        answer = self._git("cat-file", "blob", f"{commit}:./{path}")
        if not answer.ok:
            return None
        return answer.out[:_MAX_FILE].decode("utf-8", errors="replace")

    def commits(self, paths: Sequence[str], limit: int) -> Sequence[Commit]:
        """The commits that touched *paths*, newest first; empty where there is no Git checkout."""
        answer = self._git("log", f"--max-count={limit:d}", "--format=%H%x1f%an%x1f%aI%x1f%s%x1e", "--", *paths)
        found = []
        for record in answer.text.split("\x1e") if answer.ok else ():
            parts = record.strip().split("\x1f")
            if len(parts) == 4:
                found.append(Commit(id=parts[0], author=parts[1], at=datetime.fromisoformat(parts[2]), subject=parts[3]))
        return found

    def _git(self, *arguments: str) -> git.Answer:
        try:
            return git.run(*arguments, folder=self.root, time_limit_s=_LIMIT_S)
        except git.Unanswered as error:
            raise RevisionUnreadable(error.message, hint=error.hint) from error


def read_texts(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """The texts of those *paths* that are files. Raises NotARegistry for a file that cannot be read as text."""
    found = {}
    for path in paths:
        place = root / path
        if not place.is_file():
            continue
        if not place.resolve().is_relative_to(root.resolve()):
            raise NotARegistry(f"`{path}` is a link out of the registry", hint="replace the link by the file")
        try:
            if place.stat().st_size > _MAX_FILE:
                raise NotARegistry(f"`{path}` is larger than {_MAX_FILE} bytes")
            found[path] = place.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise NotARegistry(f"`{path}` is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
        except OSError as error:
            raise NotARegistry(f"`{path}` cannot be read: {error.strerror}", hint="check its permissions") from None
    return found
