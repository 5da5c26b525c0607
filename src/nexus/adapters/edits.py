"""Carries out a plan that changes a registry, all or nothing.

New contents are staged and synced first; then files and folders change places by renames, each of which is noted beforehand
in a journal. An error undoes what was done; after a crash the next edit of the same registry does (:func:`recover`), and every
command says so (:func:`state`). One edit at a time: the registry's folder is locked.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.adapters import durable
from nexus.catalog import files
from nexus.kernel.errors import RegistryEditRefused

if TYPE_CHECKING:
    from nexus.catalog.editing import Plan, Step

STAGE = files.EDIT
_JOURNAL = "journal.json"
_DISK = "nothing was changed; check permissions and the disk"


def apply(root: Path, plan: Plan) -> None:
    """Carries the plan out. Raises RegistryEditRefused, with nothing changed, when files changed since they were read."""
    with _locked(root):
        recover(root)
        _refuse_changed(root, plan)
        stage = root / STAGE
        try:
            _stage(root, stage, plan)
            for number, step in enumerate(plan.steps):
                _do(root, stage, number, step)
            (stage / _JOURNAL).unlink()  # from here on the edit is done
        except OSError as error:
            recover(root)
            raise RegistryEditRefused(f"`{error.filename or root}` cannot be written: {error.strerror}", hint=_DISK) from error
        except BaseException:
            recover(root)
            raise
        with suppress(OSError):  # the edit is done, and what is left is swept up by the next
            durable.sync_folder(stage)
            shutil.rmtree(stage)


def state(root: Path) -> str:
    """What there is to say of an edit that has not ended: it goes on, or was interrupted and what undoes it; empty without one."""
    if not (root / STAGE / _JOURNAL).exists():
        return ""
    try:
        with _locked(root, fcntl.LOCK_SH):  # shared: two who only look do not take one another for an edit
            held = (root / STAGE / _JOURNAL).exists()
    except RegistryEditRefused:
        return "another command is editing this registry: what follows may be half of the edit"
    if not held:
        return ""
    undo = "the next `nexus new`, `rename`, `remove` or `variants resolve` undoes it first"
    return f"an edit of this registry was interrupted, and what follows may be half of it; {undo}"


def settle(root: Path) -> bool:
    """Undoes an interrupted edit before a command reads what it is going to change. Whether there was one.

    Raises RegistryEditRefused: another edit goes on, or this one cannot be undone.
    """
    if not (root / STAGE).exists():
        return False
    with _locked(root):
        held = (root / STAGE / _JOURNAL).exists()
        recover(root)
    return held


def recover(root: Path) -> None:
    """Undoes an edit that was interrupted; does nothing when there is none. Safe to interrupt and repeat.

    Raises RegistryEditRefused, with nothing undone, when a file was changed by hand since, or something cannot be written.
    """
    stage = root / STAGE
    try:
        if (stage / _JOURNAL).exists():
            entries: list[dict[str, Any]] = json.loads((stage / _JOURNAL).read_bytes())
            for number, entry in enumerate(entries):
                _refuse_touched(root, stage, number, entry)
            for number, entry in reversed(list(enumerate(entries))):
                _undo(root, stage, number, entry)
            (stage / _JOURNAL).unlink()
            durable.sync_folder(stage)
    except OSError as error:
        raise RegistryEditRefused(
            f"an interrupted edit cannot be undone: `{error.filename or stage}`: {error.strerror}",
            hint="check permissions and the disk, then run the command again: nothing is lost",
        ) from error
    shutil.rmtree(stage, ignore_errors=True)


def write_file(path: Path, text: str) -> None:
    """Writes one file whole: a reader sees the old text or the new one. Raises RegistryEditRefused."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, text.encode())
    except OSError as error:
        raise RegistryEditRefused(f"`{error.filename or path}` cannot be written: {error.strerror}", hint=_DISK) from error


@contextmanager
def _locked(root: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RegistryEditRefused(
                f"another edit of `{root}` is going on", hint="run the command again when it has ended"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _stage(root: Path, stage: Path, plan: Plan) -> None:
    """Everything the steps need, on disk; the journal appears last and whole, and only then does the first step begin."""
    (stage / "new").mkdir(parents=True)
    (stage / "old").mkdir()
    for number, step in enumerate(plan.steps):
        if step.kind == "write":
            _write_synced(stage / "new" / str(number), step.after)
    durable.sync_folder(stage / "new")
    durable.sync_folder(stage)
    durable.sync_folder(root)
    durable.write(stage / _JOURNAL, json.dumps([_entry(root, step) for step in plan.steps]).encode())


def _refuse_changed(root: Path, plan: Plan) -> None:
    """Looks again at every file the plan was made from: it may have been edited since. No path may pass through a link."""
    moves = [step for step in plan.steps if step.kind == "move"]
    for step in plan.steps:
        place = root / step.path
        if step.kind == "write" or step.before is not None:
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


def _refuse_touched(root: Path, stage: Path, number: int, entry: dict[str, Any]) -> None:
    """Refuses to undo over what somebody wrote since the edit was interrupted."""
    place, old, new = root / entry["path"], stage / "old" / str(number), stage / "new" / str(number)
    if entry["kind"] == "move":
        touched = place.exists() and (root / entry["to"]).exists()
    elif entry["kind"] == "delete":
        touched = place.exists() and old.exists()
    else:
        done = not new.exists() and (entry["new"] or old.exists())  # and not undone already
        touched = done and place.is_file() and hashlib.sha256(place.read_bytes()).hexdigest() != entry["after"]
    if touched:
        before = f"what it was before is `{old}`; " if old.exists() else ""
        raise RegistryEditRefused(
            f"`{entry['path']}` was changed by hand after an edit was interrupted, so that cannot be undone",
            hint=f"{before}put the registry right by hand, then delete `{stage}`",
        )


def _refuse_links(root: Path, path: str) -> None:
    place = root
    for part in path.split("/"):
        place = place / part
        if place.is_symlink():
            raise RegistryEditRefused(f"`{place}` is a symbolic link", hint="nothing was written; edits never pass through links")


def _entry(root: Path, step: Step) -> dict[str, Any]:
    made = [str(folder.relative_to(root)) for folder in _missing_folders(root, step)]
    after = hashlib.sha256(step.after).hexdigest()
    return {"kind": step.kind, "path": step.path, "to": step.to, "new": step.before is None, "after": after, "made": made}


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
        new = stage / "new" / str(number)
        if step.before is not None:
            new.chmod(place.stat().st_mode & 0o777)
            os.link(place, old)
        new.replace(place)
    durable.sync_folder((root / (step.to or step.path)).parent)


def _undo(root: Path, stage: Path, number: int, entry: dict[str, Any]) -> None:
    place, old = root / entry["path"], stage / "old" / str(number)
    if entry["kind"] == "move":
        if not place.exists() and (root / entry["to"]).exists():
            (root / entry["to"]).rename(place)
    elif entry["kind"] == "delete":
        if old.exists():
            old.rename(place)
    elif not (stage / "new" / str(number)).exists():  # its staged content has taken its place
        if old.exists():
            old.replace(place)
        elif entry["new"]:
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
