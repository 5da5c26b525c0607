"""``python -m bench [SECTION…]``: measures, and writes the table to ``docs/explanation/speed.md`` with ``--write``."""

from __future__ import annotations

import sys
from pathlib import Path

from bench import machine
from bench.model import Figure

PAGE = Path(__file__).resolve().parent.parent / "docs/explanation/speed.md"


def sections() -> dict[str, object]:
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
    wanted = [name for name in sys.argv[1:] if not name.startswith("-")] or list(known)
    figures: list[Figure] = []
    for name in wanted:
        sys.stderr.write(f"measuring {name} …\n")
        for figure in known[name]():  # type: ignore[operator]
            figures.append(figure)
            sys.stdout.write(figure.line() + "\n")
            sys.stdout.flush()
    text = page(figures)
    if "--write" in sys.argv:
        PAGE.write_text(text)
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
