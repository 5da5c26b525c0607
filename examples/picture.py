"""The picture of a demo: maps of the depots, what was read wrong, the search's curve, and when each run waited and ran.

Pure: values in, SVG text out. Called by :mod:`examples.demo`. No drawing library, so that a picture costs nothing to install.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

WIDTH = 1240
MARGIN = 48
INK, FAINT, GRID, PAPER = "#1f2933", "#7b8794", "#e4e7eb", "#ffffff"
COLOURS = ("#3b6fb6", "#e07b39", "#3f9b65", "#c8485a", "#8a63b0", "#2f9da3", "#c9a227", "#6b7a8f")
ACCENT = COLOURS[0]
NAMES = {
    "BR": "Brazil", "DE": "Germany", "ES": "Spain", "FR": "France", "GB": "United Kingdom", "IN": "India", "IT": "Italy",
    "JP": "Japan", "PL": "Poland", "TR": "Türkiye",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Span:
    """When a run came, started and ended, in seconds since the first came."""

    algorithm: str
    came_s: float
    started_s: float
    ended_s: float


@dataclass(frozen=True, kw_only=True)
class Box:
    """A place to draw in."""

    x: float
    y: float
    width: float
    height: float


def draw(plans: Sequence[dict[str, Any]], readings: Sequence[dict[str, Any]], found: dict[str, Any], spans: Sequence[Span]) -> str:
    """The picture as SVG. *plans*, *readings* and *found* are results of the examples depots, digits and tree."""
    parts: list[str] = []
    y = 108.0
    parts += _heading(y, "Depots", "where to put them so that people are near one: largest cities, proven optimal by HiGHS")
    y += 18
    cell = (WIDTH - 2 * MARGIN - 2 * 32) / 3
    for index, plan in enumerate(plans):
        row, column = divmod(index, 3)
        parts += _map(plan, Box(x=MARGIN + column * (cell + 32), y=y + row * 292, width=cell, height=280))
    y += math.ceil(len(plans) / 3) * 292 + 44
    half = (WIDTH - 2 * MARGIN - 56) / 2
    parts += _heading(y, "Digits", "share of unseen images read right, and images that were not")
    parts += _heading(y, "Tree", "a parent tries each value of gamma in child runs", x=MARGIN + half + 56)
    parts += _accuracies(readings, Box(x=MARGIN, y=y + 26, width=half, height=30.0 * len(readings)))
    parts += _misread(readings, Box(x=MARGIN, y=y + 26 + 30 * len(readings) + 28, width=half, height=70))
    below = 26 + 30 * len(readings) + 104
    parts += _curve(found, Box(x=MARGIN + half + 56 + 40, y=y + 30, width=half - 40, height=below - 66))
    y += below + 40
    parts += _heading(y, "Runs", "when each waited (light) and ran (solid)")
    line = 7 if len(spans) > 24 else 10
    parts += _timeline(spans, Box(x=MARGIN, y=y + 22, width=WIDTH - 2 * MARGIN, height=float(line * len(spans))))
    height = y + 22 + line * len(spans) + 78
    took = max(span.ended_s for span in spans)
    title = [
        _text(MARGIN, 50, "Nexus", size=28, weight=700),
        _text(MARGIN, 74, f"{len(spans)} runs of three algorithms in {took:.0f} s, by `make demo`", size=14, colour=FAINT),
        _text(MARGIN, height - 20, "Cities: GeoNames (geonames.org), CC BY 4.0. Digits: scikit-learn, UCI (Alpaydin, Kaynak).",
              size=11, colour=FAINT),
    ]  # fmt: skip
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}" '
        'font-family="Inter, Helvetica, Arial, DejaVu Sans, sans-serif">'
    )
    return "\n".join([head, f'<rect width="100%" height="100%" fill="{PAPER}"/>', *title, *parts, "</svg>"]) + "\n"


# ── panels ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _map(plan: dict[str, Any], box: Box) -> list[str]:
    """A country's cities, each joined to its depot."""
    cities, serves = plan["cities"], plan["serves"]
    at = _projection(cities, Box(x=box.x, y=box.y + 44, width=box.width, height=box.height - 52))
    depots = sorted(set(serves))
    colours = {depot: COLOURS[index % len(COLOURS)] for index, depot in enumerate(depots)}
    largest = max(city["population"] for city in cities)
    parts = [
        _text(box.x, box.y + 18, NAMES.get(plan["country"], plan["country"]), size=14, weight=600),
        _text(box.x, box.y + 35, f"{len(depots)} depots · {plan['mean_km']:.0f} km on average", size=12, colour=FAINT),
    ]
    for city, depot in zip(cities, serves, strict=True):
        (x1, y1), (x2, y2) = at(city), at(cities[depot])
        parts.append(_line(x1, y1, x2, y2, colours[depot], opacity=0.45))
    for city, depot in zip(cities, serves, strict=True):
        x, y = at(city)
        radius = 1.6 + 7 * math.sqrt(city["population"] / largest)
        parts.append(_dot(x, y, radius, colours[depot], opacity=0.75))
    for depot in depots:
        x, y = at(cities[depot])
        parts.append(
            f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{PAPER}" stroke="{INK}" stroke-width="1.8"'
            f' transform="rotate(45 {x:.1f} {y:.1f})"/>'
        )
    return [*parts, *_labels([(at(cities[depot]), cities[depot]["name"]) for depot in depots], box)]


