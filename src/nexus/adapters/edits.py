"""Carries out a plan that changes a registry, all or nothing.

New contents are staged and synced first; then files and folders change places by renames, each of which is noted beforehand
in a journal. An error undoes what was done; after a crash the next edit of the same registry does (:func:`recover`). One edit
at a time: the ``packages`` folder is locked.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nexus.catalog.editing import Plan, Step
from nexus.kernel.errors import RegistryEditRefused

STAGE = ".nexus-edit"
_JOURNAL = "journal.json"


def apply(root: Path, plan: Plan) -> None:
    """Carries the plan out. Raises RegistryEditRefused, with nothing changed, when files changed since they were read."""
    with _locked(root):
        recover(root)
        _refuse_changed(root, plan)
        stage = root / STAGE
        (stage / "new").mkdir(parents=True)
        (stage / "old").mkdir()
        try:
            for number, step in enumerate(plan.steps):
                if step.kind == "write":
                    _write_synced(stage / "new" / str(number), step.after)
            _write_synced(stage / _JOURNAL, json.dumps([_entry(root, step) for step in plan.steps]).encode())
            _sync_folder(stage)
            for number, step in enumerate(plan.steps):
                _do(root, stage, number, step)
        except BaseException:
            recover(root)
            raise
        (stage / _JOURNAL).unlink()  # from here on the edit is done
        _sync_folder(root)
        shutil.rmtree(stage, ignore_errors=True)


def interrupted(root: Path) -> bool:
    """Whether an edit of this registry ended half-way; the next edit undoes it."""
    return (root / STAGE / _JOURNAL).exists()


def recover(root: Path) -> None:
    """Undoes an edit that was interrupted; does nothing when there is none. Safe to interrupt and repeat."""
    stage = root / STAGE
    with suppress(FileNotFoundError):
        entries: list[dict[str, Any]] = json.loads((stage / _JOURNAL).read_bytes())
        for number, entry in reversed(list(enumerate(entries))):
            _undo(root, stage, number, entry)
        (stage / _JOURNAL).unlink()
        _sync_folder(root)
    shutil.rmtree(stage, ignore_errors=True)


def write_file(path: Path, text: str) -> None:
    """Writes one file whole: a reader sees the old text or the new one. Raises RegistryEditRefused."""
    write_files({path: text})


def write_files(texts: Mapping[Path, str | None]) -> None:
    """Writes every text (None removes the file): all are on disk before the first takes its name, so a full disk changes nothing.

    Raises RegistryEditRefused. For files that are made again by the same command; what a person wrote is changed by :func:`apply`.
    """
    staged = {path: path.with_name(f".{path.name}.nexus-{os.getpid()}") for path, text in texts.items() if text is not None}
    try:
        for path, temporary in staged.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_synced(temporary, (texts[path] or "").encode())
            if path.exists():
                temporary.chmod(path.stat().st_mode & 0o777)
        for path, temporary in staged.items():
            temporary.replace(path)
        for path in texts.keys() - staged.keys():
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in texts}:
            _sync_folder(folder)
    except OSError as error:
        named = error.filename or next(iter(texts))
        raise RegistryEditRefused(
            f"`{named}` cannot be written: {error.strerror}", hint="check its permissions and the disk"
        ) from error
    finally:
        for temporary in staged.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    descriptor = os.open(root / "packages", os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RegistryEditRefused(
                f"another edit of `{root}` is going on", hint="run the command again when it has ended"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _refuse_changed(root: Path, plan: Plan) -> None:
    """Looks again at every file the plan was made from: it may have been edited since. No path may pass through a link."""
    moves = [step for step in plan.steps if step.kind == "move"]
    for step in plan.steps:
        place = root / step.path
        if step.kind == "write":
            source = place
            for move in moves:
                if step.path.startswith(f"{move.to}/"):
                    source = root / (move.path + step.path[len(move.to) :])
            found = source.read_bytes() if source.is_file() else None
            if found != step.before:
                raise RegistryEditRefused(f"`{step.path}` changed meanwhile", hint="nothing was written; run the command again")
        elif not place.is_dir() or place.is_symlink() or (step.kind == "move" and (root / step.to).exists()):
            raise RegistryEditRefused(
                f"`{step.path}` cannot be moved or deleted as it stands", hint="nothing was written; look at the folder"
            )
        _refuse_links(root, step.path)


def _refuse_links(root: Path, path: str) -> None:
    place = root
    for part in path.split("/"):
        place = place / part
        if place.is_symlink():
            raise RegistryEditRefused(f"`{place}` is a symbolic link", hint="nothing was written; edits never pass through links")


def _entry(root: Path, step: Step) -> dict[str, Any]:
    made = [str(folder.relative_to(root)) for folder in _missing_folders(root, step)]
    return {"kind": step.kind, "path": step.path, "to": step.to, "new": step.before is None, "made": made}


def _missing_folders(root: Path, step: Step) -> Sequence[Path]:
    target = root / (step.to or step.path)
    return [folder for folder in target.parents if folder != root and root in folder.parents and not folder.exists()]


def _do(root: Path, stage: Path, number: int, step: Step) -> None:
    place, old = root / step.path, stage / "old" / str(number)
    if step.kind == "move":
        place.rename(root / step.to)
    elif step.kind == "delete":
        place.rename(old)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        if step.before is not None:
            os.link(place, old)
        (stage / "new" / str(number)).replace(place)
    _sync_folder((root / (step.to or step.path)).parent)


def _undo(root: Path, stage: Path, number: int, entry: dict[str, Any]) -> None:
    place, old = root / entry["path"], stage / "old" / str(number)
    if entry["kind"] == "move":
        if not place.exists() and (root / entry["to"]).exists():
            (root / entry["to"]).rename(place)
    elif entry["kind"] == "delete":
        if old.exists():
            old.rename(place)
    elif old.exists():
        old.replace(place)
    elif entry["new"] and not (stage / "new" / str(number)).exists():  # its staged content has taken its place
        place.unlink(missing_ok=True)
    for folder in entry["made"]:
        with suppress(OSError):  # not empty, or never made
            (root / folder).rmdir()


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
