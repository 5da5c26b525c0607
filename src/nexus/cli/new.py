"""``nexus new``: start a package or a model that is valid from the beginning. Asks on a terminal, takes flags elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexus.cli import edit, registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.catalog.snapshot import Snapshot


@click.group(name="new")
def new() -> None:
    """Start a package or a model. It is checked before anything is written.

    Example: nexus new package networkx --owner octocat --variant ecosystem --yes
    """


@new.command()
@click.argument("name", required=False)
@click.option("--owner", "owners", multiple=True, metavar="HANDLE", help="A GitHub handle; repeat for several.")
@click.option("--variant", "variants", multiple=True, metavar="VARIANT", help="A variant it joins; repeat for several.")
@click.option("--requirement", default=None, metavar="SPEC", help="What follows its name in the extras, such as '>=1.2'.")
@click.option("--docs", default=None, metavar="URL", help="Where its documentation is.")
@edit.options
def package(
    name: str | None,
    owners: tuple[str, ...],
    variants: tuple[str, ...],
    requirement: str | None,
    docs: str | None,
    root: Path,
    yes: bool,
    dry_run: bool,
) -> None:
    """Start a package: packages/NAME/nexus.yaml, and its requirement in the extras of its variants.

    Example: nexus new package rich --owner octocat --variant ecosystem --requirement '>=13' --yes
    """
    from nexus.catalog import editing, formats, views

    place, found = registry.load(root, to_edit=not dry_run)
    guided = name is None
    name = edit.ask(name, "Name of the Python package", "NAME", refuse=_refuse_name(found))
    if not owners:
        owners = _parts(
            edit.ask(None, "Owner (GitHub handle; several with commas)", "--owner", refuse=_each(formats.refuse_handle))
        )
    if not variants and guided:
        known, needed = views.variants(found), editing.asks_for_a_variant(found)
        question = f"Variants ({', '.join(known)}; several with commas{'' if needed else '; empty for none'})"
        variants = _parts(edit.ask(None, question, "--variant", refuse=_each(_refuse_variant(known)), optional=not needed))
    if requirement is None and guided and variants and found.project.members:
        question = "Its versions (such as >=1.2; empty for any)"
        requirement = edit.ask(None, question, "--requirement", refuse=partial(_refuse_versions, name), optional=True)
    if docs is None and guided:
        docs = edit.ask(None, "Documentation link (empty for none)", "--docs", refuse=formats.refuse_link, optional=True)
    _check_requirement(name, requirement or "")
    wanted = editing.NewPackage(
        name=name, owners=owners, variants=variants, requirement=requirement or "", docs=docs or "", modeline=_has_schemas(place)
    )
    edit.carry_out(place, found, editing.new_package(found, wanted), yes=yes, dry_run=dry_run)


@new.command()
@click.argument("repository", required=False, metavar="[ORG/MODEL]")
@click.option("--package", "package", default=None, metavar="NAME", help="The package it belongs to.")
@click.option("--owner", default="", metavar="HANDLE", help="Its own owner.  [default: the package's owners]")
@click.option("--folder", default="", help="The name of its folder.  [default: the model's name]")
@click.option("--vllm", is_flag=True, help="vLLM serves it.")
@click.option("--tests", is_flag=True, help="Write a test specification and a test that fails until it is written.")
@edit.options
def model(
    repository: str | None,
    package: str | None,
    owner: str,
    folder: str,
    vllm: bool,
    tests: bool,
    root: Path,
    yes: bool,
    dry_run: bool,
) -> None:
    """Start a model: its model.yaml and usage.md in a package.

    Example: nexus new model example-org/example-model --package rich --tests --yes
    """
    from nexus.catalog import editing, formats

    place, found = registry.load(root, to_edit=not dry_run)
    id_ = edit.ask(repository, "Hugging Face repository (organisation/model)", "ORG/MODEL", refuse=formats.refuse_model_id)
    package = edit.ask(package, "Package it belongs to", "--package", refuse=_refuse_package(found))
    tests = tests or found.project.severities.get("testing-missing", found.project.severities.get("NX-C048")) == "error"
    wanted = editing.NewModel(
        package=package, id=id_, owner=owner, folder=folder, vllm=vllm, tests=tests, modeline=_has_schemas(place)
    )
    edit.carry_out(place, found, editing.new_model(found, wanted), yes=yes, dry_run=dry_run)


def _has_schemas(root: Path) -> bool:
    from nexus.catalog import editors

    return (root / editors.FOLDER).is_dir()


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _each(refuse: Callable[[str], str]) -> Callable[[str], str]:
    """Why the first wrong part of a list with commas is refused, or a list of nothing."""
    return lambda text: next((reason for part in _parts(text) or ("",) if (reason := refuse(part))), "")


def _refuse_name(found: Snapshot) -> Callable[[str], str]:
    from nexus.catalog import editing, formats

    def refuse(text: str) -> str:
        taken = editing.registered_as(found, text)
        return formats.refuse_distribution(text) or (f"it is registered in `{taken.path}`" if taken is not None else "")

    return refuse


def _refuse_variant(known: list[str]) -> Callable[[str], str]:
    return lambda text: "" if text in known else f"there is no variant `{text}`"


def _refuse_versions(name: str, text: str) -> str:
    from nexus.catalog import formats

    return formats.refuse_requirement(name + text)


def _refuse_package(found: Snapshot) -> Callable[[str], str]:
    return lambda text: "" if found.package(text) is not None else "there is no such package; `nexus list packages` shows them"


def _check_requirement(name: str, requirement: str) -> None:
    from nexus.kernel.documents import shown
    from nexus.kernel.errors import InvalidInput

    reason = _refuse_versions(name, requirement) if requirement else ""
    if reason:
        raise InvalidInput(f"{shown(name + requirement)} cannot be used: {reason}", hint="give for example `--requirement '>=1.2'`")
