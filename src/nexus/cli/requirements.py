"""``nexus validate requirements``: does a Python package meet what the registry asks of algorithm stack packages (REQ-1)?"""

from __future__ import annotations

from pathlib import Path

import click

from nexus.cli import output, registry

_COLUMNS = ("severity", "code", "place", "message", "hint")


@click.command(name="requirements")
@click.argument("package")
@click.option(
    "--from",
    "source",
    default="index",
    show_default=True,
    help="`index`, a wheel, a source archive, a folder, or git+https://…@revision.",
)
@click.option("--version", "release", default="", help="The release to check.  [default: the newest]")
@click.option(
    "--build",
    is_flag=True,
    help="Build what tells its metadata only then: isolated, with a time limit. Runs the package's own code.",
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Registry whose targets count.  [default: here]",
)
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@output.output_option()
def requirements(package: str, source: str, release: str, build: bool, root: Path, strict: bool, fmt: str) -> None:
    """Check a package's real metadata (REQ-1).

    Of PACKAGE: releases, maintainer, description, documentation, dependencies, wheels. Nothing is built or imported unless
    --build. What cannot be read is an error, never a pass.

    Example: nexus validate requirements jinja2
    """
    import platformdirs

    from nexus.adapters import auditfiles
    from nexus.adapters.packagefacts import Collector
    from nexus.adapters.packageindex import PackageIndex
    from nexus.catalog import formats
    from nexus.kernel.documents import shown
    from nexus.kernel.errors import InvalidInput, MetadataUnavailable
    from nexus.variants import packagefacts

    if wrong := formats.refuse_distribution(package):
        raise InvalidInput(f"{shown(package)} is no name of a Python package: {wrong}", hint="give a wheel or folder with `--from`")
    cache = Path(platformdirs.user_cache_dir("nexus"))
    declaration = auditfiles.read_declaration(root)
    index = PackageIndex(project=declaration.uv, cache=cache)
    output.note(f"reading {package} …")
    told = ""
    try:
        facts = Collector(index=index, cache=cache / "facts", build=build).collect(package, source, release)
    except MetadataUnavailable as error:
        facts = packagefacts.Facts(name=package, source=package, unchecked={packagefacts.PACKAGE: error.message})
        told = error.hint
    findings = packagefacts.check(facts, declaration.rules.targets)
    rows = [
        {"severity": item.severity, "code": item.code, "place": f"{item.file}:{item.line}" if item.line else item.file,
         "message": item.message, "hint": told or item.hint}
        for item in findings
    ]  # fmt: skip
    output.emit(rows, fmt, _COLUMNS, empty=f"{facts.name} {facts.version} meets every requirement")
    errors = sum(item.severity == "error" for item in findings)
    output.note(f"{facts.source}: {registry.count(errors, 'error')}, {registry.count(len(findings) - errors, 'warning')}")
    if errors or (strict and findings):
        raise SystemExit(1)
