"""Rules about packages and their skills: identity, owners, variants."""

from __future__ import annotations

from collections.abc import Iterator

from nexus.catalog import files as places
from nexus.catalog.formats import normalise, refuse_distribution
from nexus.catalog.rulebook import Problem, rule
from nexus.catalog.snapshot import Package, Snapshot
from nexus.kernel.documents import shown


def _file(package: Package) -> str:
    return f"{package.path}/{places.PACKAGE_FILE}"


@rule(
    "NX-C010",
    "package-manifest",
    "A package has no nexus.yaml",
    scope="package",
    hint="add `nexus.yaml`, or remove the folder; `nexus new package` writes one",
)
def manifest_missing(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Each folder below `packages/` registers one released Python package; `nexus.yaml` says which."""
    if package.manifest is None and not _troubled(snapshot, _file(package)):
        yield Problem(_file(package), f"the package {shown(package.folder)} has no `nexus.yaml`")


@rule(
    "NX-C013",
    "skill-manifest",
    "A skill has no SKILL.md",
    scope="package",
    hint="add `SKILL.md` with `name` and `description`, or remove the folder",
)
def skill_missing(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Each folder below `skills/` is one agent skill; agents read `SKILL.md`."""
    for skill in package.skills:
        file = f"{skill.path}/{places.SKILL_FILE}"
        if skill.document is None and not _troubled(snapshot, file):
            yield Problem(file, f"the skill {shown(skill.name)} has no `SKILL.md`")


@rule(
    "NX-C070",
    "skill-name",
    "A skill's name is not its folder's",
    scope="package",
    severity="warning",
    hint="give both the same name",
)
def skill_name(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """The agent skills specification finds a skill by its folder and calls it by its name: they are the same."""
    for skill in package.skills:
        data = skill.document.data if skill.document is not None else None
        name = data.get("name") if isinstance(data, dict) else None
        if isinstance(name, str) and name != skill.name:
            yield Problem(
                f"{skill.path}/{places.SKILL_FILE}",
                f"the skill is called {shown(name)} in the folder {shown(skill.name)}",
                ("name",),
            )


@rule(
    "NX-C031",
    "package-folder",
    "A package's folder is not called like its Python package",
    scope="package",
    severity="warning",
    hint="rename the folder with `nexus rename package`, or correct `name`",
)
def folder_name(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """The name of the Python package is the package's identity everywhere (commands, variants, reports); a folder of another name
    makes people look in the wrong place."""
    if _is_named(package) and normalise(package.name) != normalise(package.folder):
        message = f"the folder {shown(package.folder)} registers the Python package {shown(package.name)}"
        plain = not refuse_distribution(package.folder)  # what else a folder is called stays out of a command to copy
        hint = f"rename the folder: `nexus rename package {package.folder} {package.name}`, or correct `name`" if plain else ""
        yield Problem(_file(package), message, ("package", "name"), hint)


@rule("NX-C032", "package-twice", "Two packages register the same Python package", scope="registry", hint="keep one of them")
def package_twice(snapshot: Snapshot) -> Iterator[Problem]:
    """One released package has one entry, one set of owners and one place in each variant. Names that differ only in case, `-`,
    `_` and `.` are one name on an index."""
    seen: dict[str, Package] = {}
    for package in snapshot.packages:
        first = seen.setdefault(normalise(package.name), package)
        if first is not package:
            yield Problem(
                _file(package), f"{shown(package.name)} is registered by {shown(first.path)} already", ("package", "name")
            )


@rule(
    "NX-C033",
    "package-owner-missing",
    "A package has no owner",
    scope="package",
    severity="warning",
    hint="add `owners: [github-handle]` below `package`",
)
def owner_missing(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Somebody answers for each package: failures are notified to its owners, and deadlines run against them. Trees of
    algorithm-nexus 0.2.x name no owners, so this is a warning until the registry's own `[tool.nexus.rules]` makes it an error."""
    if package.understood and not package.names_owner():
        yield Problem(_file(package), f"the package {shown(package.name)} names no owner", ("package",))


@rule("NX-C035", "owner-twice", "An owner is named twice", scope="package", severity="warning", hint="name each owner once")
def owner_twice(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """GitHub handles are equal whatever their case."""
    seen: set[str] = set()
    for index, owner in enumerate(package.owners):
        if owner.lower() in seen:
            yield Problem(_file(package), f"the owner {shown(owner)} is named twice", ("package", "owners", index))
        seen.add(owner.lower())


@rule(
    "NX-C036",
    "variant-none",
    "A package stands in no variant",
    scope="package",
    severity="warning",
    hint="add its requirement to an extra of `pyproject.toml`, such as `ecosystem`",
)
def variant_none(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """A registered package belongs to at least one variant; in none, it is never resolved, tested or released. Membership is a
    requirement of its name in the extra `ecosystem`, `candidate` or `product` of the registry's `pyproject.toml`."""
    project = snapshot.project
    if project.members and _is_named(package) and not project.variants_of(package.name):
        folder = project.variants_of(package.folder)
        hint = f"`{folder[0]}` has `{package.folder}`: is `name` mistyped?" if folder else ""
        yield Problem(
            _file(package), f"{shown(package.name)} stands in no variant of `{places.PROJECT}`", ("package", "name"), hint
        )


@rule(
    "NX-C037",
    "variants-disagree",
    "nexus.yaml and pyproject.toml disagree on the variants of a package",
    scope="package",
    hint="make `variants` agree with the extras of `pyproject.toml`, or leave it out",
)
def variants_disagree(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Membership is declared in `pyproject.toml`; `variants` in `nexus.yaml` is an optional copy for readers and says the same."""
    if package.manifest is None or package.manifest.variants is None or not snapshot.project.members or not _is_named(package):
        return
    actual = snapshot.project.variants_of(package.name)
    for index, variant in enumerate(package.manifest.variants):
        if variant not in actual and variant in snapshot.project.members:
            line = snapshot.project.line_of(variant)
            hint = f"add `{package.name}` to `{variant}` ({places.PROJECT}:{line}), or remove it here"
            yield Problem(
                _file(package), f"{shown(package.name)} is not in the extra `{variant}`", ("package", "variants", index), hint
            )
    for variant in actual:
        if variant not in package.manifest.variants:
            line = snapshot.project.line_of(variant, package.name)
            message = f"`variants` leaves out `{variant}`, in which {shown(package.name)} stands"
            yield Problem(
                _file(package),
                message,
                ("package", "variants"),
                f"add it here, or remove the requirement ({places.PROJECT}:{line})",
            )


@rule(
    "NX-C038",
    "variant-undeclared",
    "A package names a variant the registry does not declare",
    scope="package",
    hint="declare the extra in `pyproject.toml`, or remove it here",
)
def variant_undeclared(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """A variant exists when the registry's `pyproject.toml` has an extra of its name."""
    if package.manifest is None or not snapshot.project.members:
        return
    for index, variant in enumerate(package.manifest.variants or ()):
        if variant in ("ecosystem", "candidate", "product") and variant not in snapshot.project.members:
            yield Problem(_file(package), f"this registry declares no variant `{variant}`", ("package", "variants", index))


def _is_named(package: Package) -> bool:
    """Whether the manifest gives a name that can be one; what is wrong with another one is said where it stands."""
    return package.manifest is not None and bool(package.manifest.name) and not refuse_distribution(package.manifest.name)


def _troubled(snapshot: Snapshot, path: str) -> bool:
    """Whether the file is there but could not be read; that has a finding of its own."""
    return any(trouble.path == path for trouble in snapshot.files.troubles)
