"""``nexus advisories``: snapshots of known vulnerabilities — import, update, show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexus.cli import output

if TYPE_CHECKING:
    from nexus.adapters.advisories import Reading
    from nexus.variants.auditsnapshot import Snapshot


@click.group(name="advisories")
def advisories() -> None:
    """Snapshots of known vulnerabilities.

    Example: nexus advisories import ./advisory-database --to advisories
    """


@advisories.command(name="import")
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), help="Snapshot folder.  [default: the registry's, or yours]"
)
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The registry.  [default: here]"
)
@click.option("--only", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Keep only packages that this requirements file pins; the snapshot covers no others.")  # fmt: skip
@click.option("--complete/--partial", default=None,
              help="The sources are a whole ecosystem, or a selection.  [default: whole from 1,000 records on]")  # fmt: skip
@click.option("--skip-bad", is_flag=True, help="Leave out records that cannot be read; every audit names them.")
@output.output_option("table", "json", "yaml")
def import_(
    sources: tuple[Path, ...],
    folder: Path | None,
    root: Path,
    only: tuple[Path, ...],
    complete: bool | None,
    skip_bad: bool,
    fmt: str,
) -> None:
    """Make a snapshot of OSV records: folders, archives (.zip, .tar.gz), records (.yaml, .json) or other snapshots.

    All bad records are reported and nothing is written, unless --skip-bad.

    Example: nexus advisories import all.zip --to advisories --only requirements-ecosystem.txt
    """
    from nexus.adapters import advisories as files
    from nexus.adapters import auditfiles

    reading = files.read_sources(sources, complete=complete)
    keep = frozenset(auditfiles.packages_of(only)) if only else None
    _store(reading, folder or auditfiles.snapshot_folder(root), keep, skip_bad=skip_bad, fmt=fmt)


@advisories.command()
@click.option(
    "--from", "source", help="Folder, archive, https address of an archive, `osv` or `pypi`.  [default: as the registry says]"
)
@click.option("--service", help="Address of the OSV or PyPI service.  [default: the public one]")
@click.option(
    "--to", "folder", type=click.Path(file_okay=False, path_type=Path), help="Snapshot folder.  [default: the registry's, or yours]"
)
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The registry.  [default: here]"
)
@click.option("-r", "--requirement", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Ask a service about the pins of this file.  [default: every lock of the registry]")  # fmt: skip
@output.output_option("table", "json", "yaml")
def update(source: str | None, service: str | None, folder: Path | None, root: Path, files: tuple[Path, ...], fmt: str) -> None:
    """Renew the snapshot from its source; a source that does not answer leaves the old one as it is.

    Example: nexus advisories update --from osv
    """
    from nexus.adapters import advisoryupdate, auditfiles
    from nexus.kernel.errors import InvalidInput

    declaration = auditfiles.read_declaration(root)
    chosen = source or auditfiles.settings(declaration).source
    if not chosen:
        raise InvalidInput(
            "no source of advisories is configured", hint="give `--from`, or `[tool.nexus.advisories] source` in pyproject.toml"
        )
    locks = list(files) or auditfiles.lock_files(root)
    reading = advisoryupdate.fetch(chosen, root, locks, service)
    _store(reading, folder or auditfiles.snapshot_folder(root, declaration), None, skip_bad=False, fmt=fmt)


@advisories.command()
@click.argument("name", required=False)
@click.option("--from", "folder", type=click.Path(path_type=Path), help="Snapshot.  [default: the registry's, or yours]")
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The registry.  [default: here]"
)
@output.output_option()
def show(name: str | None, folder: Path | None, root: Path, fmt: str) -> None:
    """What the snapshot is, or what it says of NAME: an id, an alias (CVE-…) or a package.

    Example: nexus advisories show jinja2
    """
    from nexus.adapters import advisories as files
    from nexus.adapters import auditfiles
    from nexus.kernel.errors import UnknownName
    from nexus.variants import advisories as rules
    from nexus.variants import auditsnapshot, auditviews

    snapshot = files.load(folder or auditfiles.snapshot_folder(root))
    if name is None:
        _print(snapshot, fmt)
        return
    found = auditsnapshot.find(snapshot, name)
    if not found and not snapshot.covers(rules.normalise(name)):
        raise UnknownName(
            f"the snapshot has no advisory `{name}` and does not cover a package of that name", hint="see `nexus advisories show`"
        )
    output.emit([auditviews.advisory(item) for item in found], fmt, auditviews.ADVISORY_COLUMNS, empty=f"no advisory for `{name}`")
    output.note(f"snapshot {snapshot.name}")


def _store(reading: Reading, folder: Path, only: frozenset[str] | None, *, skip_bad: bool, fmt: str) -> None:
    from nexus.adapters import advisories as files
    from nexus.kernel.clock import SystemClock
    from nexus.kernel.errors import AdvisoriesUnusable

    for finding in reading.findings:
        output.note(finding.text())
    bad = reading.failed
    if bad and not skip_bad:
        raise AdvisoriesUnusable(
            f"{len(bad)} records cannot be read; nothing was written", hint="mend them, or leave them out with `--skip-bad`"
        )
    if not reading.advisories:
        raise AdvisoriesUnusable(
            "the sources hold no advisory of a PyPI package; nothing was written",
            hint="an empty snapshot would let everything pass",
        )
    if reading.covers is not None and only is None:
        output.note(f"the snapshot covers {len(reading.covers)} packages; others are not audited (--complete: a whole ecosystem)")
    manifest, index = files.make(reading, now=SystemClock().now(), only=only, skipped=bad)
    _print(files.save(folder, manifest, index), fmt)


def _print(snapshot: Snapshot, fmt: str) -> None:
    from nexus.variants import auditviews

    data = auditviews.snapshot(snapshot)
    if fmt in ("table", "csv"):
        data["sources"] = [f"{item['name']} ({item['kind']}, {item['records']} records)" for item in data["sources"]]
    output.emit_one(data, fmt)
