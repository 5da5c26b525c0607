"""Checks the pages written by hand: every relative link leads somewhere, every module they name is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "nexus"
_LINK = re.compile(r"\[[^\]]*\]\((?!https?://|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")
_MODULE = re.compile(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`")
_HEADING = re.compile(r"(?m)^#{1,6} +(.+?) *$")
_FENCE = re.compile(r"(?ms)^```.*?^```")


def problems() -> list[str]:
    """One line for each link or module name that leads nowhere; empty when all hold."""
    found: list[str] = []
    for page in sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"))):
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        found += (f"{page.relative_to(ROOT)}: {said}" for said in (*_dead_links(page, text), *_dead_modules(text)))
    return found


def _dead_links(page: Path, text: str) -> list[str]:
    dead = []
    for target, anchor in _LINK.findall(text):
        file = page if not target else (page.parent / target)
        if not file.exists():
            dead.append(f"no file `{target}`")
        elif anchor and file.suffix == ".md" and anchor not in _anchors(file):
            dead.append(f"no heading `#{anchor}` in `{target or page.name}`")
    return dead


def _dead_modules(text: str) -> list[str]:
    return [f"no module `{name}`" for name in _MODULE.findall(text) if not any((at / name).exists() for at in (SOURCES, ROOT))]


def _anchors(page: Path) -> set[str]:
    """What a page's headings can be linked by, as Git hosts derive it; explicit ones too."""
    text = page.read_text(encoding="utf-8")
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(_FENCE.sub("", text)))
    return {*plain, *re.findall(r'<a (?:id|name)="([^"]+)"', text)}
