"""``nexus variants``: resolve, check, diff, why, matrix, explain. Data on stdout; plan, progress and findings on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli import output
from nexus.cli.variants_reading import Asking, Registry, asking, at, index_of, load, members_of, place_of, uv_of

if TYPE_CHECKING:
    from nexus.adapters.uv import Uv
    from nexus.catalog import editing
    from nexus.kernel.documents import Finding
    from nexus.variants.model import Variant
    from nexus.variants.ports import Resolution
    from nexus.variants.resolution import FileChange, Plan

_ROOT = click.option("--root", type=click.Path(path_type=Path), default=None, help="The registry.  [default: here]")


class _Group(click.Group):
    """Finds `explain` in its own module, when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["resolve", "check", "diff", "why", "matrix", "explain"]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name == "explain":
            from nexus.cli.variants_explain import explain

            return explain
        return super().get_command(ctx, name)


@click.group(name="variants", cls=_Group)
def variants() -> None:
    """Dependency variants of a registry: ecosystem, candidate, product.

    Example: nexus variants check
    """


@variants.command()
@click.argument("names", metavar="[VARIANT]... [ROOT]", nargs=-1)
@click.option("--upgrade", is_flag=False, flag_value="*", multiple=True, metavar="[PACKAGE]", help="Renew this package, or all.")
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@_ROOT
@asking
def resolve(
    names: tuple[str, ...],
    upgrade: tuple[str, ...],
    dry_run: bool,
    root: Path | None,
    how: Asking,
) -> None:
    """Write requirements-VARIANT.txt for each variant: every package pinned with its hashes.

    Committed pins are kept where they still fit. The plan is printed first; all files are written, or none.

    Example: nexus variants resolve ecosystem --upgrade idna
    """
    from nexus.adapters import edits
    from nexus.variants import resolution
    from nexus.variants.ports import Resolution, Unsatisfiable

    names, renewed = _sort_upgrade(names, upgrade)
    registry = load(names, root, usable=True, build=how.build, to_edit=not dry_run)
    uv, place = uv_of(how, registry.declaration), str(registry.root.resolve())
    output.note(f"resolving {', '.join(variant.name for variant in registry.chosen)} …")
    lock: str | None = None
    if registry.committed.locked:
        everything = tuple(registry.declaration.variants.values())  # one lock holds them all
        outcome = resolution.resolve_locked(everything, uv, place, upgrade=renewed, progress=output.note)
        if isinstance(outcome, Unsatisfiable):
            sys.exit(_no_solution({"the lock": outcome}))
        lock, answers = outcome
    else:
        found = resolution.resolve(
            registry.declaration, registry.chosen, uv, registry.committed, root=place, upgrade=renewed, progress=output.note
        )
        answers = {name: answer for name, answer in found.items() if isinstance(answer, Resolution)}
        if len(answers) < len(found):
            sys.exit(_no_solution({name: answer for name, answer in found.items() if isinstance(answer, Unsatisfiable)}))
    plan = resolution.plan(registry.declaration, answers, registry.committed, lock=lock)
    _print_plan(plan)
    _tell_passed_over(registry, answers, uv, renewed)
    if plan.files and not dry_run:
        edits.apply(registry.root, _edit(plan))
        output.note(f"wrote {len(plan.files)} {'file' if len(plan.files) == 1 else 'files'}")


@variants.command()
@click.argument("names", metavar="[VARIANT]... [ROOT]", nargs=-1)
@_ROOT
@asking
@output.output_option("table", "json", "yaml", "csv")
def check(names: tuple[str, ...], root: Path | None, how: Asking, fmt: str) -> None:
    """Check that committed pins are fresh and install, and that every package stands where it may.

    Exit 0 when nothing is wrong, 1 when there are errors (or something could not be checked).

    Example: nexus variants check product
    """
    from nexus.cli.registry import count
    from nexus.variants import checks

    registry = load(names, root, build=how.build)
    uv = uv_of(how, registry.declaration)
    tools = checks.Tools(resolver=uv, locker=uv, metadata=index_of(registry.declaration))
    findings = checks.check(
        registry.declaration, registry.chosen, registry.committed, tools, root=str(registry.root.resolve()),
        members=members_of(registry.root), progress=output.note,
    )  # fmt: skip
    errors = sum(finding.severity == "error" for finding in findings)
    if fmt == "table":
        for finding in findings:
            sys.stdout.write(finding.text() + "\n")
        told = [count(errors, "error"), count(len(findings) - errors, "warning")]
        output.note(f"{count(len(registry.chosen), 'variant')} checked: {', '.join(told)}")
    else:
        columns = ("file", "line", "column", "severity", "code", "message", "hint")
        output.emit([{name: getattr(finding, name) for name in columns} for finding in findings], fmt, columns)
    sys.exit(1 if errors else 0)


