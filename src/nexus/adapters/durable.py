"""Files that are whole or not there, on disk when the call returns. Adapters that write small files do it here.

Not for the launcher of algorithms, which imports next to nothing, and not for objects and logs, which are streams.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Puts the file there under its name: a reader sees the old content or the new, after a crash too. Raises OSError.

    A file that is replaced keeps its mode; a new one has *mode*, less what the umask takes away.
    """
    kept = path.stat().st_mode & 0o777 if path.exists() else None
    temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}")  # of at most 255 bytes in any script
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "wb") as file:
            if kept is not None:
                os.fchmod(handle, kept)
            file.write(data)
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a crash of the machine. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
