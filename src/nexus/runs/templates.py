"""Manifests of templates and workgroups: text → checked manifests → values.

Called by ``nexus apply``, by the service at start and by the templates' routes (:func:`read_manifests`), and wherever a stored
revision is used (:meth:`Template.from_stored`). Pure: reading files, keeping revisions and judging trust are others' work.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

import msgspec

from nexus.kernel import documents
from nexus.kernel.documents import DocumentError, Finding, Path
from nexus.runs import fields
from nexus.runs.fields import Findings, path_text, shown, suggest
from nexus.runs.ports import StoredManifest

API_VERSION = f"{fields.GROUP}/v1"
TEMPLATE = "NexusAlgorithmTemplate"
WORKGROUP = fields.RESOURCE_KIND
DEFAULT_NAMESPACE = "nexus"
LOCAL_PREFIX = "local.nexus/"
LOCAL_KEYS = ("project", "requirements", "python", "working-directory", "completion")
COMPLETIONS = ("report", "exit-code")
WIRE_SECTIONS = (
    "container", "computeResources", "workgroupRef", "command", "payloadConfiguration", "runtimeEnvironment",
    "errorHandlingBehaviour", "datadogIntegrationSettings",
)  # fmt: skip

_PATH_KEYS = frozenset({"project", "requirements", "working-directory"})
_SERVER_METADATA = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "managedFields", "ownerReferences", "finalizers", "selfLink",
)  # fmt: skip
_METADATA = fields.record(
    {
        "name": fields.name,
        "namespace": fields.label,
        "labels": fields.mapping(fields.loose_text),
        "annotations": fields.mapping(fields.loose_text),
        **dict.fromkeys(_SERVER_METADATA, fields.anything),
    },
    required=("name",),
)
_canonical = msgspec.json.Encoder(order="deterministic")


class PathFault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a path that an annotation names: ``message`` goes on from the annotation's name."""

    message: str
    hint: str
    severity: str = "error"


