"""Changes of a registry as plans: start, rename or remove a package or a model.

A :class:`Plan` can be printed, tried on the files in memory (:func:`applied`) and refused when the registry would be worse
after it (:func:`refuse`). YAML and TOML are edited where they stand, so comments stay. Nothing here writes: ``adapters.edits``
carries a plan out, all or nothing.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

from nexus.catalog import checks, editors, owners, rulebook, snapshot, texts
from nexus.catalog import files as places
from nexus.catalog.files import Files
from nexus.catalog.formats import FORMATS, normalise
from nexus.catalog.snapshot import Model, Package, Snapshot
from nexus.kernel.documents import Finding, printable, shown
from nexus.kernel.errors import InvalidInput, RegistryEditRefused, UnknownName


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """``write`` a file (``before`` is None when it is new), ``move`` a folder, ``delete`` a folder or a file (with ``before``)."""

    kind: str
    path: str
    to: str = ""
    before: bytes | None = None
    after: bytes = b""

    def text(self) -> str:
        """``move packages/a → packages/b``."""
        if self.kind == "move":
            return printable(f"move {self.path} → {self.to}")
        verb = "delete" if self.kind == "delete" else "create" if self.before is None else "edit"
        return printable(f"{verb} {self.path}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Steps in the order they are done, and what the person has to know beside them."""

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()


def applied(files: Files, plan: Plan) -> Files:
    """The files as they are after the plan."""
    contents, others = dict(files.contents), set(files.others)
    for step in plan.steps:
        if step.kind == "write":
            contents[step.path] = step.after
            continue
        inside = f"{step.path}/"
        for path in [path for path in contents if path.startswith(inside)]:
            data = contents.pop(path)
            if step.kind == "move":
                contents[f"{step.to}/{path[len(inside) :]}"] = data
        moved = {path for path in others if path.startswith(inside)}
        others -= moved
        if step.kind == "move":
            others |= {f"{step.to}/{path[len(inside) :]}" for path in moved}
    return replace(files, contents=contents, others=frozenset(others))


def refuse(registry: Snapshot, plan: Plan, today: date) -> list[Finding]:
    """The warnings the plan adds. Raises RegistryEditRefused when it adds errors, with all of them."""
    before = checks.check(registry, today)
    after = checks.check(snapshot.build(applied(registry.files, plan)), today)
    known = {_moved(one, plan) for one in before.findings}
    added = [one for one in after.findings if (one.code, one.file) not in known]
    errors = [one for one in added if one.severity == "error"]
    if errors:
        raise RegistryEditRefused(
            "the registry would be wrong after this:\n" + "\n".join(one.text() for one in errors),
            hint="nothing was written; mend this first, or choose other values",
        )
    return added


def _moved(finding: Finding, plan: Plan) -> tuple[str, str]:
    file = finding.file
    for step in plan.steps:
        if step.kind == "move" and file.startswith(f"{step.path}/"):
            file = step.to + file[len(step.path) :]
    return finding.code, file


@dataclass(frozen=True, kw_only=True, slots=True)
class NewPackage:
    """What a new package needs to be valid. ``requirement`` is what follows its name in the extras, such as ``>=1.2``."""

    name: str
    owners: tuple[str, ...]
    variants: tuple[str, ...] = ()
    requirement: str = ""
    docs: str = ""
    modeline: bool = False  # name the schema for editors, in a registry that keeps the schemas


@dataclass(frozen=True, kw_only=True, slots=True)
class NewModel:
    """What a new model needs to be valid."""

    package: str
    id: str
    owner: str = ""
    folder: str = ""
    vllm: bool = False
    tests: bool = False
    modeline: bool = False


def registered_as(registry: Snapshot, name: str) -> Package | None:
    """The package that has this name already, in whatever spelling."""
    return next((one for one in registry.packages if normalise(one.name) == normalise(name) or _same(one.folder, name)), None)


