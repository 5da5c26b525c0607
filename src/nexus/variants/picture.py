"""A conflict as a picture (SVG): each conflicting requirement on the left, its chain to the right, the contested package last.

Plain shapes and text, no scripts and no links, so that it can stand in a pull request or an issue. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from nexus.variants import proof
from nexus.variants.conflicts import Conflict, Side

_BOX_HEIGHT = 52
_ROW = 96
_GAP = 200  # between columns: a straight part for the version range, then the bend
_STRAIGHT = 120
_CHARACTER = 8.3  # width of a bold 12-pixel letter, generous
_MARGIN = 24
_MAX_LABEL = 44
_COLOURS = ("#2f5d8a", "#8a4b2f", "#3f7a4d", "#6d4a8a", "#7a6a1f")
_STYLE = (
    "text{font:12px ui-sans-serif,system-ui,'DejaVu Sans',sans-serif;fill:#1b1f24}"
    ".title{font-size:16px;font-weight:600}.small{font-size:11px;fill:#57606a}.name{font-weight:600}.over{fill:#a40e26;font-weight:600}"
)


@dataclass(frozen=True, slots=True)
class _Box:
    x: float
    y: float
    width: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def middle(self) -> float:
        return self.y + _BOX_HEIGHT / 2


def svg(conflict: Conflict) -> str:
    """The picture as an SVG document."""
    top = 64
    columns = _columns(conflict)
    height = top + _ROW * (len(conflict.sides) - 1) + _BOX_HEIGHT + _MARGIN
    contested_x = columns[-1]
    target = _Box(
        contested_x, top + (_ROW * len(conflict.sides) - _ROW) / 2, _width(conflict.contested or "no solution", _why(conflict))
    )
    parts = [_title(conflict), *_arrow_heads()]
    for number, side in enumerate(conflict.sides):
        parts += _lane(conflict, side, number, columns, target, top + number * _ROW)
    parts.append(_box(target, conflict.contested or "no solution", _why(conflict), "#a40e26", fill="#fdecee"))
    width = max(target.right, _MARGIN + len(_headline(conflict)) * 9.2) + _MARGIN
    size = f'width="{width:.0f}" height="{height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" {size} role="img">'
        f"<title>{escape(_headline(conflict))}</title><style>{_STYLE}</style>"
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _headline(conflict: Conflict) -> str:
    if len(conflict.sides) == 1:
        return f"{conflict.variant}: {conflict.sides[0].asked.text} cannot be met"
    return f"{conflict.variant}: {len(conflict.sides)} requirements conflict" + (
        f" over {conflict.contested}" if conflict.contested else ""
    )


def _title(conflict: Conflict) -> str:
    return f'<text x="{_MARGIN}" y="34" class="title">{escape(_headline(conflict))}</text>'


def _columns(conflict: Conflict) -> list[float]:
    """The left edge of each column: as wide as its widest box, the contested package in the last one."""
    depth = max((len(_between(conflict, side)) for side in conflict.sides), default=0)
    edges = [float(_MARGIN)]
    widest = max(_width(_asked(side), _who(side)) for side in conflict.sides)
    edges.append(edges[-1] + widest + _GAP)
    for level in range(depth):
        labels = [_between(conflict, side)[level] for side in conflict.sides if len(_between(conflict, side)) > level]
        edges.append(edges[-1] + max(_width(label, "") for label in labels) + _GAP)
    return edges


def _between(conflict: Conflict, side: Side) -> list[str]:
    """The packages between the requirement and the contested package."""
    return [step.package for step in side.chain[1:]]


def _lane(conflict: Conflict, side: Side, number: int, columns: list[float], target: _Box, y: float) -> list[str]:
    """One requirement, its chain, and the arrow into the contested package."""
    colour = _COLOURS[number % len(_COLOURS)]
    box = _Box(columns[0], y, _width(_asked(side), _who(side)))
    parts = [_box(box, _asked(side), _who(side), colour)]
    for level, (label, step) in enumerate(zip(_between(conflict, side), side.chain, strict=False)):
        following = _Box(columns[level + 1], y, _width(label, ""))
        parts += [_arrow(box, following, _range(step.needs), colour), _box(following, label, "", colour)]
        box = following
    demand = side.chain[-1].needs if side.chain else side.asked.text
    return [*parts, _arrow(box, target, _range(demand), colour)]


def _range(text: str) -> str:
    """The versions that ``name>=1,<2`` allows."""
    versions = [re.sub(r"^[A-Za-z0-9._-]+(\[[^\]]*\])?\s*", "", part) for part in text.partition(";")[0].strip().split("|")]
    return " or ".join(part for part in versions if part) or "any version"


def _asked(side: Side) -> str:
    """The requirement without its marker, which stands below it."""
    return side.asked.text.partition(";")[0].strip()


def _who(side: Side) -> str:
    who = ", ".join(f"@{owner}" for owner in side.owners) or ("Nexus package" if side.member else "requirement")
    return f"if {side.asked.marker} · {who}" if side.asked.marker else who


def _why(conflict: Conflict) -> str:
    if conflict.contested == "python":
        return "no release for every one allowed"
    return "no release with a wheel" if conflict.contested in proof.without_wheels(conflict.proof) else "no version fits"


def _width(label: str, below: str) -> float:
    return max(len(_clip(label)) * _CHARACTER + 6, len(_clip(below)) * 6.6) + 24


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"


def _box(box: _Box, label: str, below: str, colour: str, fill: str = "#f6f8fa") -> str:
    shift = 4 if not below else -3
    small = f'<text x="{box.x + 12:.1f}" y="{box.middle + 15:.1f}" class="small">{escape(_clip(below))}</text>' if below else ""
    place = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{_BOX_HEIGHT}"'
    return (
        f'<rect {place} rx="6" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
        f'<text x="{box.x + 12:.1f}" y="{box.middle + shift:.1f}" class="name">{escape(_clip(label))}</text>{small}'
    )


def _arrow(start: _Box, end: _Box, label: str, colour: str) -> str:
    """A straight part under the label, then a bend into the middle of *end*."""
    tip, turn = end.x - 3, max(start.right + 10, end.x - (_GAP - _STRAIGHT))
    bend = (tip - turn) / 2
    curve = f"C{turn + bend:.1f},{start.middle:.1f} {tip - bend:.1f},{end.middle:.1f} {tip:.1f},{end.middle:.1f}"
    path = f"M{start.right:.1f},{start.middle:.1f} L{turn:.1f},{start.middle:.1f} {curve}"
    x, y = start.right + 8, start.middle - 7
    room = int((turn - start.right - 8) / 6.6)
    shown = label if len(label) <= room else label[: room - 1] + "…"
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6" marker-end="url(#head{_COLOURS.index(colour)})"/>'
        f'<text x="{x:.1f}" y="{y:.1f}" class="small">{escape(shown)}</text>'
    )


def _arrow_heads() -> list[str]:
    box = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"'
    heads = [
        f'<marker id="head{number}" {box}><path d="M0,0 L8,4 L0,8 z" fill="{colour}"/></marker>'
        for number, colour in enumerate(_COLOURS)
    ]
    return ["<defs>", *heads, "</defs>"]
