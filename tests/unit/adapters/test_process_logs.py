"""Bounded logs: the head and the newest tail, joined by a line that says what is missing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nexus.adapters.process.logs import BoundedLog, finish, read

LIMIT = 1600


def written(folder: Path, pieces: list[bytes]) -> bytes:
    log = BoundedLog(str(folder), "stdout", LIMIT)
    for piece in pieces:
        log.write(piece)
    log.finish(str(folder), "stdout")
    return (folder / "stdout").read_bytes()


@pytest.mark.parametrize("size", [0, 1, 799, 800, 801, 1000, 1599, 1600])
def test_what_fits_is_kept_whole(tmp_path: Path, size: int) -> None:
    """Output up to the limit is kept byte for byte, without a line of ours."""
    text = bytes(random.Random(size).randbytes(size))
    assert written(tmp_path, [text[:700], text[700:]]) == text
    assert [path.name for path in tmp_path.iterdir()] == ["stdout"]


@pytest.mark.parametrize("piece", [1, 7, 200, 5000])
def test_a_flood_keeps_head_and_tail(tmp_path: Path, piece: int) -> None:
    """Beyond the limit: the first half, a line, the newest bytes; the counted bytes add up, however it was written."""
    text = bytes(random.Random(piece).choices(b"abcdefgh", k=10_000))
    kept = written(tmp_path, [text[at : at + piece] for at in range(0, len(text), piece)])
    head, _, rest = kept.partition(b"\n[nexus: ")
    number, _, tail = rest.partition(b" bytes left out here]\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) + int(number) + len(tail) == len(text)
    assert len(head) == LIMIT // 2
    assert LIMIT * 3 // 8 <= len(tail) <= LIMIT // 2


def test_a_reader_never_sees_bytes_move(tmp_path: Path) -> None:
    """What was read at an offset while it grew is what is there at the end."""
    log = BoundedLog(str(tmp_path), "stderr", LIMIT)
    seen = b""
    for number in range(100):
        log.write(f"line {number:06d} {'.' * 40}\n".encode())
        seen += read(str(tmp_path), "stderr", len(seen), 1 << 20)
    log.finish(str(tmp_path), "stderr")
    seen += read(str(tmp_path), "stderr", len(seen), 1 << 20)
    assert seen == (tmp_path / "stderr").read_bytes()
    assert seen.endswith(b".\n")


def test_a_log_left_behind_is_finished_by_its_names(tmp_path: Path) -> None:
    """Who finds the files of a launcher that was killed joins them without knowing more; doing it twice changes nothing."""
    log = BoundedLog(str(tmp_path), "stdout", LIMIT)
    log.write(b"a" * 5000 + b"end")
    finish(str(tmp_path), "stdout")
    once = (tmp_path / "stdout").read_bytes()
    finish(str(tmp_path), "stdout")
    assert (tmp_path / "stdout").read_bytes() == once
    assert once.endswith(b"end")
    assert b" bytes left out here]\n" in once