def asks_for_a_variant(registry: Snapshot) -> bool:
    """Whether a package in no variant would be an error here."""
    return bool(registry.project.members) and rulebook.severity_of("NX-C036", registry.project.severities) == "error"


def new_package(registry: Snapshot, new: NewPackage) -> Plan:
    """A plan that adds the package to the tree, and to the extras of its variants."""
    handles = {handle.lower(): handle for handle in reversed(new.owners)}
    new = replace(new, owners=tuple(reversed(handles.values())), variants=tuple(dict.fromkeys(new.variants)))
    _check_words(
        [("distribution", new.name), *(("handle", one) for one in new.owners), *([("link", new.docs)] if new.docs else [])]
    )
    taken = registered_as(registry, new.name)
    if taken is not None:
        raise RegistryEditRefused(
            f"{shown(new.name)} is registered in {shown(taken.path)}", hint="edit that package, or choose another name"
        )
    declared = registry.project.members
    unknown = [variant for variant in new.variants if declared and variant not in declared]
    if unknown:
        raise RegistryEditRefused(
            f"this registry declares no variant {shown(unknown[0])}", hint=f"it declares {', '.join(declared)}"
        )
    if not new.variants and asks_for_a_variant(registry):
        raise RegistryEditRefused(
            "every package of this registry stands in a variant", hint=f"name one with `--variant`: {', '.join(declared)}"
        )
    in_manifest = new.variants if not declared else ()
    manifest = texts.package_manifest(new.name, new.owners, docs=new.docs, variants=in_manifest)
    path = f"{places.PACKAGES}/{new.name}/{places.PACKAGE_FILE}"
    head = editors.modeline("nexus", path) if new.modeline else ""
    steps = [Step(kind="write", path=path, after=(head + manifest).encode())]
    notes = []
    if declared and new.variants:
        edited = texts.add_requirement(registry.project.text, new.variants, new.name + new.requirement)
        steps.append(_edit(registry.files, places.PROJECT, edited))
        notes.append("resolve its variants: `nexus variants resolve`")
    elif declared:
        notes.append("it stands in no variant yet: add its requirement to an extra of `pyproject.toml`")
    if new.requirement and not (declared and new.variants):
        notes.append(f"{shown(new.requirement)} was written nowhere: requirements stand in the extras of `pyproject.toml`")
    return _with_codeowners(registry, Plan(steps=tuple(steps), notes=tuple(notes)))


def new_model(registry: Snapshot, new: NewModel) -> Plan:
    """A plan that adds a model to a package."""
    package = _package(registry, new.package)
    folder = new.folder or new.id.rpartition("/")[2]
    _check_words([("model-id", new.id), ("distribution", folder), *([("handle", new.owner)] if new.owner else [])])
    _refuse_taken_model(registry, package, new.id, folder)
    root = f"{package.path}/models/{folder}"
    head = editors.modeline("model", f"{root}/{places.MODEL_FILE}") if new.modeline else ""
    manifest = texts.model_manifest(new.id, owner=new.owner, vllm=new.vllm, tests=new.tests)
    steps = [
        Step(kind="write", path=f"{root}/{places.MODEL_FILE}", after=(head + manifest).encode()),
        Step(kind="write", path=f"{root}/{places.USAGE_FILE}", after=texts.usage_page(new.id, package.name).encode()),
    ]
    notes = [f"write how the model is used: {root}/{places.USAGE_FILE}"]
    if new.tests:
        steps.append(
            Step(kind="write", path=f"{root}/tests/test_inference.py", after=texts.test_module(new.id, vllm=new.vllm).encode())
        )
        notes.append(f"write its test, which fails until then: {root}/tests/test_inference.py")
    return _with_codeowners(registry, Plan(steps=tuple(steps), notes=tuple(notes)))


