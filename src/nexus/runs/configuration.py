"""What a run is started with: its template, and over it the ``customConfiguration`` of its request.

Called for each accepted request (:func:`merge` is then a look-up unless something is overridden), and wherever the applied
configuration is shown or used. Pure. What an override may change is the reference's list and what its own client sends beyond
it (limits, requests, payloadValidFor); the other known fields are checked and then ignored, unknown ones are refused.
"""

from __future__ import annotations

import shlex
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec.structs import replace

from nexus.kernel.errors import InvalidTemplate
from nexus.kernel.units import cpu_millicores, memory_bytes, parse_duration
from nexus.runs import fields
from nexus.runs.fields import Findings
from nexus.runs.templates import Template

PAYLOAD_VALID_FOR = timedelta(hours=24)
DEFAULT_QUOTA = Decimal("0.1")

MAX_OVERRIDES_BYTES = 64 * 1024

_OVERRIDES = fields.record(fields.SECTIONS)
_AT = ("customConfiguration",)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """An amount of cpu and memory; None where none is stated."""

    cpu_millicores: int | None = None
    memory_bytes: int | None = None


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run is started with. ``json`` is the configuration as the wire shows it, all sections present.

    ``deadline_s`` covers all attempts; None means none. ``limits`` bound an attempt, ``requests`` are what it is scheduled by.
    """

    json: bytes
    command: tuple[str, ...]
    args: tuple[str, ...]
    environment: dict[str, str]
    deadline_s: float | None
    maximum_retries: int
    transient_exit_codes: frozenset[int]
    fatal_exit_codes: frozenset[int]
    limits: Resources
    requests: Resources
    workgroup: str | None
    payload_valid_for: timedelta
    completion: str


_COPIED = {  # what an override may change, taken over as it is
    "container": ("image", "registry", "versionTag"),
    "workgroupRef": ("name", "group", "kind"),
    "runtimeEnvironment": ("deadlineSeconds", "maximumRetries"),
    "payloadConfiguration": ("payloadValidFor",),
}
_EFFECTIVE = {**_COPIED, "computeResources": ("cpuLimit", "memoryLimit", "limits", "requests")}


def without_effect(overrides: bytes) -> list[str]:
    """The fields of ``customConfiguration`` that are given but change nothing, such as ``command``; v1 lets them pass.

    Raises InvalidTemplate like :func:`merge`.
    """
    names: list[str] = []
    for section, value in _checked(overrides).items():
        if isinstance(value, dict):
            known = _EFFECTIVE.get(section, ())
            names += [f"{section}.{key}" for key, given in value.items() if key not in known and given not in (None, "", [], {})]
        elif value not in (None, "", []):
            names.append(section)
    return names


def merge(template: Template, overrides: bytes | None) -> Configuration:
    """The configuration of a run of *template* whose request carried *overrides* (``customConfiguration`` as JSON).

    Raises InvalidTemplate with every finding in its message.
    """
    if not overrides:
        cached: Configuration | None = template.__dict__.get("configuration")
        return cached if cached is not None else _declared(template)
    given = _checked(overrides)
    base = merge(template, None)
    if not given:
        return base
    sections = _merged(template.sections, given)
    if sections == template.sections:  # existing clients always send an empty `container`
        return base
    found = Findings()
    fields.check_requests(sections["computeResources"], (*_AT, "computeResources"), found)
    if found:
        _refuse(found)
    return _derived(base, sections)


def _declared(template: Template) -> Configuration:
    """The template's own configuration; kept with the template, which never changes."""
    sections = template.sections
    runtime, errors = sections["runtimeEnvironment"], sections["errorHandlingBehaviour"]
    fixed = Configuration(
        json=b"",
        command=tuple(shlex.split(sections["command"])),
        args=tuple(sections["args"]),
        environment={
            variable["name"]: variable.get("value", "")
            for variable in runtime.get("environmentVariables", ())
            if "valueFrom" not in variable
        },
        deadline_s=None,
        maximum_retries=0,
        transient_exit_codes=frozenset(errors.get("transientExitCodes", ())),
        fatal_exit_codes=frozenset(errors.get("fatalExitCodes", ())),
        limits=Resources(),
        requests=Resources(),
        workgroup=None,
        payload_valid_for=PAYLOAD_VALID_FOR,
        completion=template.local.get("completion", "report"),
    )
    configuration = _derived(fixed, sections)
    template.__dict__["configuration"] = configuration
    return configuration


