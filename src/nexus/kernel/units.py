"""Quantities and durations as Kubernetes and Go write them, parsed exactly.

Sources: the Kubernetes API reference, "Quantity"; the Go documentation of ``time.ParseDuration``.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation

_SUFFIXES: dict[str, Decimal] = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_DURATION_UNITS_US: dict[str, Decimal] = {
    "ns": Decimal("0.001"), "us": Decimal(1), "µs": Decimal(1), "μs": Decimal(1), "ms": Decimal(1000),
    "s": Decimal(10**6), "m": Decimal(60 * 10**6), "h": Decimal(3600 * 10**6),
}  # fmt: skip
_SPAN = re.compile(rf"(?=.)(?:(\d{{1,5}})d)?((?:{_DURATION_PART.pattern})*)", re.ASCII)
_LONGEST = 64


def parse_quantity(text: str) -> Decimal:
    """The value of a Kubernetes quantity such as ``500m``, ``2Gi``, ``1e3``.

    Raises ValueError with a sentence that names the value.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(f"`{text[:_LONGEST]}` is not a quantity; examples: `500m`, `2`, `512Mi`, `1.5G`")
    digits, exponent, suffix = match.groups()
    try:
        value = Decimal(digits + (exponent or "")) * _SUFFIXES[suffix or ""]
    except InvalidOperation:
        raise ValueError(f"`{text}` is not a quantity: its exponent is out of range") from None
    if value.adjusted() > 24:  # its thousandths still fit the 28 digits decimals are counted with
        raise ValueError(f"`{text}` is larger than any machine")
    return value


def cpu_millicores(text: str) -> int:
    """Thousandths of a core, rounded up as Kubernetes does. Raises ValueError."""
    return -int(-parse_quantity(text) * 1000 // 1) if parse_quantity(text) >= 0 else _negative(text)


def memory_bytes(text: str) -> int:
    """Whole bytes, rounded up. Raises ValueError."""
    return -int(-parse_quantity(text) // 1) if parse_quantity(text) >= 0 else _negative(text)


def _negative(text: str) -> int:
    raise ValueError(f"`{text}` is negative")


def parse_duration(text: str) -> timedelta:
    """The length of a Go duration such as ``24h``, ``1h30m``, ``250ms``; whole microseconds. Raises ValueError."""
    total_us = Decimal(0)
    position = 0
    while position < len(text) <= _LONGEST:
        match = _DURATION_PART.match(text, position)
        if match is None:
            break
        total_us += Decimal(match[1]) * _DURATION_UNITS_US[match[2]]
        position = match.end()
    if position != len(text) or not text:
        raise ValueError(f"`{text[:_LONGEST]}` is not a duration; examples: `90s`, `24h`, `1h30m`")
    try:
        return timedelta(microseconds=int(total_us))
    except OverflowError:
        raise ValueError(f"`{text}` is longer than this service counts") from None


def parse_span(text: str) -> timedelta:
    """The length of time that a person gives: a Go duration, with days before it (``30d``, ``1d12h``), or in the words of
    :func:`format_duration`. Raises ValueError."""
    compact = text.replace(" ", "").replace("min", "m")
    match = _SPAN.fullmatch(compact) if len(compact) <= _LONGEST else None
    if match is None:
        raise ValueError(f"`{text[:_LONGEST]}` is not a duration; examples: `90s`, `1h30m`, `24h`, `30d`")
    days, rest = match[1], match[2]
    try:
        return timedelta(days=int(days or 0)) + (parse_duration(rest) if rest else timedelta())
    except OverflowError:
        raise ValueError(f"`{text}` is longer than this service counts") from None


def format_bytes(size_bytes: float) -> str:
    """For people: ``512 B``, ``1.5 MiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_duration(seconds: float) -> str:
    """For people: ``850 ms``, ``12.3 s``, ``4 min 05 s``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
