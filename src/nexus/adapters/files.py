"""Objects as files of one folder: large payloads and results of the embedded service.

An object is written to a spool file, made durable, and only then given its name by a hard link, which fails when the name is
taken; names are fsynced with every folder that is new. Folders are walked by descriptor and no symbolic link is followed,
because algorithms write into their own result folders. Disk work runs in the default executor in pieces, so neither the
event loop nor the memory knows how large an object is.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from nexus.kernel.errors import NexusError, NoSpace, Unavailable
from nexus.runs.keeping import check_key, no_object, object_exists

T = TypeVar("T")

WRITE_BYTES = 1 << 20
READ_BYTES = 256 << 10
_SPOOL = ".spool"
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class FileObjects:
    """Keeps objects as files under *root*, which it makes; spools an earlier process left behind are removed.

    One process at a time: the data folder's lock sees to that. Raises NoSpace or Unavailable when the folder cannot be made.
    """

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root)
        self._durable: set[str] = set()  # first-level folders whose name this process has seen reach the disk
        with _translated(self._root):
            spools = self._root / _SPOOL
            spools.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in spools.iterdir():
                leftover.unlink()

    @asynccontextmanager
    async def spool(self) -> AsyncIterator[FileSpool]:
        """A new object; it is gone on leaving unless it was committed."""
        spool = FileSpool(self)
        try:
            yield spool
        finally:
            await _in_thread(spool.discard)

    async def read(self, key: str, *, offset: int = 0, size_bytes: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of an object in pieces of 256 KiB. Raises NotFound before the first piece."""
        handle = await _in_thread(self._open, key)
        try:
            position = offset
            end = None if size_bytes is None else offset + size_bytes
            while end is None or position < end:
                piece = await _in_thread(handle.read, READ_BYTES if end is None else min(READ_BYTES, end - position), position)
                if not piece:
                    return
                position += len(piece)
                yield piece
        finally:
            handle.close()

    async def size(self, key: str) -> int | None:
        """The object's size in bytes; None when there is none."""
        return await _in_thread(self._size, key)

    async def delete(self, key: str) -> None:
        """Removes an object, durably; none is no error."""
        await _in_thread(self.remove, key)

    async def names(self, folder: str) -> list[str]:
        """The names of the objects directly in *folder*."""
        return await _in_thread(self._names, folder)

    # ── in threads ────────────────────────────────────────────────────────────────────────────────────────────────────

    def new_spool(self) -> _Handle:
        """A new spool file, open for reading and writing."""
        path = self._root / _SPOOL / uuid4().hex
        with _translated(self._root):
            return _Handle(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), path)

    def name(self, spool: Path, key: str) -> None:
        """Gives the (durable) spool file its name, durably. Raises Conflict when the name is taken."""
        parts = check_key(key)
        with _translated(self._root), self._folder(parts[:-1], make=True) as folders:
            try:
                os.link(spool, parts[-1], dst_dir_fd=folders[-1], follow_symlinks=False)
            except FileExistsError:
                raise object_exists(key) from None
            try:
                self._sync(parts, folders)
            except BaseException:
                os.unlink(parts[-1], dir_fd=folders[-1])
                raise

    def remove(self, key: str) -> None:
        parts = check_key(key)
        with _translated(self._root):
            try:
                with self._folder(parts[:-1]) as folders:
                    os.unlink(parts[-1], dir_fd=folders[-1])
                    os.fsync(folders[-1])
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise

    def _names(self, folder: str) -> list[str]:
        with _translated(self._root):
            try:
                with self._folder(check_key(folder)) as folders, os.scandir(folders[-1]) as entries:
                    return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
            except OSError as error:
                if error.errno in _NOT_THERE:
                    return []
                raise

    def _sync(self, parts: tuple[str, ...], folders: list[int]) -> None:
        """Brings the entry, and the names of the folders on its way, to the disk; the deepest first."""
        for level in range(len(folders) - 1, -1, -1):
            if level == 0 and len(folders) > 1 and parts[0] in self._durable:
                break
            os.fsync(folders[level])
        if len(folders) > 1:
            self._durable.add(parts[0])

    def _open(self, key: str) -> _Handle:
        parts = check_key(key)
        with _translated(self._root):
            try:
                with self._folder(parts[:-1]) as folders:
                    # an algorithm may have put a pipe there: do not wait for its writer
                    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                    descriptor = os.open(parts[-1], flags, dir_fd=folders[-1])
            except OSError as error:
                if error.errno in _NOT_THERE or error.errno == errno.ENXIO:
                    raise no_object(key) from None
                raise
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise no_object(key)
        return _Handle(descriptor, self._root)

    def _size(self, key: str) -> int | None:
        parts = check_key(key)
        with _translated(self._root):
            try:
                with self._folder(parts[:-1]) as folders:
                    found = os.stat(parts[-1], dir_fd=folders[-1], follow_symlinks=False)
            except OSError as error:
                if error.errno in _NOT_THERE:
                    return None
                raise
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    @contextmanager
    def _folder(self, parts: tuple[str, ...], *, make: bool = False) -> Iterator[list[int]]:
        """Descriptors of the root and of each folder on the way, none of them a symbolic link."""
        folders = [os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            for part in parts:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=folders[-1])
                folders.append(os.open(part, _FOLDER_FLAGS, dir_fd=folders[-1]))
            yield folders
        finally:
            for folder in folders:
                os.close(folder)