def rename_package(registry: Snapshot, old: str, new: str) -> Plan:
    """A plan that moves the folder and renames the package wherever it is named."""
    package = _package(registry, old)
    _check_words([("distribution", new)])
    for other in registry.packages:
        if other is not package and (_same(other.folder, new) or normalise(other.name) == normalise(new)):
            raise RegistryEditRefused(f"{shown(new)} is registered in {shown(other.path)}", hint="choose another name")
    target = f"{places.PACKAGES}/{new}"
    steps = [Step(kind="move", path=package.path, to=target)] if target != package.path else []
    edits: dict[str, str] = {}
    manifest = f"{package.path}/{places.PACKAGE_FILE}"
    if package.manifest is not None and package.manifest.name and package.manifest.name != new:
        edits[manifest] = texts.replace_scalar(_text(registry, manifest), ("package", "name"), new)
    _follow(registry, package.path, target, edits)
    renamed = texts.rename_requirement(registry.project.text, package.name, new) if registry.project.text else ""
    if renamed != registry.project.text:
        edits[places.PROJECT] = renamed
    steps += [_edit(registry.files, _follow_path(path, package.path, target), text, read_at=path) for path, text in edits.items()]
    if not steps:
        raise RegistryEditRefused(f"{shown(package.name)} is called that already", hint="choose another name")
    notes = ["the locks name the old package: `nexus variants resolve`"] if places.PROJECT in edits else []
    return _with_codeowners(registry, Plan(steps=tuple(steps), notes=tuple(notes)))


def remove_package(registry: Snapshot, name: str) -> Plan:
    """A plan that deletes the folder and takes the package out of every extra."""
    package = _package(registry, name)
    steps = [Step(kind="delete", path=package.path)]
    edits: dict[str, str] = {}
    removed = texts.remove_requirement(registry.project.text, package.name) if registry.project.text else ""
    if removed != registry.project.text:
        edits[places.PROJECT] = removed
    steps += [_edit(registry.files, path, text) for path, text in {**edits, **_without_waivers(registry, package.path)}.items()]
    notes = ["the locks hold it still: `nexus variants resolve`"] if edits else []
    return _with_codeowners(registry, Plan(steps=tuple(steps), notes=tuple(notes)))


def rename_model(registry: Snapshot, name: str, folder: str = "", id_: str = "") -> Plan:
    """A plan that moves a model's folder, gives it another Hugging Face id, or both."""
    package, model = _model(registry, name)
    _check_words([*([("distribution", folder)] if folder else []), *([("model-id", id_)] if id_ else [])])
    _refuse_taken_model(registry, package, id_, folder, besides=model)
    target = f"{package.path}/models/{folder}" if folder else model.path
    steps = [Step(kind="move", path=model.path, to=target)] if target != model.path else []
    edits: dict[str, str] = {}
    file = f"{model.path}/{places.MODEL_FILE}"
    if id_ and id_ != model.id and model.manifest is not None:
        edits[file] = texts.replace_scalar(_text(registry, file), ("model", "id"), id_)
    if target != model.path:
        _follow(registry, model.path, target, edits)
    steps += [_edit(registry.files, _follow_path(path, model.path, target), text, read_at=path) for path, text in edits.items()]
    if not steps:
        raise RegistryEditRefused(f"{shown(name)} is called that already", hint="give another folder, or another id with `--id`")
    return _with_codeowners(registry, Plan(steps=tuple(steps)))


def remove_model(registry: Snapshot, name: str) -> Plan:
    """A plan that deletes a model's folder."""
    _, model = _model(registry, name)
    steps = [Step(kind="delete", path=model.path)]
    steps += [_edit(registry.files, path, text) for path, text in _without_waivers(registry, model.path).items()]
    return _with_codeowners(registry, Plan(steps=tuple(steps)))


def _follow(registry: Snapshot, old: str, new: str, edits: dict[str, str]) -> None:
    """Adds the edits that follow a moved folder: local requirements that point into it, and waivers of paths in it."""
    if old == new:
        return
    for package in registry.packages:
        file = f"{package.path}/{places.PACKAGE_FILE}"
        for registration in package.manifest.registrations if package.manifest is not None else ():
            path = registration.requirement.removeprefix("./")
            if path == old or path.startswith(f"{old}/"):
                text = edits.get(file, _text(registry, file))
                edits[file] = texts.replace_scalar(
                    text, (*registration.at, "requirement_specifier"), f"./{_follow_path(path, old, new)}"
                )
    for index, path in _waived_paths(registry):
        if path == old or path.startswith(f"{old}/"):
            text = edits.get(places.WAIVERS, _text(registry, places.WAIVERS))
            edits[places.WAIVERS] = texts.replace_scalar(text, ("waivers", index, "path"), _follow_path(path, old, new))