def _checked(overrides: bytes) -> dict[str, Any]:
    """The override, decoded and checked; {} when it says nothing. Raises InvalidTemplate."""
    if len(overrides) > MAX_OVERRIDES_BYTES:
        raise InvalidTemplate(
            f"`customConfiguration` has {len(overrides)} bytes; at most {MAX_OVERRIDES_BYTES} are taken",
            hint="data belongs into `algorithmParameters`",
        )
    try:
        given = _decode(overrides)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidTemplate(f"`customConfiguration` is not valid JSON: {error}") from error
    if given is None:
        return {}
    found = Findings(partial=True)
    _OVERRIDES(given, _AT, found)
    if found.errors:
        _refuse(found)
    return given  # type: ignore[no-any-return]


def _refuse(found: Findings) -> None:
    lines = [finding.message + (f" ({finding.hint})" if finding.hint else "") for finding in found]
    lines += [f"{found.left} more"] if found.left else []
    raise InvalidTemplate("; ".join(lines), hint="send only the fields that differ from the template")


def _merged(declared: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The template's sections with what an override may change."""
    merged = {**declared}
    for section, keys in _COPIED.items():
        source = given.get(section) or {}
        merged[section] = {**declared[section], **{key: source[key] for key in keys if source.get(key) not in (None, "")}}
    merged["computeResources"] = _merged_resources(declared["computeResources"], given.get("computeResources") or {})
    return merged


def _merged_resources(declared: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Limits and requests name by name: overriding the cpu alone leaves the memory as the template has it."""
    compute = dict(declared)
    for key, name in (("cpuLimit", "cpu"), ("memoryLimit", "memory")):
        if given.get(key) not in (None, ""):
            compute[key] = str(given[key])
            if compute.get("limits"):
                compute["limits"] = {**compute["limits"], name: compute[key]}
    if given.get("limits"):
        compute["limits"] = {**fields.effective_limits(compute), **_texts(given["limits"])}
    if given.get("requests"):
        compute["requests"] = {**_requests(compute), **_texts(given["requests"])}
    return compute


def _texts(amounts: dict[str, Any]) -> dict[str, str]:
    return {name: str(amount) for name, amount in amounts.items() if amount is not None}


def _requests(compute: dict[str, Any]) -> dict[str, str]:
    """Name → quantity: `requests`, or a copy of the limits with a share of their cpu where there are none."""
    if compute.get("requests"):
        return _texts(compute["requests"])
    requests = fields.effective_limits(compute)
    if "cpu" in requests:
        share = Decimal(cpu_millicores(requests["cpu"])) * _quota(compute.get("defaultResourceQuota"))
        requests["cpu"] = f"{share.to_integral_value(ROUND_HALF_UP)}m"
    return requests


def _quota(text: str | None) -> Decimal:
    """The share of the cpu limit that is requested: 0.1 when *text* is no number from 0 to 1."""
    try:
        quota = Decimal(text or DEFAULT_QUOTA)
    except InvalidOperation:
        return DEFAULT_QUOTA
    return quota if quota.is_finite() and 0 < quota <= 1 else DEFAULT_QUOTA


def _derived(base: Configuration, sections: dict[str, Any]) -> Configuration:
    """*base* with everything that follows from the sections an override may change."""
    compute, runtime = sections["computeResources"], sections["runtimeEnvironment"]
    valid_for = sections["payloadConfiguration"].get("payloadValidFor")
    return replace(
        base,
        json=_encode(sections),
        deadline_s=float(runtime.get("deadlineSeconds") or 0) or None,
        maximum_retries=runtime.get("maximumRetries") or 0,
        limits=_resources(fields.effective_limits(compute)),
        requests=_resources(_requests(compute)),
        workgroup=sections["workgroupRef"].get("name"),
        payload_valid_for=parse_duration(valid_for) if valid_for else PAYLOAD_VALID_FOR,
    )


def _resources(amounts: dict[str, str]) -> Resources:
    """An amount of zero is no limit, as for a container runtime."""
    cpu, memory = amounts.get("cpu"), amounts.get("memory")
    return Resources(
        cpu_millicores=(cpu_millicores(cpu) or None) if cpu else None,
        memory_bytes=(memory_bytes(memory) or None) if memory else None,
    )