class FileSpool:
    """An object being written. Small chunks are gathered, so that a piece costs one hop to a thread."""

    def __init__(self, objects: FileObjects) -> None:
        self._objects = objects
        self._handle: _Handle | None = None
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self._size_bytes = 0
        self._maps: list[mmap.mmap] = []
        self._lock = threading.Lock()  # an interrupted call may still be at work in its thread when the next one comes
        self._sealed = False  # committed, or a write failed: what it holds is not to be touched
        self._named: str | None = None  # what a commit has linked
        self._kept = False  # whether its caller knows

    async def write(self, chunk: bytes) -> None:
        """Appends *chunk*. Raises NoSpace."""
        self._buffer.append(chunk)
        self._buffered_bytes += len(chunk)
        if self._buffered_bytes >= WRITE_BYTES:
            await _in_thread(self._flush)

    def view(self) -> memoryview:
        """What was written so far, mapped. Release it before leaving the context."""
        self._flush()
        if not self._size_bytes or self._handle is None:
            return memoryview(b"")
        mapped = mmap.mmap(self._handle.descriptor, self._size_bytes, access=mmap.ACCESS_READ)
        self._maps.append(mapped)
        return memoryview(mapped)

    async def commit(self, key: str) -> int:
        """Makes the object durable under *key* and returns its size. Raises NoSpace, Conflict when the key exists."""
        await _in_thread(self._commit, key)
        self._kept = True
        return self._size_bytes

    def discard(self) -> None:
        """Closes and forgets the spool; an object whose commit was interrupted goes with it. Called once, in a thread."""
        with self._lock:
            for mapped in self._maps:
                with suppress(BufferError):  # somebody still holds a view: it is unmapped when they let go
                    mapped.close()
            self._buffer.clear()
            if self._handle is not None:
                self._handle.close()
                self._handle.path.unlink(missing_ok=True)
            if self._named is not None and not self._kept:
                self._objects.remove(self._named)

    def _flush(self) -> None:
        with self._lock:
            self._write_out()

    def _commit(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self._write_out()
            handle = self._opened()
            handle.sync()
            self._objects.name(handle.path, key)
            self._named = key
            self._sealed = True

    def _write_out(self) -> None:
        if not self._buffer:
            return
        handle = self._opened()
        chunks, self._buffer, self._buffered_bytes = self._buffer, [], 0
        try:
            for chunk in chunks:
                handle.write(chunk)
                self._size_bytes += len(chunk)
        except BaseException:
            self._sealed = True
            raise

    def _opened(self) -> _Handle:
        if self._sealed:
            raise Unavailable("this object takes no more: it is committed, or a write of it failed", hint="begin a new one")
        if self._handle is None:
            self._handle = self._objects.new_spool()
        return self._handle


class _Handle:
    """A descriptor that is never closed under a thread that uses it: its number may be another file's a moment later."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.path = path
        self._lock = threading.Lock()

    def read(self, size_bytes: int, offset: int) -> bytes:
        with self._lock, _translated(self.path):
            return os.pread(self.descriptor, size_bytes, offset)

    def write(self, chunk: bytes) -> None:
        with self._lock, _translated(self.path):
            view = memoryview(chunk)
            while view:
                view = view[os.write(self.descriptor, view[:WRITE_BYTES]) :]

    def sync(self) -> None:
        with self._lock, _translated(self.path):
            os.fsync(self.descriptor)

    def close(self) -> None:
        with self._lock:
            if self.descriptor >= 0:
                os.close(self.descriptor)
                self.descriptor = -1


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unusable(error, path) from error


def unusable(error: OSError, path: Path) -> NexusError:
    """What a caller sees for an error of the file system at *path*."""
    if error.errno in _FULL:
        return NoSpace(
            "the disk is full; nothing of this object was kept",
            hint="free some space; the service goes on by itself, no restart is needed",
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Unavailable(f"the files under `{path}` cannot be used: {reason}", hint="`nexus doctor` checks the data folder")
