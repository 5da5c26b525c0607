"""The registry at one moment, as values: packages, models, instances, skills, logical benchmarks, waivers, settings.

:func:`build` is pure over :class:`~nexus.catalog.files.Files`. A :class:`Memory` keeps what was read of files that did not
change, so that one changed file costs one reading. Used by every command and view of the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nexus.catalog import files as places
from nexus.catalog import manifests, project, schema
from nexus.catalog.files import Files
from nexus.catalog.manifests import Document, LogicalBenchmark, ModelManifest, PackageManifest, Space
from nexus.catalog.project import Project
from nexus.kernel.documents import Finding

INSTANCES = "benchmark_instances"
LOCAL_PACKAGES = "benchmark_packages"


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """A benchmark instance: a folder with ``space.yaml``, under a package or a model (then ``model`` is its folder)."""

    name: str
    path: str
    package: str
    model: str = ""
    space: Space | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Skill:
    """An agent skill: a folder with ``SKILL.md``."""

    name: str
    path: str
    document: Document | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model of a package. ``usage`` is the content of its usage page, None when it has none."""

    folder: str
    path: str
    package: str
    manifest: ModelManifest | None = None
    usage: bytes | None = None
    instances: tuple[Instance, ...] = ()

    @property
    def understood(self) -> bool:
        """Whether there is a manifest and it could be read: only then is what it leaves out missing."""
        return self.manifest is not None and self.manifest.understood

    @property
    def id(self) -> str:
        return self.manifest.id if self.manifest is not None else ""

    @property
    def shown(self) -> str:
        return self.id or f"{self.package}/{self.folder}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A registered package. ``paths`` are all its files relative to its folder."""

    folder: str
    path: str
    manifest: PackageManifest | None = None
    models: tuple[Model, ...] = ()
    instances: tuple[Instance, ...] = ()
    skills: tuple[Skill, ...] = ()
    local_packages: Mapping[str, bool] = field(default_factory=dict)  # folder → whether it has a pyproject.toml
    paths: tuple[str, ...] = ()

    @property
    def understood(self) -> bool:
        """Whether there is a manifest and it could be read: only then is what it leaves out missing."""
        return self.manifest is not None and self.manifest.understood

    @property
    def name(self) -> str:
        """The name of its Python package; of its folder while the manifest does not say."""
        return (self.manifest.name if self.manifest is not None else "") or self.folder

    @property
    def owners(self) -> tuple[str, ...]:
        return self.manifest.owners if self.manifest is not None else ()

    def names_owner(self, model: Model | None = None) -> bool:
        """Whether an owner of the package (or of the model, or by default of its package) is named, be it in a wrong form."""
        manifest = self.manifest
        if manifest is not None and (manifest.owners or any(one.at[:2] == ("package", "owners") for one in manifest.findings)):
            return True
        own = model.manifest if model is not None else None
        return own is not None and (bool(own.owner) or any(one.at[:2] == ("model", "owner") for one in own.findings))

    def owners_of(self, model: Model) -> tuple[str, ...]:
        """The model's own owner, or else the package's owners."""
        own = model.manifest.owner if model.manifest is not None else ""
        return (own,) if own else self.owners

    def every_instance(self) -> Iterator[Instance]:
        """Baselines of the package, then those of its models."""
        yield from self.instances
        for model in self.models:
            yield from model.instances


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All of it. Two snapshots of the same files are equal in meaning; ``difference`` compares them."""

    files: Files
    packages: tuple[Package, ...] = ()
    benchmarks: tuple[LogicalBenchmark, ...] = ()
    project: Project = field(default_factory=Project)
    waivers: Document | None = None

    def package(self, name: str) -> Package | None:
        """The package of this folder, or of this Python name."""
        by_folder = next((one for one in self.packages if one.folder == name), None)
        return by_folder or next((one for one in self.packages if one.name == name), None)

    def models(self) -> Iterator[tuple[Package, Model]]:
        """Every model with its package."""
        for package in self.packages:
            for model in package.models:
                yield package, model

    def model(self, name: str) -> tuple[Package, Model] | None:
        """The model of this Hugging Face id, or of this ``package/folder``."""
        found = [(package, model) for package, model in self.models() if model.id == name]
        found += [(package, model) for package, model in self.models() if f"{package.folder}/{model.folder}" == name]
        return found[0] if found else None

    def variants_of(self, package: Package) -> tuple[str, ...]:
        """Where the package stands: as ``pyproject.toml`` says, or as the manifest does in a registry that declares none."""
        if self.project.members:
            return self.project.variants_of(package.name)
        declared = package.manifest.variants if package.manifest is not None else None
        return tuple(variant for variant in schema.VARIANTS if variant in (declared or ()))


class Memory:
    """What was read before, by content. Give the same one to each :func:`build` of a registry that changes."""

    def __init__(self) -> None:
        self.documents: dict[str, tuple[bytes, Any]] = {}
        self.packages: dict[str, tuple[tuple[Any, ...], Package]] = {}
        self.findings: dict[str, tuple[Any, ...]] = {}  # folder → what checks keep of an unchanged package
        self._grouped: tuple[tuple[Any, ...], list[tuple[str, list[str]]]] | None = None

    def grouped(self, files: Files) -> list[tuple[str, list[str]]]:
        """Each package's folder with its paths, sorted; from memory while no file comes or goes."""
        key = (tuple(files.contents), files.others, files.troubles)
        if self._grouped is None or self._grouped[0] != key:
            self._grouped = (key, sorted(_by_package(files).items()))
        return self._grouped[1]

    def read(self, reader: Any, file: str, data: bytes) -> Any:
        """What *reader* makes of the content, from memory when the content is the same."""
        known = self.documents.get(file)
        if known is not None and (known[0] is data or known[0] == data):
            return known[1]
        value = reader(file, data)
        self.documents[file] = (data, value)
        return value


