"""``nexus list``: packages, models, owners, benchmark packages and experiments, changes. Data on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nexus.cli import output, registry


@click.group(name="list")
def list_() -> None:
    """List what is registered.

    Example: nexus list models --variant product -o json
    """


def _options(command: Any) -> Any:
    return output.output_option()(registry.output_file_option(registry.root_argument(command)))


def _emit(rows: list[dict[str, Any]], fmt: str, columns: list[str], file: Path | None, what: str) -> None:
    registry.write(output.render(rows, fmt, columns, empty=f"no {what}"), file)


@list_.command()
@_options
@click.option("--strict", is_flag=True, help="Exit 1 when the registry has errors.")
@click.pass_context
def packages(ctx: click.Context, root: Path, output_file: Path | None, fmt: str, strict: bool) -> None:
    """Every package: owners, variants, models, findings.

    Example: nexus list packages -o csv --output-file packages.csv
    """
    from nexus.catalog import checks, views

    _, found = registry.load(root)
    report = checks.check(found, registry.today())
    columns = ["name", "owners", "variants", "models", "instances", "errors", "warnings"]
    _emit(views.packages(found, report), fmt, columns, output_file, "packages")
    ctx.exit(1 if strict and report.errors else 0)


@list_.command()
@_options
@click.option("--variant", metavar="VARIANT", help="Only the models that are supported in this variant.")
@click.option("--package", "package", metavar="NAME", help="Only the models of this package.")
def models(root: Path, output_file: Path | None, fmt: str, variant: str | None, package: str | None) -> None:
    """Every model, or what a variant supports.

    With --variant, the list of supported models; what is left out is told with its reasons.

    Example: nexus list models --variant ecosystem --output-file supported-ecosystem.txt
    """
    from nexus.catalog import checks, views
    from nexus.kernel.documents import printable

    _, found = registry.load(root)
    if variant is None:
        rows, columns = views.models(found), ["id", "package", "owners", "variants", "vllm", "tested", "usage"]
    else:
        _check_variant(variant, views.variants(found))
        rows, left_out = views.supported(found, checks.check(found, registry.today()), variant)
        columns = ["id", "package", "owners"]
        for row in left_out:
            output.note(printable(f"left out: {row['id']}: {'; '.join(row['reasons'])}"))
    if package is not None:
        name = registry.find_package(found, package).name
        rows = [row for row in rows if row["package"] == name]
    _emit(rows, fmt, columns, output_file, "models")


@list_.command()
@_options
def owners(root: Path, output_file: Path | None, fmt: str) -> None:
    """Every owner and what it answers for.

    Example: nexus list owners
    """
    from nexus.catalog import views

    _, found = registry.load(root)
    _emit(views.owners(found), fmt, ["owner", "packages", "models", "default_models"], output_file, "owners")


@list_.command(name="benchmark-packages")
@_options
@click.option("--nexus-package", metavar="NAME", help="Only those this package registers.")
def benchmark_packages(root: Path, output_file: Path | None, fmt: str, nexus_package: str | None) -> None:
    """Every registered benchmark package.

    Example: nexus list benchmark-packages
    """
    from nexus.catalog import views

    _, found = registry.load(root)
    only = [registry.find_package(found, nexus_package)] if nexus_package else None
    _emit(views.benchmark_packages(found, only), fmt, ["requirement", "packages", "experiments"], output_file, "benchmark packages")


@list_.command(name="benchmark-experiments")
@_options
@click.option("--nexus-package", metavar="NAME", help="Only those this package registers.")
def benchmark_experiments(root: Path, output_file: Path | None, fmt: str, nexus_package: str | None) -> None:
    """Every registered experiment.

    Example: nexus list benchmark-experiments --nexus-package networkx
    """
    from nexus.catalog import views

    _, found = registry.load(root)
    only = [registry.find_package(found, nexus_package)] if nexus_package else None
    columns = ["experiment", "actuator", "requirement", "package"]
    _emit(views.benchmark_experiments(found, only), fmt, columns, output_file, "experiments")


@list_.command()
@_options
@click.option("--since", metavar="REV", required=True, help="The branch, tag or commit to compare with.")
def changes(root: Path, output_file: Path | None, fmt: str, since: str) -> None:
    """What changed since a revision.

    Since the checkout parted from it: packages, models, owners, instances, benchmarks.

    Example: nexus list changes --since origin/main
    """
    from nexus.adapters import checkout
    from nexus.catalog import difference, snapshot

    place, found = registry.load(root)
    base = checkout.merge_base(place, since, output.note)
    before = snapshot.build(checkout.read_revision(place, base))
    found_changes = difference.compare(before, found, checkout.changed_since(place, base))
    rows = [{"change": one.change, "what": one.what, "name": one.name, "detail": one.detail} for one in found_changes]
    _emit(rows, fmt, ["change", "what", "name", "detail"], output_file, "changes")


def _check_variant(variant: str, known: list[str]) -> None:
    from nexus.kernel.documents import shown
    from nexus.kernel.errors import UnknownVariant

    if variant not in known:
        raise UnknownVariant(f"the registry declares no variant {shown(variant)}", hint=f"it declares {', '.join(known)}")
