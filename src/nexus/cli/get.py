"""``nexus get``: one package or model as the tree says, benchmark requirements, CODEOWNERS. Data on stdout."""

from __future__ import annotations

from pathlib import Path

import click

from nexus.cli import output, registry


@click.group(name="get")
def get() -> None:
    """One thing of a registry.

    Example: nexus get model example-org/example-model -o yaml
    """


@get.command()
@click.argument("name")
@registry.root_argument
@output.output_option("table", "json", "yaml")
def package(name: str, root: Path, fmt: str) -> None:
    """One package: owners, variants, requirements, models, benchmarks.

    Example: nexus get package networkx
    """
    from nexus.catalog import views

    _, found = registry.load(root)
    record = views.package(found, registry.find_package(found, name))
    if fmt == "table":
        record = {**record, "models": [model["id"] for model in record["models"]],
                  "requirements": [f"{variant}: {text}" for variant, text in record["requirements"].items()],
                  "benchmark_packages": [entry["requirement"] for entry in record["benchmark_packages"]]}  # fmt: skip
    output.emit_one(record, fmt)


@get.command()
@click.argument("name")
@registry.root_argument
@output.output_option("table", "json", "yaml")
def model(name: str, root: Path, fmt: str) -> None:
    """One model of the registry.

    NAME is its Hugging Face id, or PACKAGE/FOLDER.

    Example: nexus get model networkx/karate-communities
    """
    from nexus.catalog import views

    _, found = registry.load(root)
    owner, one = registry.find_model(found, name)
    output.emit_one(views.model(found, owner, one), fmt)


@get.command(name="benchmark-requirements")
@click.argument("name", metavar="PACKAGE")
@registry.root_argument
@registry.output_file_option
@output.output_option("txt", "json", "yaml")
def benchmark_requirements(name: str, root: Path, output_file: Path | None, fmt: str) -> None:
    """What to install for a package's benchmarks.

    One requirement a line.

    Example: nexus get benchmark-requirements networkx --output-file benchmark-requirements.txt
    """
    from nexus.catalog import views

    _, found = registry.load(root)
    names = [row["requirement"] for row in views.benchmark_packages(found, [registry.find_package(found, name)])]
    registry.write("".join(f"{one}\n" for one in names) if fmt == "txt" else registry.structured(names, fmt), output_file)


@get.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="schemas")
def schemas(folder: Path) -> None:
    """JSON Schemas of the manifests, for editors.

    Written into FOLDER; where it is `schemas` of the registry, `nexus new` names them in new manifests.

    Example: nexus get schemas schemas
    """
    from nexus.catalog import editors

    for name, text in editors.schemas().items():
        registry.write(text, folder / name)


@get.command()
@registry.root_argument
@registry.output_file_option
def codeowners(root: Path, output_file: Path | None) -> None:
    """CODEOWNERS, made from the owners.

    Of packages and models. In a file that exists, only our part is renewed.

    Example: nexus get codeowners --output-file .github/CODEOWNERS
    """
    from nexus.catalog import owners
    from nexus.kernel.documents import shown
    from nexus.kernel.errors import RegistryEditRefused

    _, found = registry.load(root)
    if wrong := owners.unsettled(found):
        raise RegistryEditRefused(
            f"not every owner is known, because {shown(wrong)} is wrong or missing",
            hint="`nexus validate catalog` says what to mend; CODEOWNERS made now would take owners away",
        )
    text = owners.codeowners(found)
    if output_file is not None and output_file.is_file():
        text = owners.merged(output_file.read_text(encoding="utf-8"), text)
    registry.write(text, output_file)
