"""Which attempts there are, without walking over all that are kept.

    live/<run id>.<attempt>          from before the attempt is begun until some seconds after its end was told
    ended/<hour>/<run id>.<attempt>  after that; its time is the end's

Empty files, on disk when the machine gets to it: what an attempt is stands in its own folder, and one whose mark a crash of
the machine took is marked again when it is looked at. So a start and a look at what lives cost what lives and what ended just
now, and finding what is old enough to be forgotten costs what is found. Blocking, some microseconds for each attempt. Used by
`engine` alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from nexus.adapters.process import attempts, folders
from nexus.adapters.process.attempts import Key

_HOUR_S = 3600


class Index:
    """The marks below *folder*."""

    def __init__(self, folder: Path) -> None:
        self._live = folder / "live"
        self._ended = folder / "ended"

    def open(self, kept: Path) -> None:
        """Makes the folders. When they were not there, marks every attempt below *kept*: what has no record of its end may live."""
        self._ended.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._live.is_dir():
            return
        making = self._live.with_name("live.new")
        making.mkdir(exist_ok=True, mode=0o700)
        for key in attempts.walk(kept):
            (making / _name(key)).touch(0o600)
        making.rename(self._live)
        self.settle((key, end.ended_at) for key in self.live() if (end := attempts.read_exit(str(kept / key[0] / str(key[1])))))

    def add(self, key: Key) -> None:
        """Marks an attempt that is about to begin."""
        (self._live / _name(key)).touch(0o600)

    def live(self) -> list[Key]:
        """Attempts that are alive, or may be, or ended just now, or were cancelled before they began; oldest run first."""
        return sorted(key for name in attempts.names(self._live) if (key := _key(name)))

    def settle(self, ends: Iterable[tuple[Key, datetime]]) -> None:
        """Marks attempts as ended then."""
        for key, ended_at in ends:
            mark = self._live / _name(key)
            mark.touch(0o600)
            seconds = ended_at.timestamp()
            os.utime(mark, (seconds, seconds))
            hour = self._hour(ended_at)
            try:
                mark.rename(hour / mark.name)
            except FileNotFoundError:  # the first of its hour
                hour.mkdir(exist_ok=True, mode=0o700)
                mark.rename(hour / mark.name)

    def old(self, before: datetime, kept: Path) -> list[Key]:
        """Attempts that ended, or were cancelled without having begun, before that moment, oldest run first.

        Marks of attempts that have no folder below *kept* are removed.
        """
        seconds = before.timestamp()
        last = int(seconds // _HOUR_S)
        hours = [self._ended / name for name in attempts.names(self._ended) if name.isdigit() and int(name) <= last]
        found = []
        for folder in (self._live, *hours):
            for key, mark in _marks_before(folder, seconds):
                place = kept / key[0] / str(key[1])
                if not place.is_dir():
                    mark.unlink(missing_ok=True)
                elif folder is not self._live or not (place / folders.LOCK).exists():
                    found.append(key)
            if folder is not self._live:
                with contextlib.suppress(OSError):  # some of its marks are young, or not forgotten yet
                    folder.rmdir()
        return sorted(found)

    def remove(self, key: Key, ended_at: datetime | None) -> None:
        """Forgets an attempt; *ended_at* is None when it never ended."""
        (self._live / _name(key)).unlink(missing_ok=True)
        if ended_at is not None:
            (self._hour(ended_at) / _name(key)).unlink(missing_ok=True)

    def _hour(self, moment: datetime) -> Path:
        return self._ended / str(max(int(moment.timestamp() // _HOUR_S), 0))


def _marks_before(folder: Path, seconds: float) -> list[tuple[Key, Path]]:
    """Attempts and their marks in *folder* of a time before *seconds*; none of those that are settled meanwhile."""
    found = []
    for name in attempts.names(folder):
        key, mark = _key(name), folder / name
        with contextlib.suppress(FileNotFoundError):
            if key is not None and mark.stat().st_mtime < seconds:
                found.append((key, mark))
    return found


def _name(key: Key) -> str:
    return f"{key[0]}.{key[1]}"


def _key(name: str) -> Key | None:
    """The attempt a mark is of; None for a file that is no mark."""
    run_id, _, attempt = name.rpartition(".")
    return (run_id, int(attempt)) if run_id and attempt.isdigit() else None