@variants.command()
@click.argument("before", metavar="[FROM]", default="HEAD")
@click.argument("after", metavar="[TO]", default="")
@click.option("--variant", "names", multiple=True, help="Only this variant (again for more).")
@_ROOT
@output.output_option()
def diff(before: str, after: str, names: tuple[str, ...], root: Path | None, fmt: str) -> None:
    """What changed in the pins between two Git revisions (TO empty: the folder as it is), and what caused it.

    Example: nexus variants diff HEAD~1 HEAD --variant product
    """
    from nexus.adapters import history
    from nexus.variants import views

    place = place_of(root)
    git = history.GitHistory(place)
    states = [at(place, git, revision) for revision in (before, after)]
    known = dict.fromkeys(name for declaration, _ in states for name in declaration.variants)
    held = [{name: committed.of(name) for name in names or known} for _, committed in states]
    asked = [{name: variant.requirements for name, variant in declaration.variants.items()} for declaration, _ in states]
    rows = views.changes(held[0], held[1], asked[0], asked[1])
    output.emit(rows, fmt, empty="the pins are the same")


@variants.command()
@click.argument("package")
@click.argument("names", metavar="[VARIANT]... [ROOT]", nargs=-1)
@_ROOT
@output.output_option()
def why(package: str, names: tuple[str, ...], root: Path | None, fmt: str) -> None:
    """Every chain that brings PACKAGE into a variant. Exit 1 when no variant has it.

    Example: nexus variants why markupsafe ecosystem
    """
    from packaging.utils import canonicalize_name

    from nexus.variants import graph, views

    registry = load(names, root)
    wanted = canonicalize_name(package)
    rows, complete = views.chains(wanted, [variant.name for variant in registry.chosen], registry.committed)
    output.emit(rows, fmt, empty=f"no variant contains `{wanted}`")
    if not complete:
        output.note(f"only the first {graph.MAX_CHAINS} chains of each variant are shown")
    sys.exit(0 if rows else 1)


@variants.command()
@click.argument("names", metavar="[VARIANT]... [ROOT]", nargs=-1)
@_ROOT
@click.option("--members", is_flag=True, help="Only what the registry itself asks for.")
@output.output_option()
def matrix(names: tuple[str, ...], root: Path | None, members: bool, fmt: str) -> None:
    """Package × variant: the version each variant pins.

    Example: nexus variants matrix -o csv
    """
    from nexus.variants import views

    registry = load(names, root)
    chosen = [variant.name for variant in registry.chosen]
    rows = views.matrix(registry.declaration, registry.committed, chosen, members=members)
    output.emit(rows, fmt, ["package", *chosen], empty="nothing is pinned")


def _no_solution(answers: dict[str, Any]) -> int:
    from nexus.variants import archives

    for name, answer in answers.items():
        command = "nexus variants explain" if name == "the lock" else f"nexus variants explain {name}"
        hint = archives.ALLOW if archives.needs_build(answer.proof) else f"`{command}` finds the cause and tries solutions"
        output.note(f"error[NX-V25]: {name} does not resolve: {answer.proof}\nhint: {hint}")
    output.note("nothing was written")
    return 1


def _tell_passed_over(registry: Registry, answers: dict[str, Resolution], uv: Uv, renewed: tuple[str, ...] | None) -> None:
    """Says which releases were passed over because they would have to be built."""
    from concurrent.futures import ThreadPoolExecutor

    from nexus.kernel.errors import ResolverUnavailable
    from nexus.variants import archives, checks, resolution

    def told(variant: Variant) -> list[Finding]:
        held = registry.committed.of(variant.name)
        try:
            passed = archives.passed_over(
                registry.declaration, variant, answers[variant.name].pins, uv,
                held=held, upgrade=renewed, root=str(registry.root.resolve()),
            )  # fmt: skip
        except ResolverUnavailable as error:
            return [checks.unchecked(error)]
        return archives.findings(variant, passed, held)

    variants = [registry.declaration.variants[name] for name in answers]
    with ThreadPoolExecutor(resolution.WORKERS) as pool:
        found = [finding for each in pool.map(told, variants) for finding in each]
    for finding in checks.weigh(found, registry.declaration):
        output.note(finding.text())


def _print_plan(plan: Plan) -> None:
    if not plan.files:
        output.note("nothing changes: the committed pins stand")
    for file in plan.files:
        verb = "new" if file.before is None else "removed" if file.after is None else "changed"
        output.note(f"{verb:8} {file.path}")
        for change in file.changes:
            output.note(f"  {change.kind:8} {change.package} {' → '.join(part for part in (change.before, change.after) if part)}")


def _edit(plan: Plan) -> editing.Plan:
    """The plan's files as one edit of the registry: all of them change, or none."""
    from nexus.catalog import editing

    def step(file: FileChange) -> editing.Step:
        before = file.before.encode() if file.before is not None else None
        kind = "delete" if file.after is None else "write"
        return editing.Step(kind=kind, path=file.path, before=before, after=(file.after or "").encode())

    return editing.Plan(steps=tuple(step(file) for file in plan.files))


def _sort_upgrade(names: tuple[str, ...], upgrade: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Names and upgrades, where `--upgrade` swallowed a variant or a folder that was meant as an argument."""
    from packaging.utils import canonicalize_name

    from nexus.variants.model import NAMES

    packages, everything = [], False
    for value in upgrade:
        if value == "*" or value in NAMES or Path(value).is_dir():
            everything = True
            names = names if value == "*" else (value, *names)
        else:
            packages.append(str(canonicalize_name(value)))
    return names, None if everything else tuple(packages)
