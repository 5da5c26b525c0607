"""Time as an argument: a clock is injected wherever time decides something, and tests inject a virtual one.

Instants are aware ``datetime`` in UTC; on disk they are whole microseconds since the epoch, on the wire RFC 3339 of fixed
width (27 characters, ``Z``), so that they sort as text.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Wall time for records, monotonic time for measuring."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow, whatever happens to the wall clock."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class SteadyClock:
    """A clock nobody sets: what it was at *origin*, and the time since the machine started.

    For what is promised to last so long, like signed URLs; not for records, which people compare with other clocks.
    """

    def __init__(self, origin: datetime) -> None:
        self._origin = origin

    def now(self) -> datetime:
        return self._origin + timedelta(seconds=since_boot_s())

    def monotonic(self) -> float:
        return time.monotonic()


def since_boot_s() -> float:
    """Seconds since the machine started, its sleep included where the system counts it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def to_microseconds(instant: datetime) -> int:
    """Whole microseconds since the epoch, exactly."""
    return (instant - EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The instant *value* microseconds after the epoch, exactly."""
    return EPOCH + timedelta(microseconds=value)


def rfc3339(instant: datetime) -> str:
    """``2026-11-21T13:30:00.123456Z``: always microseconds, always UTC, sorts as text."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
