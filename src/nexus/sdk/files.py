"""Results in files: whole or not at all, and never over a file that was not meant. Called by the client's downloads."""

from __future__ import annotations

import asyncio
import os
import stat
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from nexus.kernel.errors import Conflict, InvalidInput


async def store(pieces: AsyncIterator[bytes], path: Path, *, overwrite: bool) -> int:
    """Writes *pieces* to a file, on disk and under its name when this returns, and returns its size in bytes.

    A symbolic link is followed. What exists and is no regular file, such as a pipe or a terminal, is written into as it is.
    Raises Conflict when the file exists and may not be overwritten, InvalidInput when it cannot be written.
    """
    try:
        target, mode = _look(path)
        if mode is not None and not stat.S_ISREG(mode):
            with await asyncio.to_thread(path.open, "wb") as stream:  # a pipe is open when somebody reads it
                return await _copy(pieces, stream)
        if mode is not None and not overwrite:
            raise _exists(path)
        return await _store(pieces, target, overwrite=overwrite)
    except OSError as error:
        raise InvalidInput(f"`{path}` cannot be written: {error.strerror or error}") from error


async def _store(pieces: AsyncIterator[bytes], target: Path, *, overwrite: bool) -> int:
    partial = target.with_name(f".{target.name[:200]}.{uuid.uuid4().hex[:8]}.part")
    try:
        with partial.open("xb") as file:
            size = await _copy(pieces, file)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        if overwrite or not _link(partial, target):
            partial.replace(target)
        return size
    finally:
        partial.unlink(missing_ok=True)


async def _copy(pieces: AsyncIterator[bytes], to: BinaryIO) -> int:
    size = 0
    async for piece in pieces:
        await asyncio.to_thread(to.write, piece)
        size += len(piece)
    return size


def _link(partial: Path, target: Path) -> bool:
    """Gives a file its second name, which a rename would do over a file that came meanwhile; False where no file has two."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError:
        if target.exists():
            raise _exists(target) from None
        return False
    return True


def _look(path: Path) -> tuple[Path, int | None]:
    """The file a path leads to, and what it is; None when there is none yet."""
    try:
        return Path(os.path.realpath(path)), path.stat().st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path)), None


def _exists(path: Path) -> Conflict:
    return Conflict(f"`{path}` exists", hint="name another file, or allow that it is overwritten")