def _labels(named: Sequence[tuple[tuple[float, float], str]], box: Box) -> list[str]:
    """Names beside their places, each on the side where it hits no other and stays in the box."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for (x, y), _ in named]
    parts = []
    for (x, y), name in named:
        wide = 6.1 * len(name)
        middle = x - wide / 2
        choices = [(x + 9, y + 4), (x - 9 - wide, y + 4), (middle, y - 9), (middle, y + 18), (x + 7, y - 8), (x + 7, y + 15)]
        spots = [(left, base, (left, base - 10, left + wide, base + 2)) for left, base in choices]
        inside = [spot for spot in spots if box.x <= spot[2][0] and spot[2][2] <= box.x + box.width + 8] or spots
        left, base, area = min(inside, key=lambda spot: sum(_overlap(spot[2], other) for other in taken))
        taken.append(area)
        style = f'font-size="11" font-weight="600" fill="{INK}" stroke="{PAPER}" stroke-width="3" paint-order="stroke"'
        parts.append(f'<text x="{left:.1f}" y="{base:.1f}" {style}>{escape(name)}</text>')
    return parts


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _accuracies(readings: Sequence[dict[str, Any]], box: Box) -> list[str]:
    """A dot a classifier, on a scale that begins below the worst of them."""
    floor: float = math.floor(min(reading["accuracy"] for reading in readings) * 50 - 0.5) / 50
    left, right = box.x + 130, box.x + box.width - 64

    def x(share: float) -> float:
        return left + (right - left) * (share - floor) / (1 - floor)

    parts = []
    for percent in range(round(100 * floor), 101, 2):
        at = x(percent / 100)
        parts.append(_line(at, box.y, at, box.y + box.height - 6, GRID))
        parts.append(_text(at, box.y + box.height + 8, f"{percent} %", size=10, colour=FAINT, anchor="middle"))
    for index, reading in enumerate(sorted(readings, key=lambda item: -item["accuracy"])):
        y = box.y + index * 30 + 11
        parts += [
            _text(box.x, y + 4, reading["label"], size=12),
            _line(left, y, x(reading["accuracy"]), y, COLOURS[2], wide=2, opacity=0.35),
            _dot(x(reading["accuracy"]), y, 6, COLOURS[2]),
            _text(right + 12, y + 4, f"{100 * reading['accuracy']:.1f} %", size=12, weight=600),
        ]
    return parts


def _misread(readings: Sequence[dict[str, Any]], box: Box) -> list[str]:
    """Images that were read wrong: what they are and what they were taken for."""
    seen: dict[tuple[int, ...], tuple[int, int]] = {}
    for reading in readings:
        for digit, taken, pixels in reading["misread"]:
            seen.setdefault(tuple(pixels), (digit, taken))
    step = (box.width + 12) / 9
    parts = []
    for index, (pixels, (digit, taken)) in enumerate(list(seen.items())[:9]):
        x, size = box.x + index * step, 42 / 8
        parts.append(f'<rect x="{x - 1:.1f}" y="{box.y - 1}" width="44" height="44" fill="{PAPER}" stroke="{GRID}"/>')
        for place, ink in enumerate(pixels):
            if ink:
                row, column = divmod(place, 8)
                spot = f'x="{x + column * size:.2f}" y="{box.y + row * size:.2f}" width="{size:.2f}" height="{size:.2f}"'
                parts.append(f'<rect {spot} fill="{INK}" opacity="{ink / 16:.2f}"/>')
        parts.append(_text(x + 21, box.y + 58, f"{digit}, read {taken}", size=10, colour=FAINT, anchor="middle"))
    return parts


def _curve(found: dict[str, Any], box: Box) -> list[str]:
    """The mean of each value's children, with their range, on a logarithmic axis."""
    points = sorted(found["points"], key=lambda point: point["value"])
    logs = [math.log10(point["value"]) for point in points]
    floor: float = math.floor(min(point["lowest"] for point in points) * 10) / 10
    low, high = min(logs) - 0.15, max(logs) + 0.15

    def x(value: float) -> float:
        return box.x + box.width * (math.log10(value) - low) / (high - low)

    def y(share: float) -> float:
        return box.y + box.height * (1 - (share - floor) / (1 - floor))

    parts = []
    steps = round((1 - floor) * 10)
    for tick in (floor + i / 10 for i in range(0, steps + 1, max(1, steps // 4))):
        parts.append(_line(box.x, y(tick), box.x + box.width, y(tick), GRID))
        parts.append(_text(box.x - 8, y(tick) + 4, f"{100 * tick:.0f} %", size=10, colour=FAINT, anchor="end"))
    below = box.y + box.height + 18
    for power in range(math.ceil(low), math.floor(high) + 1):
        parts += [_text(x(10**power), below, f"10{_superscript(power)}", size=10, colour=FAINT, anchor="middle")]
    trace = " ".join(f"{x(point['value']):.1f},{y(point['accuracy']):.1f}" for point in points)
    parts.append(f'<polyline points="{trace}" fill="none" stroke="{ACCENT}" stroke-width="2"/>')
    for point in points:
        at, best = x(point["value"]), point["value"] == found["best"]
        parts.append(_line(at, y(point["lowest"]), at, y(point["highest"]), ACCENT))
        parts.append(_dot(at, y(point["accuracy"]), 6 if best else 3.5, COLOURS[1] if best else ACCENT))
    at, foot = x(found["best"]), y(floor + 0.12 * (1 - floor))
    label = f"best: gamma {found['best']:g}, {100 * found['accuracy']:.1f} %"
    leader = _line(at, y(found["accuracy"]) + 9, at, foot - 15, FAINT, dashes="2 3")
    return [*parts, leader, _text(at, foot, label, size=12, weight=600, anchor="middle")]


def _timeline(spans: Sequence[Span], box: Box) -> list[str]:
    """A line a run: waiting light, running solid."""
    order = sorted(spans, key=lambda span: (span.started_s, span.came_s))
    took = max(span.ended_s for span in spans)
    step = box.height / len(spans)
    names = list(dict.fromkeys(span.algorithm for span in order))
    colours = {name: COLOURS[(0, 2, 1, 4)[index % 4]] for index, name in enumerate(sorted(names))}

    def x(seconds: float) -> float:
        return box.x + box.width * seconds / took

    every = next(size for size in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600) if took / size <= 12 or size == 3600)
    parts = []
    for second in range(0, math.floor(took) + 1, every):
        parts.append(_line(x(second), box.y, x(second), box.y + box.height, GRID))
        parts.append(_text(x(second), box.y + box.height + 16, f"{second} s", size=10, colour=FAINT, anchor="middle"))
    for index, span in enumerate(order):
        top = box.y + index * step + 1
        for begin, end, opacity in ((span.came_s, span.started_s, 0.22), (span.started_s, span.ended_s, 1.0)):
            wide = max(1.0, x(end) - x(begin))
            spot = f'x="{x(begin):.1f}" y="{top:.1f}" width="{wide:.1f}" height="{step - 2:.1f}" rx="1.5"'
            parts.append(f'<rect {spot} fill="{colours[span.algorithm]}" opacity="{opacity}"/>')
    at = box.x + box.width - 92 * len(names)
    for index, name in enumerate(sorted(names)):
        parts.append(f'<rect x="{at + 92 * index:.1f}" y="{box.y - 23}" width="12" height="12" rx="2" fill="{colours[name]}"/>')
        parts.append(_text(at + 92 * index + 18, box.y - 13, name, size=12))
    return parts


# ── marks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _projection(cities: Iterable[dict[str, Any]], box: Box) -> Any:
    """Degrees to places in the box: equirectangular, true to scale at the middle latitude."""
    latitudes = [city["latitude"] for city in cities]
    longitudes = [city["longitude"] for city in cities]
    squeeze = math.cos(math.radians((min(latitudes) + max(latitudes)) / 2))
    wide, high = (max(longitudes) - min(longitudes)) * squeeze, max(latitudes) - min(latitudes)
    scale = min((box.width - 60) / wide, (box.height - 24) / high)
    left, top = box.x + (box.width - wide * scale) / 2, box.y + (box.height - high * scale) / 2

    def at(city: dict[str, Any]) -> tuple[float, float]:
        return left + (city["longitude"] - min(longitudes)) * squeeze * scale, top + (max(latitudes) - city["latitude"]) * scale

    return at


def _heading(y: float, name: str, what: str, *, x: float = MARGIN) -> list[str]:
    return [_text(x, y, name, size=16, weight=700), _text(x + 9.6 * len(name) + 14, y, what, size=12, colour=FAINT)]


def _text(x: float, y: float, text: str, *, size: int, colour: str = INK, weight: int = 400, anchor: str = "start") -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, wide: float = 1, opacity: float = 1, dashes: str = "") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line {ends} stroke="{colour}" stroke-width="{wide}" opacity="{opacity}"{dashed}/>'


def _dot(x: float, y: float, radius: float, colour: str, *, opacity: float = 1) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" opacity="{opacity}"/>'


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