Look = Callable[[str, str], PathFault | None]  # from a local annotation without its prefix, and its absolute path


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked manifest. ``body`` is its canonical JSON (local paths absolute, nothing a server added): equal bodies, equal
    revision. ``source`` is the file it came from."""

    kind: str
    name: str
    namespace: str
    body: bytes
    source: str


class Template(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """An algorithm at one revision. ``sections`` is the spec with all eight sections of the wire and ``args`` present;
    ``local`` the ``local.nexus/*`` annotations without that prefix; ``trusted`` whether they may be followed."""

    name: str
    namespace: str
    revision: int
    trusted: bool
    sections: dict[str, Any]
    local: dict[str, str]
    annotations: dict[str, str]

    @classmethod
    def from_stored(cls, stored: StoredManifest) -> Template:
        """The template a stored manifest describes."""
        body = msgspec.json.decode(stored.body)
        annotations: dict[str, str] = body["metadata"].get("annotations", {})
        return cls(
            name=stored.name,
            namespace=stored.namespace,
            revision=stored.revision,
            trusted=stored.trusted,
            sections=_sections(body.get("spec", {})),
            local={key.removeprefix(LOCAL_PREFIX): value for key, value in annotations.items() if key.startswith(LOCAL_PREFIX)},
            annotations=annotations,
        )


class Workgroup(msgspec.Struct, frozen=True, kw_only=True):
    """A set of machines runs are sent to; ``cluster`` names the engine that has them."""

    name: str
    cluster: str
    description: str
    capabilities: dict[str, bool] = {}
    tolerations: list[dict[str, Any]] = []
    affinity: dict[str, Any] = {}

    @classmethod
    def from_stored(cls, stored: StoredManifest) -> Workgroup:
        """The workgroup a stored manifest describes."""
        spec = msgspec.json.decode(stored.body).get("spec", {})
        return cls(
            name=stored.name,
            cluster=spec.get("cluster", "local"),
            description=spec.get("description", ""),
            capabilities=spec.get("capabilities", {}),
            tolerations=spec.get("tolerations", []),
            affinity=spec.get("affinity", {}),
        )


DEFAULT_WORKGROUP = Workgroup(name="default", cluster="local", description="This machine")


def read_manifests(text: str, file: str, *, base: str = "", look: Look | None = None) -> tuple[list[Manifest], list[Finding]]:
    """The manifests of a YAML or JSON text that have no errors, and every finding with file, line and column.

    *base* is the folder that relative paths of local annotations start from; *look* judges what they name, where that can be
    judged. Findings of severity ``warning`` do not keep a
    manifest from being used. Never raises for what a text says.
    """
    try:
        loaded = _load(text, file)
    except DocumentError as error:
        return [], [error.finding]
    manifests: list[Manifest] = []
    found = Findings(file=file)
    seen: set[tuple[str, str]] = set()
    for index, document in enumerate(loaded):
        found.document = index
        for item, at in _items(document):
            manifest = _read(item, at, base, look, found, seen)
            if manifest is not None:
                manifests.append(manifest)
    if all(document is None for document in loaded):
        found.document = 0
        found.add(fields.SHAPE, (), "the file holds no manifest", f"begin with `apiVersion: {API_VERSION}`")
    findings = documents.place(found, {file: text}, found.documents)
    if found.left:
        message = f"{found.left} more findings are not shown"
        findings.append(Finding(code=fields.SHAPE, file=file, message=message, hint="mend these first"))
    return manifests, findings


def _load(text: str, file: str) -> list[Any]:
    """The documents of *text*. Raises DocumentError."""
    if len(text) > documents.MAX_BYTES:
        message = f"the file has {len(text)} characters; at most {documents.MAX_BYTES} are read"
        raise DocumentError(Finding(code="NX-Y01", file=file, message=message, hint="split it, or keep data out of manifests"))
    if not text.strip():
        return []
    if text.lstrip().startswith("{"):
        try:  # JSON has escapes that YAML reads differently (surrogate pairs); flow YAML falls through to the YAML reader
            return [_bounded(msgspec.json.decode(text), file)] if _unique_keys(text) else documents.load_all(text, file)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            pass
    try:
        return documents.load_all(text, file)
    except (ValueError, TypeError) as error:  # keys that are lists or mappings
        message = "not valid YAML: a key is neither text nor a number"
        raise DocumentError(Finding(code="NX-Y06", file=file, message=message, hint="keys of manifests are plain words")) from error


def _unique_keys(text: str) -> bool:
    """Whether no mapping of a JSON text repeats a key; when one does, the YAML reader says where."""
    import json

    def pairs(items: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in items}) != len(items):
            raise ValueError

    try:
        json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return False
    return True


def _bounded(document: Any, file: str) -> Any:
    level = [document]
    for _ in range(documents.MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
        if not level:
            return document
    message = f"the document is nested deeper than {documents.MAX_DEPTH} levels"
    raise DocumentError(Finding(code="NX-Y05", file=file, message=message))


def _children(item: Any) -> list[Any]:
    return list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []


def _items(document: Any) -> list[tuple[Any, Path]]:
    """The manifests of one document: itself, or the items of a List; nothing for an empty one."""
    if document is None:
        return []
    if isinstance(document, dict) and document.get("kind") == "List" and isinstance(document.get("items"), list):
        return [(item, ("items", index)) for index, item in enumerate(document["items"])]
    return [(document, ())]


def _read(item: Any, at: Path, base: str, look: Look | None, into: Findings, seen: set[tuple[str, str]]) -> Manifest | None:
    """The manifest, when it has no errors."""
    errors = into.errors
    kind = _kind(item, at, into)
    if kind is None:
        return None
    spec_rule = fields.TEMPLATE_SPEC if kind == TEMPLATE else fields.WORKGROUP_SPEC
    document = fields.record(
        {"apiVersion": fields.text, "kind": fields.text, "metadata": _METADATA, "spec": spec_rule, "status": fields.anything},
        required=("metadata", "spec"),
    )
    document(item, at, into)
    if not (isinstance(item.get("metadata"), dict) and isinstance(item.get("spec"), dict)):
        return None
    metadata, spec = item["metadata"], item["spec"]
    annotations = metadata.get("annotations") if isinstance(metadata.get("annotations"), dict) else {}
    at_annotations = (*at, "metadata", "annotations")
    local = _local(annotations or {}, at_annotations, base, into)
    if look is not None:
        _look(local, at_annotations, look, into)
    if kind == TEMPLATE:
        if into.errors == errors:
            fields.check_requests(_mapping(spec.get("computeResources")), (*at, "spec", "computeResources"), into)
        _cross_check(spec, (*at, "spec"), into)
    elif local:
        into.add(fields.BAD_ANNOTATION, at_annotations, f"`{LOCAL_PREFIX}*` annotations are for templates")
    key = (kind, str(metadata.get("name")))
    if key in seen:
        into.add(fields.REPEATED, (*at, "metadata", "name"), f"{kind} `{key[1]}` is in this file twice", "keep one of the two")
    seen.add(key)
    if into.errors > errors:
        return None
    namespace = metadata.get("namespace") or DEFAULT_NAMESPACE
    body = _canonical.encode(_body(item, kind, namespace, {**(annotations or {}), **local}))
    return Manifest(kind=kind, name=metadata["name"], namespace=namespace, body=body, source=into.file)


def _kind(item: Any, at: Path, into: Findings) -> str | None:
    """The kind of a manifest; None, with a finding, when it is not one of ours."""
    if not isinstance(item, dict):
        into.add(fields.SHAPE, at, f"a manifest is a mapping, this is {shown(item)}", f"begin with `apiVersion: {API_VERSION}`")
        return None
    version, kind = item.get("apiVersion"), item.get("kind")
    if version != API_VERSION:
        what = f"`apiVersion` is {shown(version)}" if version is not None else "`apiVersion` is missing"
        into.add(fields.SHAPE, (*at, "apiVersion"), what, f"write `apiVersion: {API_VERSION}`")
    if kind in (TEMPLATE, WORKGROUP):
        return str(kind)
    what = f"`kind` is {shown(kind)}, which is not kept here" if kind is not None else "`kind` is missing"
    into.add(fields.SHAPE, (*at, "kind"), what, suggest(str(kind), (TEMPLATE, WORKGROUP)))
    return None


def _local(annotations: dict[Any, Any], at: Path, base: str, into: Findings) -> dict[str, str]:
    """The local annotations, with their prefix and absolute paths."""
    local: dict[str, str] = {}
    for full, value in annotations.items():
        if not isinstance(full, str) or not full.startswith(LOCAL_PREFIX) or not isinstance(value, str):
            continue
        key = full.removeprefix(LOCAL_PREFIX)
        if key not in LOCAL_KEYS:
            known = [LOCAL_PREFIX + known for known in LOCAL_KEYS]
            into.add(fields.BAD_ANNOTATION, (*at, full), f"the annotation `{full}` is unknown", suggest(full, known))
        elif not value:
            into.add(fields.BAD_ANNOTATION, (*at, full), f"the annotation `{full}` is empty", "give it a value, or remove the line")
        elif key == "completion" and value not in COMPLETIONS:
            into.add(fields.BAD_ANNOTATION, (*at, full), f"`{full}` is {shown(value)}", suggest(value, COMPLETIONS))
        else:
            path = key in _PATH_KEYS or (key == "python" and "/" in value)
            local[full] = posixpath.normpath(posixpath.join(base, value)) if path else value
    if LOCAL_PREFIX + "project" in local and LOCAL_PREFIX + "requirements" in local:
        place = (*at, LOCAL_PREFIX + "requirements")
        message = f"`{LOCAL_PREFIX}project` and `{LOCAL_PREFIX}requirements` are both given"
        into.add(fields.BAD_ANNOTATION, place, message, "keep one: an environment comes from one of them")
    return local


def _look(local: dict[str, str], at: Path, look: Look, into: Findings) -> None:
    """Adds what is wrong with the paths that local annotations name."""
    for full, value in local.items():
        fault = look(full.removeprefix(LOCAL_PREFIX), value)
        if fault is not None:
            into.add(fields.BAD_ANNOTATION, (*at, full), f"`{full}` {fault.message}", fault.hint, fault.severity)


def _cross_check(spec: dict[str, Any], at: Path, into: Findings) -> None:
    """What fields say together, and what the local engine has not got."""
    runtime = _mapping(spec.get("runtimeEnvironment"))
    variables = runtime.get("environmentVariables")
    at_runtime = (*at, "runtimeEnvironment")
    for index, variable in enumerate(variables if isinstance(variables, list) else ()):
        if not isinstance(variable, dict) or variable.get("valueFrom") is None:
            continue
        place = (*at_runtime, "environmentVariables", index)
        if variable.get("value"):
            message = f"`{path_text(place)}` has both `value` and `valueFrom`"
            into.add(fields.BAD_VARIABLE, place, message, "keep one of the two")
        else:
            _not_local(f"`{path_text(place)}.valueFrom`", place, into)
    for key in ("mappedEnvironmentVariables", "configurationFileMounts", "secretFileMounts", "storageMounts"):
        if runtime.get(key):
            _not_local(f"`{path_text((*at_runtime, key))}`", (*at_runtime, key), into)
    errors = _mapping(spec.get("errorHandlingBehaviour"))
    transient, fatal = (errors.get(key) for key in ("transientExitCodes", "fatalExitCodes"))
    both = [code for code in transient if code in fatal] if isinstance(transient, list) and isinstance(fatal, list) else []
    if both:
        place = (*at, "errorHandlingBehaviour", "transientExitCodes")
        codes = "`, `".join(map(str, both))
        into.add(fields.BAD_VALUE, place, f"`{codes}` is fatal too, which counts", "keep it in one of the two lists", "warning")
    payload = _mapping(spec.get("payloadConfiguration"))
    modes = {payload.get("payloadSerialization"), payload.get("payloadSerializationMode")} - {None}
    if len(modes) > 1 and all(isinstance(mode, str) for mode in modes):
        message = "`payloadSerialization` and `payloadSerializationMode` are two names of one field, and differ"
        into.add(fields.BAD_VALUE, (*at, "payloadConfiguration", "payloadSerialization"), message, "keep one of the two")


def _not_local(what: str, at: Path, into: Findings) -> None:
    hint = "it is kept for clusters; give plain values where the algorithm also runs locally"
    message = f"{what} has no effect here: the local engine has no Secrets, ConfigMaps or volumes"
    into.add(fields.NOT_LOCAL, at, message, hint, "warning")


def _body(item: dict[str, Any], kind: str, namespace: str, annotations: dict[str, str]) -> dict[str, Any]:
    """The manifest as it is kept: what a user wrote, with no nulls and nothing a server added."""
    written = {
        "name": item["metadata"]["name"],
        "namespace": namespace,
        "labels": _compact(item["metadata"].get("labels") or {}),
        "annotations": _compact(annotations),
    }
    metadata = {key: value for key, value in written.items() if value}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": _compact(item["spec"])}


def _compact(value: Any) -> Any:
    """The value without fields that are null."""
    if isinstance(value, dict):
        return {key: _compact(child) for key, child in value.items() if child is not None}
    return [_compact(child) for child in value] if isinstance(value, list) else value


def shown_overrides(given: dict[str, Any]) -> dict[str, Any]:
    """A request's checked ``customConfiguration`` as the wire shows it: every section there, nothing that was not given.

    Existing clients refuse a whole answer for a null, a quantity that is a number, or a choice that is an empty text.
    """
    said = {
        name: {key: value for key, value in section.items() if value != ""} if isinstance(section, dict) else section
        for name, section in _compact(given).items()
        if section != ""
    }
    sections = _sections({"command": "", **said})
    return sections if "args" in said else {name: value for name, value in sections.items() if name != "args"}


def _sections(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec as the wire shows it: every section there, quantities as text, one name for the payload's serialization."""
    sections: dict[str, Any] = {key: spec.get(key, {}) for key in WIRE_SECTIONS}
    sections["args"] = spec.get("args", [])
    compute = dict(sections["computeResources"])
    for key, value in compute.items():
        compute[key] = {name: str(amount) for name, amount in value.items()} if isinstance(value, dict) else str(value)
    sections["computeResources"] = compute
    payload = dict(sections["payloadConfiguration"])
    if "payloadSerialization" in payload:
        payload["payloadSerializationMode"] = payload.pop("payloadSerialization")
    sections["payloadConfiguration"] = payload
    return sections


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