def _without_waivers(registry: Snapshot, folder: str) -> dict[str, str]:
    """The waivers file without the entries that are about a removed folder."""
    gone = [index for index, path in _waived_paths(registry) if path == folder or path.startswith(f"{folder}/")]
    if not gone:
        return {}
    text = _text(registry, places.WAIVERS)
    for index in reversed(gone):
        text = texts.remove_item(text, ("waivers", index))
    return {places.WAIVERS: text}


def _waived_paths(registry: Snapshot) -> Iterator[tuple[int, str]]:
    data = registry.waivers.data if registry.waivers is not None else None
    entries = data.get("waivers") if isinstance(data, dict) else None
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict) and isinstance(entry.get("path"), str):
            yield index, entry["path"].removeprefix("./").rstrip("/")


def _with_codeowners(registry: Snapshot, plan: Plan) -> Plan:
    """The plan with CODEOWNERS made again, where the registry has a generated one and every owner is known."""
    path = next((path for path in places.CODEOWNERS if path in registry.files.contents), None)
    if path is None or not owners.is_generated(text := _text(registry, path)):
        return plan
    after = snapshot.build(applied(registry.files, plan))
    if wrong := owners.unsettled(after):
        note = f"{path} was left as it is: {shown(wrong)} is wrong; mend that, then: `nexus get codeowners --output-file {path}`"
        return replace(plan, notes=(*plan.notes, note))
    fresh = owners.merged(text, owners.codeowners(after))
    return plan if fresh == text else replace(plan, steps=(*plan.steps, _edit(registry.files, path, fresh)))


def _edit(files: Files, path: str, text: str, read_at: str = "") -> Step:
    before = files.contents.get(read_at or path)
    mark = BOM_UTF8 if before is not None and before.startswith(BOM_UTF8) else b""
    return Step(kind="write", path=path, before=before, after=mark + text.encode())


def _follow_path(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if path == old or path.startswith(f"{old}/") else path


def _text(registry: Snapshot, path: str) -> str:
    return registry.files.contents[path].decode("utf-8-sig")


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _package(registry: Snapshot, name: str) -> Package:
    package = registry.package(name)
    if package is None:
        raise UnknownName(f"the registry has no package {shown(name)}", hint="`nexus list packages` shows them")
    return package


def _model(registry: Snapshot, name: str) -> tuple[Package, Model]:
    found = registry.model(name)
    if found is None:
        raise UnknownName(f"the registry has no model {shown(name)}", hint="`nexus list models` shows them")
    return found


def _refuse_taken_model(registry: Snapshot, package: Package, id_: str, folder: str, besides: Model | None = None) -> None:
    for _, other in registry.models():
        if other is not besides and id_ and other.id.lower() == id_.lower():
            raise RegistryEditRefused(f"{shown(id_)} is declared in {shown(other.path)}", hint="a model belongs to one package")
    for other in package.models:
        if other is not besides and folder and _same(other.folder, folder):
            raise RegistryEditRefused(f"{shown(other.path)} is there already", hint="choose another folder with `--folder`")


def _check_words(words: Sequence[tuple[str, str]]) -> None:
    """Refuses words that are not of their form, before anything is made of them."""
    refusals: list[tuple[str, Callable[[str], str]]] = [(word, FORMATS[name].refuse) for name, word in words]
    for word, refuse_word in refusals:
        reason = refuse_word(word)
        if reason:
            raise InvalidInput(f"{shown(word)} cannot be used: {reason}", hint="nothing was written")
