"""``nexus validate``: a package, a whole registry, its benchmark instances, its logical benchmarks. Findings on stdout."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli import output, registry, requirements

if TYPE_CHECKING:
    from nexus.catalog.checks import Report
    from nexus.catalog.snapshot import Instance, Snapshot


@click.group(name="validate")
def validate() -> None:
    """Check a registry or parts of it. Exit 0: right; 1: findings; 2: wrong usage.

    Example: nexus validate catalog
    """


validate.add_command(requirements.requirements)


@validate.command()
@click.argument("path", type=click.Path(path_type=Path))
@registry.checks_options
@click.pass_context
def package(ctx: click.Context, path: Path, fmt: str, strict: bool, fail_fast: bool) -> None:
    """Check one package.

    PATH is its folder, or its name in the registry here. What only the whole registry shows (one name or model registered
    twice) is found by `validate catalog`.

    Example: nexus validate package packages/terratorch
    """
    from nexus.adapters import checkout
    from nexus.catalog import checks, snapshot
    from nexus.kernel.documents import printable, shown
    from nexus.kernel.errors import NotARegistry

    place = _package_place(path)
    root, folder, alone = place.parent.parent, place.name, place.parent.name != "packages"
    registry.tell_edit(root)
    found = snapshot.build(checkout.read_package(place) if alone else checkout.read_folder(root, package=folder))
    one = next((entry for entry in found.packages if entry.folder == folder), None)
    if one is None:
        for trouble in found.files.troubles:
            if trouble.kind == "link" and trouble.path in ("packages", f"packages/{folder}"):
                raise NotARegistry(f"{shown(trouble.path)} is a link that {trouble.detail}", hint="put the folder itself there")
        raise NotARegistry(f"`{path}` holds no file", hint="`nexus new package` starts one")
    report = checks.check_package(found, one, registry.today())
    if not alone and any(
        finding.code == "NX-C054" for finding in report.findings
    ):  # another package may have registered the experiment
        everything = snapshot.build(checkout.read_folder(root))
        again = next(entry for entry in everything.packages if entry.folder == folder)
        report = checks.check_package(everything, again, registry.today())
    _finish(ctx, report, fmt, root, f"package {printable(one.name)}", strict=strict, fail_fast=fail_fast)


@validate.command()
@registry.root_argument
@click.option(
    "--since", metavar="REV", help="Only what changed since the checkout parted from REV, and what that causes elsewhere."
)
@registry.checks_options
@click.pass_context
def catalog(ctx: click.Context, root: Path, since: str | None, fmt: str, strict: bool, fail_fast: bool) -> None:
    """Check everything that is registered.

    Example: nexus validate catalog --since origin/main -o sarif
    """
    from nexus.catalog import checks, snapshot

    memory = snapshot.Memory()
    place, found, report = _checked(root, memory)
    what = f"{registry.count(len(found.packages), 'package')}, {registry.count(sum(1 for _ in found.models()), 'model')}"
    if since is not None:
        from nexus.adapters import checkout

        base = checkout.merge_base(place, since, output.note)
        before = snapshot.build(checkout.read_revision(place, base), snapshot.Memory())
        changed = checkout.changed_since(place, base)
        report = checks.new_since(report, checks.check(before, registry.today()), changed)
        what = _changes(before, found, changed)
    _finish(ctx, report, fmt, place, what, strict=strict, fail_fast=fail_fast)


@validate.command()
@click.option(
    "--packages-root", type=click.Path(path_type=Path), default=None, help="The `packages` folder.  [default: ./packages]"
)
@click.option("--package", "only", metavar="NAME", help="Only the instances of this package.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first instance that fails.")
@click.option("--strict", is_flag=True, help="Warnings fail as errors do.")
@output.output_option("table", "json", "yaml")
@click.pass_context
def benchmarks(ctx: click.Context, packages_root: Path | None, only: str | None, fail_fast: bool, strict: bool, fmt: str) -> None:
    """Check benchmark instances.

    As far as this needs no experiment installed: each has a complete space of experiments that are registered.

    Example: nexus validate benchmarks --package terratorch -o json
    """
    _, found, report = _checked(_registry_of(packages_root) if packages_root is not None else Path())
    chosen = [registry.find_package(found, only)] if only else list(found.packages)
    verdicts = []
    for instance in (instance for one in chosen for instance in one.every_instance()):
        verdict = _verdict(instance, report, strict=strict)
        verdicts.append(verdict)
        if fail_fast and verdict["status"] == "failed":
            break
    failed = sum(verdict["status"] == "failed" for verdict in verdicts)
    total = sum(1 for one in chosen for _ in one.every_instance())
    if fmt == "table":
        rows = [
            {**verdict, "errors": "; ".join(verdict["errors"]), "warnings": "; ".join(verdict["warnings"])} for verdict in verdicts
        ]
        output.emit(rows, "table", ["instance_path", "status", "errors", "warnings"], empty="no benchmark instances")
    else:
        counts = {"successful": len(verdicts) - failed, "failed": failed, "total": total}
        sys.stdout.write(registry.structured({"instances": verdicts, **counts}, fmt))
    output.note(f"{registry.count(total, 'instance')}: {failed} failed")
    ctx.exit(1 if failed else 0)


@validate.command(name="logical-benchmarks")
@click.option("--benchmarks-root", type=click.Path(path_type=Path), default=None, help="The folder.  [default: ./benchmarks]")
@click.option("--file", "file", type=click.Path(path_type=Path, dir_okay=False), help="Only this file.")
@registry.output_file_option
@registry.checks_options
@click.pass_context
def logical_benchmarks(
    ctx: click.Context,
    benchmarks_root: Path | None,
    file: Path | None,
    output_file: Path | None,
    fmt: str,
    strict: bool,
    fail_fast: bool,
) -> None:
    """Check logical benchmarks and their bindings.

    As far as this needs no experiment installed.

    Example: nexus validate logical-benchmarks --file benchmarks/serving.yaml
    """
    from nexus.catalog import checks, snapshot

    files = _benchmark_files(benchmarks_root, file)
    found = snapshot.build(files)
    report = checks.check(found, registry.today()).only(lambda one: one.file.startswith("benchmarks/"))
    report = report.placed_in("benchmarks", _as_named(file.parent if file is not None else benchmarks_root))
    if output_file is not None:
        shape = "yaml" if fmt == "table" and output_file.suffix in (".yaml", ".yml") else "json" if fmt == "table" else fmt
        registry.write(registry.render_report(report, shape, Path()), output_file)
    what = registry.count(len(found.benchmarks), "logical benchmark")
    _finish(ctx, report, fmt, Path(), what, strict=strict, fail_fast=fail_fast, silent=output_file is not None)


def _checked(start: Path, memory: Any = None) -> tuple[Path, Snapshot, Report]:
    from nexus.adapters import checkout
    from nexus.catalog import checks, snapshot

    root = checkout.find_root(start)
    registry.tell_edit(root)
    with registry.without_collector():
        found = snapshot.build(checkout.read_folder(root), memory)
        return root, found, checks.check(found, registry.today(), memory)


def _finish(
    ctx: click.Context, report: Report, fmt: str, root: Path, what: str, *, strict: bool, fail_fast: bool, silent: bool = False
) -> None:
    if fail_fast:
        report = registry.first_only(report)
    if silent:
        output.note(f"{what}: {registry.summary(report)}")
    else:
        registry.print_report(report, fmt, root, what)
    ctx.exit(0 if report.passes(strict=strict) else 1)


def _package_place(path: Path) -> Path:
    """The package's folder. A path that is not there may be the name of a package here."""
    from nexus.adapters import checkout
    from nexus.catalog import files
    from nexus.kernel.documents import shown
    from nexus.kernel.errors import NotARegistry, UnknownName

    if path.is_dir():
        return path.parent.resolve() / path.name if path.is_symlink() else path.resolve()
    if len(path.parts) != 1:
        raise NotARegistry(f"{shown(path)} is no folder", hint="name the package's folder: packages/<package>")
    place = checkout.find_root(Path()) / files.PACKAGES / path
    if not place.is_dir():
        raise UnknownName(
            f"there is no package {shown(path)} here", hint="name the package's folder; `nexus list packages` shows them"
        )
    return place


