"""What each section of a manifest may hold, as rules that collect every finding.

Used for whole manifests (:mod:`nexus.runs.templates`) and for the parts of one that a request overrides
(:mod:`nexus.runs.configuration`): the same rules, but nothing is required there and an empty text means "not given".
A value of None is a field that was not given, as Kubernetes reads it. The field names are those of the custom resources.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any

from nexus.kernel.documents import Finding, Path, printable
from nexus.kernel.units import parse_duration, parse_quantity

RESOURCE_KIND = "NexusAlgorithmWorkgroup"
GROUP = "science.sneaksanddata.com"

SHAPE, UNKNOWN_FIELD, WRONG_TYPE, MISSING, BAD_NAME, BAD_VALUE = "NX-T01", "NX-T02", "NX-T03", "NX-T04", "NX-T05", "NX-T06"
BAD_COMMAND, BAD_VARIABLE, BAD_ANNOTATION, REPEATED, NOT_LOCAL = "NX-T07", "NX-T08", "NX-T09", "NX-T10", "NX-T11"
NO_WORKGROUP = "NX-T12"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_LARGEST = 2**63 - 1
_INT32 = 2**31 - 1
_SHOWN = 60
MAX_FINDINGS = 100


class Findings(list[Finding]):
    """What is wrong so far: the first MAX_FINDINGS, and how many more. A text can hold more mistakes than anyone reads.

    ``partial``: an override is checked, where nothing is required and `""` means "not given". ``document``: the one being
    read; ``documents`` says for each finding by its index in which it is.
    """

    def __init__(self, *, file: str = "", partial: bool = False) -> None:
        super().__init__()
        self.file = file
        self.partial = partial
        self.errors = 0
        self.left = 0
        self.document = 0
        self.documents: dict[int, int] = {}

    @property
    def full(self) -> bool:
        return len(self) >= MAX_FINDINGS

    def add(self, code: str, at: Path, message: str, hint: str = "", severity: str = "error") -> None:
        self.errors += severity == "error"
        if self.full:
            self.left += 1
            return
        self.documents[len(self)] = self.document
        told, advice = printable(message), printable(hint)
        self.append(Finding(code=code, message=told, hint=advice, file=self.file, severity=severity, at=at))


Rule = Callable[[Any, Path, Findings], None]


def path_text(at: Path) -> str:
    """``spec.args[0]``: the path as people write it."""
    text = ""
    for step in at:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def suggest(name: str, known: Collection[str]) -> str:
    """A hint: the known name closest to *name*, or the whole choice when none is close."""
    close = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.6)
    folded = {entry.lower(): entry for entry in known}
    best = folded.get(name.lower()) or (close[0] if close else "")
    return f"did you mean `{best}`?" if best else f"known: {', '.join(f'`{entry}`' for entry in sorted(known))}"


def shown(value: Any) -> str:
    """A value for a message, in backticks and not too long."""
    text = str(value) if isinstance(value, str) else _plain(value)
    return f"`{text[:_SHOWN]}…`" if len(text) > _SHOWN else f"`{text}`"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return {dict: "a mapping", list: "a list", type(None): "null"}.get(type(value)) or str(value)


def _wrong_type(value: Any, wanted: str, at: Path, into: Findings) -> None:
    hint = ""
    if wanted == "text" and isinstance(value, float):
        hint = "put it in quotes, as it is written"  # `1.10` was read as 1.1
    elif wanted == "text" and isinstance(value, int):
        hint = f'put it in quotes: `"{_plain(value)}"`'
    elif wanted == "true or false" and str(value).lower() in {"yes", "no", "on", "off"}:
        hint = "YAML 1.2 knows `true` and `false` only"
    elif wanted == "a whole number" and isinstance(value, str) and value.strip().lstrip("-").isdigit():
        hint = "remove the quotes"
    into.add(WRONG_TYPE, at, f"`{path_text(at)}` is {shown(value)}, but must be {wanted}", hint)


def _wrong_key(key: Any, at: Path, into: Findings) -> None:
    message = f"`{path_text(at)}` has the key {shown(key)}, but keys are text"
    into.add(WRONG_TYPE, (*at, str(key)), message, "put the key in quotes")


# ── plain values ──────────────────────────────────────────────────────────────────────────────────────────────────────


def text(value: Any, at: Path, into: Findings) -> None:
    """Text that is not empty."""
    loose_text(value, at, into)
    if value == "":
        into.add(BAD_VALUE, at, f"`{path_text(at)}` is empty", "give it a value, or remove the line")


def loose_text(value: Any, at: Path, into: Findings) -> None:
    """Text a process can be given: no NUL character."""
    if not isinstance(value, str):
        _wrong_type(value, "text", at, into)
    elif "\0" in value:
        into.add(BAD_VALUE, at, f"`{path_text(at)}` contains a NUL character", "no process can be given one")
    elif any("\ud800" <= character <= "\udfff" for character in value):
        into.add(BAD_VALUE, at, f"`{path_text(at)}` contains half of a surrogate pair", "write the character itself")


def boolean(value: Any, at: Path, into: Findings) -> None:
    if not isinstance(value, bool):
        _wrong_type(value, "true or false", at, into)


def anything(value: Any, at: Path, into: Findings) -> None:
    """Whatever Kubernetes makes of it, as long as JSON can carry it."""
    stack = [(value, at)]
    while stack:
        item, place = stack.pop()
        if isinstance(item, dict):
            for key, child in item.items():
                if isinstance(key, str):
                    stack.append((child, (*place, key)))
                else:
                    into.add(
                        WRONG_TYPE, place, f"`{path_text(place)}` has the key {shown(key)}, but keys are text", "quote the key"
                    )
        elif isinstance(item, list):
            stack.extend((child, (*place, index)) for index, child in enumerate(item))
        elif isinstance(item, float) and not math.isfinite(item):
            into.add(BAD_VALUE, place, f"`{path_text(place)}` is {shown(item)}, which JSON has no word for")
        elif isinstance(item, int) and not -(2**63) <= item <= _LARGEST:
            into.add(BAD_VALUE, place, f"`{path_text(place)}` is {shown(item)}, which is larger than 64 bits hold")
        elif isinstance(item, str):
            loose_text(item, place, into)


def integer(low: int, high: int = _INT32, hint: str = "") -> Rule:
    def check(value: Any, at: Path, into: Findings) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            _wrong_type(value, "a whole number", at, into)
        elif not low <= value <= high:
            into.add(BAD_VALUE, at, f"`{path_text(at)}` is `{value}`, but must be from {low} to {high}", hint)

    return check


def quantity(value: Any, at: Path, into: Findings) -> None:
    """A Kubernetes quantity: text, or a plain number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        _wrong_type(value, "a quantity such as `500m` or `512Mi`", at, into)
        return
    try:
        amount = parse_quantity(str(value))
    except ValueError as error:
        into.add(BAD_VALUE, at, f"`{path_text(at)}`: {error}", _quantity_hint(str(value)))
        return
    if amount < 0:
        into.add(BAD_VALUE, at, f"`{path_text(at)}`: {shown(value)} is negative")
    elif amount > Decimal(_LARGEST):
        into.add(BAD_VALUE, at, f"`{path_text(at)}`: {shown(value)} is larger than any machine")


