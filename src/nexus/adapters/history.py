"""A registry's files, from the folder or from any Git revision without checking it out, and writes that are all or nothing.

Implements History of `nexus.variants.ports`. Runs the `git` command with the user's configuration of hooks, pagers and external
diffs left out; revisions and paths are passed as data, never as options.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nexus.adapters import checkout, git
from nexus.kernel.errors import NotARegistry, RegistryEditRefused, RevisionUnreadable
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
            found[path] = place.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise NotARegistry(f"`{path}` is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
        except OSError as error:
            raise NotARegistry(f"`{path}` cannot be read: {error.strerror}", hint="check its permissions") from None
    return found


def write_texts(root: Path, texts: Mapping[str, str | None]) -> None:
    """Writes every text (None removes the file), or nothing: all are on disk before the first takes its name.

    Raises RegistryEditRefused, with the registry as it was.
    """
    written: list[tuple[Path, Path]] = []
    try:
        for path, text in texts.items():
            if text is not None:
                written.append((_temporary(root / path, text), root / path))
        for temporary, place in written:
            temporary.replace(place)
        for path, text in texts.items():
            if text is None:
                (root / path).unlink(missing_ok=True)
        _sync_folder(root)
    except OSError as error:
        raise RegistryEditRefused(f"the registry cannot be written: {error}", hint="check its permissions and the disk") from error
    finally:
        for temporary, _ in written:
            temporary.unlink(missing_ok=True)


def _temporary(place: Path, text: str) -> Path:
    """A finished copy beside *place*, with the mode a new file would have."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    Path(name).chmod(place.stat().st_mode & 0o777 if place.exists() else 0o644)
    return Path(name)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