def _registry_of(packages_root: Path) -> Path:
    """The registry whose `packages` folder this is."""
    from nexus.catalog import files
    from nexus.kernel.documents import shown
    from nexus.kernel.errors import NotARegistry

    place = packages_root.resolve()
    if not place.is_dir() or place.name != files.PACKAGES:
        raise NotARegistry(
            f"{shown(packages_root)} is no `{files.PACKAGES}` folder", hint="name the folder that holds the packages"
        )
    return place.parent


def _as_named(folder: Path | None) -> str:
    """The folder as the caller knows it, from where it stands."""
    if folder is None:
        return "benchmarks"
    place = Path(os.path.relpath(folder))
    return (folder if place.parts[:1] == ("..",) else place).as_posix()


def _benchmark_files(folder: Path | None, file: Path | None) -> Any:
    """The files of a folder of logical benchmarks, wherever it is, as a registry that holds nothing else."""
    from nexus.adapters import checkout
    from nexus.catalog.files import BENCHMARKS, Files
    from nexus.kernel.errors import NotARegistry

    place = file.parent if file is not None else folder or Path(BENCHMARKS)
    if not place.is_dir() or (file is not None and not file.is_file()):
        raise NotARegistry(f"`{file or place}` is not there", hint="name it with `--benchmarks-root` or `--file`")
    found = checkout.read_benchmarks(place)
    if file is None:
        return found
    name = f"{BENCHMARKS}/{file.name}"
    troubles = tuple(one for one in found.troubles if one.path == name)
    return Files(contents={path: data for path, data in found.contents.items() if path == name}, troubles=troubles)


def _verdict(instance: Instance, report: Report, *, strict: bool) -> dict[str, Any]:
    inside = f"{instance.path}/"
    mine = [one for one in report.findings if one.file.startswith(inside)]
    errors = [f"{one.line}: {one.message}" if one.line else one.message for one in mine if one.severity == "error"]
    warnings = [f"{one.line}: {one.message}" if one.line else one.message for one in mine if one.severity != "error"]
    failed = bool(errors or (strict and warnings))
    return {"instance_path": instance.path, "status": "failed" if failed else "success", "errors": errors, "warnings": warnings}


def _changes(before: Snapshot, after: Snapshot, changed: frozenset[str]) -> str:
    from nexus.catalog import difference
    from nexus.kernel.documents import printable

    changes = difference.compare(before, after, changed)
    for change in changes:
        output.note(printable(f"{change.change} {change.what} {change.name}" + (f" ({change.detail})" if change.detail else "")))
    return registry.count(len(changes), "change")
