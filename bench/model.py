"""What a measurement yields."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One row of the table. ``met``: whether the aim is reached; None where there is none."""

    what: str
    reached: str
    aim: str = "stated"
    how: str = ""
    met: bool | None = None

    def line(self) -> str:
        verdict = {True: "ok  ", False: "MISS", None: "    "}[self.met]
        return f"{verdict} {self.what}: {self.reached} (aim: {self.aim})"


def median(values: list[float]) -> float:
    """The middle value; the mean of the two middle ones."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values: list[float], share: float) -> float:
    """The value below which *share* (0–1) of the values lie; the nearest one."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
