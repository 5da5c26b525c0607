"""``nexus variants explain``: why a variant does not resolve, what was tried, and whose change it was."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexus.cli import output
from nexus.cli.variants_reading import Asking, asking, index_of, load, members_of, uv_of

if TYPE_CHECKING:
    from nexus.variants.conflicts import Answerable
    from nexus.variants.explanation import Explanation


@click.command()
@click.argument("names", metavar="[VARIANT]... [ROOT]", nargs=-1)
@click.option("--root", type=click.Path(path_type=Path), default=None, help="The registry.  [default: here]")
@click.option("--budget", type=click.FloatRange(1, 3600), default=90.0, show_default=True, help="Seconds for all questions.")
@click.option("--svg", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture of the chains.")
@asking
@output.output_option("text", "json", "yaml")
def explain(
    names: tuple[str, ...], root: Path | None, budget: float, picture: Path | None, how: Asking, fmt: str
) -> None:  # fmt: skip
    """Find what conflicts, and solutions that work.

    The smallest set of requirements that conflict; each solution is tried for real. Exit 0 when every variant asked for
    resolves, 1 when one does not.

    Example: nexus variants explain ecosystem --svg conflict.svg
    """
    from nexus.adapters import history
    from nexus.kernel.clock import SystemClock
    from nexus.variants import conflicts, explanation

    registry = load(names, root, usable=True, build=how.build)
    known = conflicts.Registry(
        declaration=registry.declaration, committed=registry.committed, root=str(registry.root.resolve()),
        members=members_of(registry.root), answerable=answerable(registry.root),
    )  # fmt: skip
    how = replace(how, time_limit=min(how.time_limit, budget))  # no single question may outlast the budget
    uv, git = uv_of(how, registry.declaration), history.GitHistory(registry.root)
    index = index_of(registry.declaration)
    found: list[explanation.Explanation] = []
    for variant in registry.chosen:
        output.note(f"resolving {variant.name} …")
        solver = conflicts.Solver(uv, monotonic=SystemClock().monotonic, budget_s=budget)
        told = explanation.explain(known, variant.name, solver, git, index, progress=output.note)
        if not told:
            output.note(f"{variant.name} resolves")
        found += told
    _print(found, fmt)
    if picture is not None and found:
        _draw(found, picture)
    sys.exit(1 if found else 0)


def answerable(root: Path) -> dict[str, Answerable]:
    """Owners and models of each registered package, by normalised name; what is not readable is left out."""
    from packaging.utils import canonicalize_name

    from nexus.catalog import manifests
    from nexus.variants.conflicts import Answerable

    found = {}
    for place in sorted((root / "packages").glob("*/nexus.yaml")):
        package = manifests.read_package(str(place.relative_to(root)), place.read_bytes())
        models = [
            manifests.read_model(str(path), path.read_bytes()).id for path in sorted(place.parent.glob("models/*/model.yaml"))
        ]
        owners = tuple(owner.removeprefix("@") for owner in package.owners)
        name = canonicalize_name(package.name or place.parent.name)
        found[name] = Answerable(owners=owners, models=tuple(model for model in models if model))
    return {str(name): value for name, value in found.items()}


def _print(found: list[Explanation], fmt: str) -> None:
    from nexus.kernel.documents import printable
    from nexus.variants import explanation

    if fmt != "text":
        sys.stdout.write(output.render([explanation.data(one) for one in found], fmt))
        return
    for one in found:
        sys.stdout.write(printable(explanation.text(one), keep="\n"))


def _draw(found: list[Explanation], path: Path) -> None:
    from nexus.adapters import edits
    from nexus.variants import picture

    for index, one in enumerate(found):
        number = f"-{one.number}" if one.number > 1 else ""
        place = path if index == 0 else path.with_stem(f"{path.stem}-{one.conflict.variant}{number}")
        edits.write_file(place, picture.svg(one.conflict))
        output.note(f"wrote {place}")
