"""The files of an attempt, as launcher and engine both see them.

    attempts/<run id>/<attempt>/
        lock      who runs it: made once, exclusively, before the command starts; a held flock on it means alive
        cancel    it was asked to end; made by the engine
        exit      how it ended; made once
        stdout, stderr, <stream>.tail-<offset>   see `logs`
        scratch/  the algorithm's HOME, and its working directory unless the template names one

Loaded by the launcher: nothing but small modules of the standard library here, and no pathlib.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os

LOCK, CANCEL, EXIT, SCRATCH = "lock", "cancel", "exit", "scratch"


def write_once(path: str, content: bytes) -> None:
    """Makes *content* the file at *path*, whole or not at all, kept through a crash of the machine; the first writer wins."""
    temporary = f"{path}.{os.urandom(6).hex()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        _unlink(temporary)
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Makes the names in a folder survive a crash of the machine."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_record(folder: str, name: str) -> dict[str, object] | None:
    """The JSON object in a file of the attempt; None when there is no such file."""
    try:
        with open(os.path.join(folder, name), "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        record = json.loads(content)
    except ValueError:
        return {}  # torn by a crash of the machine: the caller sees a record that says nothing
    return record if isinstance(record, dict) else {}


def take_lock(folder: str, record: dict[str, object]) -> int | None:
    """The descriptor that holds the attempt's lock; None when another launcher took it first.

    The file appears under its name already locked and complete: it is written and flocked under another name, then linked.
    Everything is on disk when this returns, the folders above included, so that no crash makes a second start possible.
    """
    temporary = os.path.join(folder, f"{LOCK}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, json.dumps(record).encode())
        os.link(temporary, os.path.join(folder, LOCK))
    except OSError as error:
        os.close(fd)
        _unlink(temporary)
        if error.errno == errno.EEXIST:
            return None
        raise
    _unlink(temporary)
    os.fsync(fd)  # after the names, so that one commit of the file system's journal takes all of it
    for level in (folder, os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))):
        sync_folder(level)
    return fd


def is_held(folder: str) -> bool:
    """Whether a launcher holds the attempt's lock. A shared try, so that two who look do not mistake each other for it."""
    try:
        fd = os.open(os.path.join(folder, LOCK), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
