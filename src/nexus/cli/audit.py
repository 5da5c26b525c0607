"""``nexus audit``: locked versions against known vulnerabilities. Exit 0 only when every pin was audited and none is vulnerable."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from nexus.cli import output
from nexus.cli.registry import tell_edit


@click.command(name="audit")
@click.argument("variants", nargs=-1)
@click.option("-r", "--requirement", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Audit this requirements file instead (again for more).")  # fmt: skip
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(), help="The registry.  [default: here]"
)
@click.option("--advisories", type=click.Path(path_type=Path), help="Snapshot: a folder, or an archive of one.")
@click.option("--at", type=click.DateTime(["%Y-%m-%d"]), help="The day that waivers and age are judged by.  [default: today]")
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="Write the record that the gate checks.")
@click.option(
    "--check", "held", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Check such a record; audit nothing."
)
@output.output_option("table", "json", "csv", "sarif", "cyclonedx")
def audit(
    variants: tuple[str, ...], files: tuple[Path, ...], root: Path, advisories: Path | None,
    at: datetime | None, record: Path | None, held: Path | None, fmt: str,
) -> None:  # fmt: skip
    """Compare locked versions with an advisory snapshot.

    VARIANTS default to all that the registry declares. What cannot be audited is reported as `not-audited` and makes the
    exit code 1, as a vulnerability does.

    Example: nexus audit ecosystem --advisories advisories -o json
    """
    from nexus.adapters import auditfiles
    from nexus.kernel.clock import SystemClock
    from nexus.variants import auditviews

    tell_edit(root)
    now = at.replace(tzinfo=UTC) if at is not None else SystemClock().now()
    inputs = auditfiles.read(root, variants, files, advisories)
    if held is not None:
        inputs.check(auditfiles.read_records(held), now)
        output.note(f"{', '.join(lock.name for lock in inputs.locks)}: audited, unchanged since, and passed")
        return
    report = inputs.report(now)
    if fmt in ("table", "csv"):
        output.emit(auditviews.rows(report), fmt, auditviews.COLUMNS, empty="no known vulnerability")
    elif fmt == "json":
        output.emit_one(auditviews.summary(report), "json")
    elif fmt == "sarif":
        output.emit_one(auditviews.sarif(report), "json")
    else:
        from nexus.variants import sbom

        sys.stdout.write(sbom.document(report, name=root.resolve().name))
    for line in auditviews.lines(report):
        output.note(line)
    if record is not None:
        auditfiles.write_records(record, inputs.records(now))
    if not report.ok:
        raise SystemExit(1)