def _quantity_hint(value: str) -> str:
    for wrong, right in (("GB", "G"), ("MB", "M"), ("KB", "k"), ("gb", "G"), ("mb", "M"), ("GiB", "Gi"), ("MiB", "Mi"), ("K", "k")):
        if value.endswith(wrong) and value[: -len(wrong)].strip().replace(".", "", 1).isdigit():
            return f"write `{value[: -len(wrong)].strip()}{right}`"
    return ""


def duration(value: Any, at: Path, into: Findings) -> None:
    """A Go duration."""
    if not isinstance(value, str):
        _wrong_type(value, "a duration such as `24h`", at, into)
        return
    try:
        length = parse_duration(value)
    except (ValueError, ArithmeticError) as error:
        into.add(BAD_VALUE, at, f"`{path_text(at)}`: {error}")
        return
    if not length:
        into.add(BAD_VALUE, at, f"`{path_text(at)}`: `{value}` is no time at all", "leave the field out for the default of `24h`")


def choice(*allowed: str) -> Rule:
    def check(value: Any, at: Path, into: Findings) -> None:
        if not isinstance(value, str):
            _wrong_type(value, "text", at, into)
        elif value not in allowed:
            into.add(BAD_VALUE, at, f"`{path_text(at)}` is {shown(value)}", suggest(value, allowed))

    return check


