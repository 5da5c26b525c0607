"""Bounded logs: the head of a stream and its newest tail, whatever the algorithm writes.

While the attempt runs, bytes go to `<stream>` until the head is full, then to `<stream>.tail-<offset>` files of which the
newest few are kept; the number is the position in the stream. `finish` appends to the head a line that says how many bytes
were left out, and the tail. So a reader's offsets never shift: it sees the head as it grows, and the rest at the end. The
state is in the names alone, so the engine can finish what a killed launcher left.

Loaded by the launcher: nothing but small modules of the standard library here, and no pathlib.
"""

from __future__ import annotations

import os

STREAMS = ("stdout", "stderr")
LAST_BYTES = 2048  # of a stream that are remembered for the record of a bad end
_TAIL_FILES = 4  # the newest four, each an eighth of the limit: the tail keeps between 3/8 and 4/8 of it


class BoundedLog:
    """Takes the bytes of one stream. A full disk loses bytes, never the attempt."""

    def __init__(self, folder: str, stream: str, limit_bytes: int) -> None:
        self._path = os.path.join(folder, stream)
        self._room = limit_bytes // 2
        self._chunk = max(limit_bytes // (2 * _TAIL_FILES), 1)
        self.last = b""
        self._position = 0
        self._tail: list[str] = []
        self._file_room = self._room
        self._fd = _open(self._path)

    def write(self, data: bytes) -> None:
        """Keeps *data*, and drops the oldest part of the tail for it if need be."""
        self.last = (self.last + data[-LAST_BYTES:])[-LAST_BYTES:]
        view = memoryview(data)
        while view:
            if not self._file_room:
                self._next_file()
            part = view[: self._file_room]
            self._put(part)
            view = view[len(part) :]
            self._position += len(part)
            self._file_room -= len(part)

    def finish(self, folder: str, stream: str) -> None:
        """Joins head and tail. Nothing may be written afterwards."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        finish(folder, stream)

    def _next_file(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        name = f"{self._path}.tail-{self._position:020d}"
        self._tail.append(name)
        if len(self._tail) > _TAIL_FILES:
            _unlink(self._tail.pop(0))
        self._fd = _open(name)
        self._file_room = self._chunk

    def _put(self, part: memoryview) -> None:
        try:
            while part and self._fd is not None:
                part = part[os.write(self._fd, part) :]
        except OSError:  # disk full or a file limit: these bytes are lost, the algorithm goes on
            return


def finish(folder: str, stream: str) -> None:
    """Appends the tail to the head, after a line that says what was left out. Does nothing when there is no tail."""
    prefix = f"{stream}.tail-"
    names = sorted(name for name in os.listdir(folder) if name.startswith(prefix))
    if not names:
        return
    try:
        with open(os.path.join(folder, stream), "ab") as head:
            missing = int(names[0][len(prefix) :]) - head.tell()
            if missing > 0:
                head.write(b"\n[nexus: %d bytes left out here]\n" % missing)
            for name in names:
                with open(os.path.join(folder, name), "rb") as tail:
                    head.write(tail.read())
    except OSError:  # disk full: the head stays readable as it is
        pass
    for name in names:
        _unlink(os.path.join(folder, name))


def read(folder: str, stream: str, offset: int, limit: int) -> bytes:
    """Bytes of a stream from *offset*, at most *limit*; empty when there are none (yet)."""
    try:
        fd = os.open(os.path.join(folder, stream), os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    try:
        return os.pread(fd, limit, offset)
    finally:
        os.close(fd)


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        return None


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
