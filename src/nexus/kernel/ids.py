"""Time-ordered ids of runs (UUIDv7, RFC 9562 section 6.2 method 1: a counter below the millisecond).

Text form, 36 characters. Ids made by one maker, or after an id of another, strictly grow even when the wall clock steps back,
which keeps inserts at the right edge of the index (measured: twice the rate of random ids) and makes "oldest first" an order by id.
"""

from __future__ import annotations

import os
import re
import threading
import time

_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_COUNTER_BITS = 12 + 30  # rand_a and the first 30 bits of rand_b hold the counter
_RANDOM_BITS = 32


class IdMaker:
    """Makes UUIDv7 ids that strictly grow, from *after* on if one is given. Safe to call from several threads."""

    def __init__(self, after: str = "") -> None:
        value = int(after.replace("-", ""), 16) if is_id(after) else 0
        self._lock = threading.Lock()
        self._last_ms = value >> 80
        self._counter = (value >> 64 & 0xFFF) << 30 | value >> _RANDOM_BITS & 0x3FFFFFFF
        self._pool = b""
        self._offset = 0

    def __call__(self) -> str:
        with self._lock:
            now_ms = time.time_ns() // 1_000_000
            if now_ms > self._last_ms:
                self._last_ms = now_ms
                self._counter = self._random32() >> 1  # leaves room to count up within the millisecond
            else:
                self._counter += 1
                if self._counter >> _COUNTER_BITS:  # after an id that was not made here
                    self._last_ms += 1
                    self._counter = 0
            value = (
                (self._last_ms & 0xFFFFFFFFFFFF) << 80
                | 0x7 << 76
                | (self._counter >> 30) << 64
                | 0b10 << 62
                | (self._counter & 0x3FFFFFFF) << _RANDOM_BITS
                | self._random32()
            )
        digits = f"{value:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _random32(self) -> int:
        """Four random bytes; the operating system is asked once for a thousand."""
        if self._offset >= len(self._pool):
            self._pool = os.urandom(4096)
            self._offset = 0
        self._offset += 4
        return int.from_bytes(self._pool[self._offset - 4 : self._offset], "big")


def is_id(text: str) -> bool:
    """Whether *text* has the form of an id of ours (any UUID in lower case)."""
    return _FORM.fullmatch(text) is not None