def label(value: Any, at: Path, into: Findings) -> None:
    """An RFC 1123 label of at most 63 characters that does not read as a number."""
    _check_name(value, at, into, _LABEL, "a-z, 0-9 and `-`")


def name(value: Any, at: Path, into: Findings) -> None:
    """An RFC 1123 subdomain of at most 63 characters (it becomes the value of a label) that does not read as a number."""
    _check_name(value, at, into, _NAME, "a-z, 0-9, `-` and `.`")


def _check_name(value: Any, at: Path, into: Findings, form: re.Pattern[str], characters: str) -> None:
    if not isinstance(value, str):
        _wrong_type(value, "text", at, into)
        return
    number = is_number(value)
    if form.fullmatch(value) and not number:
        return
    better = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63].rstrip("-")
    usable = better and not is_number(better) and better != value
    why = "reads as a number" if number else "is not a name"
    rule = f"names have 1 to 63 characters: {characters}, with a letter or digit at both ends, and are no number"
    into.add(BAD_NAME, at, f"`{path_text(at)}`: {shown(value)} {why}", f"{rule}; for example `{better}`" if usable else rule)


def is_number(value: str) -> bool:
    """Whether a reader of settings would take the text for a number, as the algorithms' own readers do."""
    try:
        float(value)
    except ValueError:
        return False
    return True


def command_line(value: Any, at: Path, into: Findings) -> None:
    text(value, at, into)
    if not isinstance(value, str) or not value:
        return
    try:
        words = shlex.split(value)
    except ValueError as error:
        message = f"`{path_text(at)}` cannot be split into words: {str(error).lower()}"
        into.add(BAD_COMMAND, at, message, "balance the quotes; a literal quote is `\\'`")
        return
    if not words or not words[0]:
        into.add(BAD_COMMAND, at, f"`{path_text(at)}` names no program")


def variable_name(value: Any, at: Path, into: Findings) -> None:
    if not isinstance(value, str):
        _wrong_type(value, "text", at, into)
    elif not _VARIABLE.fullmatch(value):
        hint = "letters, digits, `_`, `-` and `.`; the first is no digit"
        into.add(BAD_VARIABLE, at, f"`{path_text(at)}`: {shown(value)} is not the name of an environment variable", hint)


# ── structures ────────────────────────────────────────────────────────────────────────────────────────────────────────


def record(fields: Mapping[str, Rule], required: Collection[str] = ()) -> Rule:
    """A mapping with these fields and no others."""

    def check(value: Any, at: Path, into: Findings) -> None:
        if not isinstance(value, dict):
            _wrong_type(value, "a mapping", at, into)
            return
        for key, child in value.items():
            rule = fields.get(key) if isinstance(key, str) else None
            if rule is None:
                hint = "" if into.full else suggest(str(key), fields)  # a look for the closest name is dear
                into.add(UNKNOWN_FIELD, (*at, str(key)), f"`{path_text((*at, str(key)))}` is unknown", hint)
            elif child is not None and not (into.partial and child == ""):
                rule(child, (*at, key), into)
        if not into.partial:
            for key in required:
                if value.get(key) is None:
                    where = f" under `{path_text(at)}`" if at else ""
                    into.add(MISSING, at, f"`{path_text((*at, key))}` is missing", f"add `{key}:`{where}")

    return check


def mapping(rule: Rule) -> Rule:
    """A mapping from any name to one kind of value."""

    def check(value: Any, at: Path, into: Findings) -> None:
        if not isinstance(value, dict):
            _wrong_type(value, "a mapping", at, into)
            return
        for key, child in value.items():
            if not isinstance(key, str):
                _wrong_key(key, at, into)
            elif child is not None:
                rule(child, (*at, key), into)

    return check