def build(files: Files, memory: Memory | None = None) -> Snapshot:
    """The snapshot of these files; never fails, what is wrong stands in the values' findings."""
    memory = memory or Memory()
    contents = files.contents
    packages = []
    for folder, paths in memory.grouped(files):
        key = tuple((path, contents.get(_join(folder, path))) for path in paths)
        known = memory.packages.get(folder)
        if known is None or known[0] != key:
            known = (key, _package(folder, paths, contents, memory))
            memory.packages[folder] = known
        packages.append(known[1])
    benchmarks = [
        memory.read(manifests.read_logical_benchmark, path, data)
        for path, data in sorted(contents.items())
        if path.startswith(f"{places.BENCHMARKS}/") and path.endswith((".yaml", ".yml"))
    ]
    waivers = contents.get(places.WAIVERS)
    return Snapshot(
        files=files, packages=tuple(packages), benchmarks=tuple(benchmarks),
        project=memory.read(lambda _, data: project.read(data), places.PROJECT, contents[places.PROJECT])
        if places.PROJECT in contents else Project(),
        waivers=memory.read(_read_waivers, places.WAIVERS, waivers) if waivers is not None else None,
    )  # fmt: skip


def findings_of(package: Package) -> Iterator[Finding]:
    """What the readers said of this package's files."""
    if package.manifest is not None:
        yield from package.manifest.findings
    for model in package.models:
        if model.manifest is not None:
            yield from model.manifest.findings
    for instance in package.every_instance():
        if instance.space is not None:
            yield from instance.space.findings
    for skill in package.skills:
        if skill.document is not None:
            yield from skill.document.findings


def _read_waivers(file: str, data: bytes) -> Document:
    return manifests.read(file, data, schema.WAIVERS)


def _by_package(files: Files) -> dict[str, list[str]]:
    """Folder → the sorted paths of its files, relative to it. A file directly below ``packages`` belongs to no package."""
    found: dict[str, list[str]] = {}
    prefix = f"{places.PACKAGES}/"
    for path in sorted([*files.contents, *files.others, *(trouble.path for trouble in files.troubles)]):
        if path.startswith(prefix):
            folder, slash, rest = path[len(prefix) :].partition("/")
            if slash:
                found.setdefault(folder, []).append(rest)
    return found


def _join(folder: str, path: str) -> str:
    return f"{places.PACKAGES}/{folder}/{path}"


def _package(folder: str, paths: list[str], contents: Mapping[str, bytes], memory: Memory) -> Package:
    parts: dict[str, dict[str, list[str]]] = {}  # `models`, `skills`, … → folder in it → paths in that
    for path in paths:
        head, slash, rest = path.partition("/")
        name, slash, rest = rest.partition("/") if slash else ("", "", "")
        if slash:
            parts.setdefault(head, {}).setdefault(name, []).append(rest)
    root = f"{places.PACKAGES}/{folder}"
    data = contents.get(f"{root}/{places.PACKAGE_FILE}")
    return Package(
        folder=folder, path=root,
        manifest=memory.read(manifests.read_package, f"{root}/{places.PACKAGE_FILE}", data) if data is not None else None,
        models=tuple(_model(folder, name, inside, contents, memory) for name, inside in parts.get("models", {}).items()),
        instances=tuple(_instances(f"{root}/{INSTANCES}", parts.get(INSTANCES, {}), folder, "", contents, memory)),
        skills=tuple(_skills(f"{root}/skills", parts.get("skills", {}), contents, memory)),
        local_packages={name: places.PROJECT in inside for name, inside in parts.get(LOCAL_PACKAGES, {}).items()},
        paths=tuple(paths),
    )  # fmt: skip


def _model(package: str, folder: str, paths: list[str], contents: Mapping[str, bytes], memory: Memory) -> Model:
    root = f"{places.PACKAGES}/{package}/models/{folder}"
    inside: dict[str, list[str]] = {}
    for path in paths:
        head, _, rest = path.partition("/")
        name, slash, rest = rest.partition("/")
        if head == INSTANCES and slash:
            inside.setdefault(name, []).append(rest)
    file = f"{root}/{places.MODEL_FILE}"
    return Model(
        folder=folder, path=root, package=package, usage=contents.get(f"{root}/{places.USAGE_FILE}"),
        manifest=memory.read(manifests.read_model, file, contents[file]) if file in contents else None,
        instances=tuple(_instances(f"{root}/{INSTANCES}", inside, package, folder, contents, memory)),
    )  # fmt: skip


def _instances(
    root: str, folders: Mapping[str, list[str]], package: str, model: str, contents: Mapping[str, bytes], memory: Memory
) -> Iterator[Instance]:
    for name in folders:
        file = f"{root}/{name}/{places.SPACE_FILE}"
        space = memory.read(manifests.read_space, file, contents[file]) if file in contents else None
        yield Instance(name=name, path=f"{root}/{name}", package=package, model=model, space=space)


def _skills(root: str, folders: Mapping[str, list[str]], contents: Mapping[str, bytes], memory: Memory) -> Iterator[Skill]:
    for name in folders:
        file = f"{root}/{name}/{places.SKILL_FILE}"
        document = memory.read(manifests.read_skill, file, contents[file]) if file in contents else None
        yield Skill(name=name, path=f"{root}/{name}", document=document)
