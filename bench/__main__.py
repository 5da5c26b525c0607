"""``python -m bench [SECTION…]``: measures, and writes the table to ``docs/explanation/speed.md`` with ``--write``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import machine
from bench.model import Figure

PAGE = Path(__file__).resolve().parent.parent / "docs/explanation/speed.md"


def sections() -> dict[str, Callable[[], Iterable[Figure]]]:
    """Name → function that yields figures."""
    from bench import audit as audits
    from bench import catalog, command_line, memory, runs, variants

    return {
        "accept": runs.accept,
        "latency": runs.latency,
        "dry": runs.dry,
        "complete": runs.complete,
        "memory": memory.large_payload,
        "cli": command_line.start_up,
        "catalog": catalog.figures,
        "variants": variants.figures,
        "audit": audits.figures,
    }


def main() -> int:
    known = sections()
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measures speed and memory; takes some ten minutes in all."
    )
    parser.add_argument("section", nargs="*", help=f"what to measure, of: {', '.join(known)} (all)")
    parser.add_argument("--write", action="store_true", help=f"write the whole table to {PAGE.relative_to(PAGE.parents[2])}")
    asked = parser.parse_args()
    if unknown := [name for name in asked.section if name not in known]:
        parser.error(f"no section `{unknown[0]}`; there are: {', '.join(known)}")
    if asked.write and asked.section:
        parser.error("the page holds every section: --write measures all")
    figures: list[Figure] = []
    for name in asked.section or known:
        sys.stderr.write(f"measuring {name} …\n")
        for figure in known[name]():
            figures.append(figure)
            sys.stdout.write(figure.line() + "\n")
            sys.stdout.flush()
    if asked.write:
        PAGE.write_text(page(figures))
    return 0


def page(figures: list[Figure]) -> str:
    """The table as a page."""
    lines = [
        "# Speed and memory",
        "",
        "Written by `make bench`. One machine for everything, load generator on the other core; configurations in turn, medians.",
        "",
        f"Machine: {machine.describe()}.",
        "",
        "| what | aim | reached | how |",
        "| --- | --- | --- | --- |",
        *(_row(each) for each in figures),
        "",
        "Figures in bold fall short of their aim.",
    ]
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> str:
    reached = f"**{figure.reached}**" if figure.met is False else figure.reached
    return f"| {figure.what} | {figure.aim} | {reached} | {figure.how} |"


if __name__ == "__main__":
    raise SystemExit(main())