def listing(rule: Rule) -> Rule:
    def check(value: Any, at: Path, into: Findings) -> None:
        if not isinstance(value, list):
            _wrong_type(value, "a list", at, into)
            return
        for index, child in enumerate(value):
            rule(child, (*at, index), into)

    return check


# ── the sections ──────────────────────────────────────────────────────────────────────────────────────────────────────

_exit_code = integer(1, 255, "a process ends with 0 (success) to 255")
_variable = record({"name": variable_name, "value": loose_text, "valueFrom": anything}, required=("name",))
_mounts = mapping(anything)

SECTIONS: dict[str, Rule] = {
    "container": record(
        {"image": text, "registry": text, "versionTag": text, "serviceAccountName": loose_text},
        required=("image", "registry", "versionTag"),
    ),
    "computeResources": record(
        {
            "cpuLimit": quantity,
            "memoryLimit": quantity,
            "limits": mapping(quantity),
            "requests": mapping(quantity),
            "defaultResourceQuota": loose_text,
            "customResources": mapping(quantity),
        }
    ),
    "workgroupRef": record(
        {"name": name, "group": choice(GROUP, f"{GROUP}/v1"), "kind": choice(RESOURCE_KIND)}, required=("name", "group", "kind")
    ),
    "command": command_line,
    "args": listing(loose_text),
    "payloadConfiguration": record(
        {
            "payloadValidFor": duration,
            "payloadSerialization": choice("s3", "backend"),
            "payloadSerializationMode": choice("s3", "backend"),
        }
    ),
    "runtimeEnvironment": record(
        {
            "environmentVariables": listing(_variable),
            "mappedEnvironmentVariables": listing(record({"prefix": loose_text, "configMapRef": anything, "secretRef": anything})),
            "configurationFileMounts": _mounts,
            "secretFileMounts": _mounts,
            "storageMounts": _mounts,
            "annotations": mapping(loose_text),
            "deadlineSeconds": integer(0, _INT32, "0 means no deadline"),
            "maximumRetries": integer(0),
        }
    ),
    "errorHandlingBehaviour": record({"transientExitCodes": listing(_exit_code), "fatalExitCodes": listing(_exit_code)}),
    "datadogIntegrationSettings": record({"mountDatadogSocket": boolean}),
}

TEMPLATE_SPEC = record(SECTIONS, required=("container", "command"))

WORKGROUP_SPEC = record(
    {
        "cluster": text,
        "description": text,
        "capabilities": mapping(boolean),
        "tolerations": listing(
            record({"key": loose_text, "operator": choice("Exists", "Equal"), "value": loose_text, "effect": loose_text,
                    "tolerationSeconds": integer(-(2**63), _LARGEST)})
        ),
        "affinity": record({"nodeAffinity": anything, "podAffinity": anything, "podAntiAffinity": anything}),
    },
    required=("cluster", "description"),
)  # fmt: skip


# ── amounts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def effective_limits(compute: Mapping[str, Any]) -> dict[str, str]:
    """Name → quantity: `limits`, or `cpuLimit` and `memoryLimit` where there are none."""
    if compute.get("limits"):
        return {name: str(amount) for name, amount in compute["limits"].items() if amount is not None}
    flat = {"cpu": compute.get("cpuLimit"), "memory": compute.get("memoryLimit")}
    return {name: str(amount) for name, amount in flat.items() if amount not in (None, "")}


def check_requests(compute: Mapping[str, Any], at: Path, into: Findings) -> None:
    """No request above its limit. For sections whose fields were checked before."""
    limits = effective_limits(compute)
    for name, amount in (compute.get("requests") or {}).items():
        if amount is None or name not in limits or parse_quantity(str(amount)) <= parse_quantity(limits[name]):
            continue
        message = f"`{path_text((*at, 'requests', name))}` is `{amount}`, more than its limit `{limits[name]}`"
        into.add(BAD_VALUE, (*at, "requests", name), message, "lower the request, or raise the limit")
