"""Texts with a form of their own: identifiers, handles, links, requirements.

Each is a :class:`Format`: a code of the rulebook, a test that gives the reason why a text is refused, and the pattern
editors use. Used by ``shapes`` (checking, JSON Schema, reference pages). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from nexus.catalog import rulebook

_HF_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_HF_ID = re.compile(rf"({_HF_PART})/({_HF_PART})")
_HANDLE = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9])*")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_LINK = re.compile(r"https?://[^\s/?#@]+(?:[/?#]\S*)?")
_ADDRESS = re.compile(r"(?P<scheme>https|git\+https|git\+ssh|ssh)://(?:(?P<user>[^/\s@]*)@)?[^/\s@]+(?:/\S*)?")
_SKILL = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SEMVER = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")
_DATE = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_LONGEST_HANDLE = 39
_LONGEST_NAME = 100
_LONGEST_SKILL = 64


@dataclass(frozen=True, slots=True)
class Format:
    """``refuse`` gives the reason why a text is not of this form, or an empty text.

    ``pattern`` is for editors: what `refuse` accepts matches it, and as little else as an expression of JSON Schema can say.
    """

    code: str
    refuse: Callable[[str], str]
    pattern: str = ""
    example: str = ""


def refuse_model_id(text: str) -> str:
    """Source: Hugging Face's rules for organisation and repository names."""
    match = _HF_ID.fullmatch(text)
    if match is None or text.count("/") != 1:
        return "it is not `organisation/model` of letters, digits, `.`, `_` and `-`, beginning and ending with a letter or digit"
    organisation, model = match.groups()
    if "--" in text:
        return "it holds `--`"
    if not 2 <= len(organisation) <= 42:
        return f"its organisation has {len(organisation)} characters; 2 to 42 are allowed"
    if not 2 <= len(model) <= 96:
        return f"its model has {len(model)} characters; 2 to 96 are allowed"
    if not re.search("[A-Za-z]", organisation) or not re.search("[A-Za-z]", model):
        return "each side of the `/` needs at least one letter"
    return ""


def refuse_handle(text: str) -> str:
    """Source: GitHub's rules for user names."""
    if text.startswith("@"):
        return "it begins with `@`; write the bare name"
    if len(text) > _LONGEST_HANDLE:
        return f"it has {len(text)} characters; GitHub allows {_LONGEST_HANDLE}"
    return "" if _HANDLE.fullmatch(text) else "it is not letters and digits with single hyphens between them"


def refuse_distribution(text: str) -> str:
    """Source: the packaging specification "Names and normalization"."""
    if len(text) > _LONGEST_NAME:
        return f"it has {len(text)} characters; at most {_LONGEST_NAME} are accepted"
    return (
        ""
        if _DISTRIBUTION.fullmatch(text)
        else "it is not letters, digits, `.`, `_` and `-`, beginning and ending with a letter or digit"
    )


def refuse_link(text: str) -> str:
    """Links are followed by people: http or https, no credentials in them."""
    return "" if _LINK.fullmatch(text) else "it is not an `https://` address (without a user name in it)"


def refuse_requirement(text: str) -> str:
    """A requirement an installer takes: a name with a specifier, an address, or a folder below ``./packages/``."""
    if text.startswith(("./", "packages/")):
        return ""  # `registration-folder` looks at it
    if "\n" in text or text.startswith(("-", "/", "~", "..")):
        return "it is neither a requirement, nor an address, nor a folder below `./packages/`"
    if re.match(r"[a-z+]+://|git@", text):
        return _refuse_address(text)
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        return str(error).splitlines()[0]
    return refuse_requirement(requirement.url) if requirement.url else ""


def _refuse_address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if match is None or not text.isprintable():
        return "its address is not https or Git over https or ssh"
    user = match["user"] or ""
    if ":" in user or (user and not match["scheme"].endswith("ssh")):
        return "it holds credentials; an installer finds them in its environment"
    return ""


def refuse_skill_name(text: str) -> str:
    """Source: the agent skills specification, "name"."""
    if len(text) > _LONGEST_SKILL:
        return f"it has {len(text)} characters; at most {_LONGEST_SKILL} are allowed"
    return "" if _SKILL.fullmatch(text) else "it is not lower-case letters and digits with single hyphens between them"


def refuse_version(text: str) -> str:
    """Source: Semantic Versioning 2.0.0."""
    return "" if _SEMVER.fullmatch(text) else "it is not a version of three numbers such as `1.0.0`"


def refuse_date(text: str) -> str:
    """A day of the calendar, as ISO 8601 writes it."""
    from datetime import date

    try:
        return "" if _DATE.fullmatch(text) and date.fromisoformat(text) else "it is not a day such as `2026-12-31`"
    except ValueError:
        return "there is no such day"


def refuse_module(text: str) -> str:
    """A dotted Python module name."""
    return "" if _MODULE.fullmatch(text) else "it is not a dotted Python module name such as `tests.fixtures`"


def refuse_duration(text: str) -> str:
    """A duration as Go writes it."""
    from nexus.kernel.units import parse_duration

    try:
        return "" if parse_duration(text) else "it is no time at all"
    except ValueError as error:
        return str(error)


def refuse_quantity(text: str) -> str:
    """A quantity as Kubernetes writes it."""
    from nexus.kernel.units import memory_bytes

    try:
        return "" if memory_bytes(text) > 0 else "it is not more than zero"
    except ValueError as error:
        return str(error)


def refuse_path(text: str) -> str:
    """A path inside the folder of the file that names it."""
    parts = text.split("/")
    return "it leaves the folder of this file" if text.startswith(("/", "~")) or ".." in parts or "\\" in text else ""


VALUE = rulebook.enter(
    "NX-C023",
    "field-value",
    "A field has a value it cannot have",
    text="The value is of the right type but not one of those allowed, out of range, empty, or not of the form its field needs.",
    hint="the reference of manifests lists what each field takes",
)
_PACKAGE_NAME = rulebook.enter(
    "NX-C030",
    "package-name",
    "A package's name is not a name of a Python distribution",
    text="The name identifies the released Python package on an index; what installers refuse as a name is refused here, and so is "
    "anything that could act on a command line or a path.",
    hint="use the name of the released package, such as `terratorch`",
)
_HANDLE_FORM = rulebook.enter(
    "NX-C034",
    "owner-handle",
    "An owner is not a GitHub handle",
    text="Owners are notified and assigned on GitHub, each a user name there: at most 39 letters and digits with single hyphens "
    "between them.",
    hint="write the bare GitHub user name, such as `octocat`",
)
_DOCS_LINK = rulebook.enter(
    "NX-C039",
    "docs-link",
    "A documentation link is not an https address",
    text="Documentation links are shown to people and followed by them.",
    hint="write an address such as `https://example.org/docs`",
)
_MODEL_ID = rulebook.enter(
    "NX-C040",
    "model-id",
    "A model's id is not a Hugging Face repository name",
    text="A model is one Hugging Face repository, `organisation/model`: 2–42 and 2–96 letters, digits, `.`, `_`, `-`, no "
    "`--`, a letter or digit at both ends, and at least one letter on each side.",
    hint="copy the repository's name from its page, such as `ibm-granite/granite-4.0-tiny`",
)
_REQUIREMENT = rulebook.enter(
    "NX-C050",
    "registration-requirement",
    "A benchmark registration names nothing that can be installed",
    text="A benchmark package is registered by a requirement (`name>=1.2`), by an https or Git address, or by a local folder below "
    "`./packages/`. Options of an installer, files elsewhere and plain http are refused.",
    hint="write `name`, `name>=1.2`, `https://…` or `./packages/<package>/benchmark_packages/<folder>`",
)
_VERSION = rulebook.enter(
    "NX-C066",
    "experiment-version",
    "An experiment's version is not a version of three numbers",
    text="Experiments are versioned `MAJOR.MINOR.PATCH`, and a binding holds for one major version.",
    hint="write the experiment's version, such as `1.0.0`",
)

FORMATS: dict[str, Format] = {
    "model-id": Format(
        _MODEL_ID, refuse_model_id,
        rf"^(?!.*--)(?=[^/]*[A-Za-z])(?=[^/]{{2,42}}/){_HF_PART}/(?=.*[A-Za-z])(?=.{{2,96}}$){_HF_PART}$",
        "example-org/example-model",
    ),
    "handle": Format(_HANDLE_FORM, refuse_handle, rf"^(?=.{{1,{_LONGEST_HANDLE}}}$){_HANDLE.pattern}$", "octocat"),
    "distribution": Format(
        _PACKAGE_NAME, refuse_distribution, rf"^(?=.{{1,{_LONGEST_NAME}}}$){_DISTRIBUTION.pattern}$", "terratorch"
    ),
    "link": Format(_DOCS_LINK, refuse_link, rf"^{_LINK.pattern}$", "https://example.org/docs"),
    "requirement": Format(_REQUIREMENT, refuse_requirement, r"^(?!-|/|~|\.\.|http:)[^\n]*\S$", "example-benchmarks>=1.0"),
    "version": Format(_VERSION, refuse_version, rf"^{_SEMVER.pattern}$", "1.0.0"),
    "skill-name": Format(VALUE, refuse_skill_name, rf"^(?=.{{1,{_LONGEST_SKILL}}}$){_SKILL.pattern}$", "read-a-map"),
    "date": Format(VALUE, refuse_date, rf"^{_DATE.pattern}$", "2026-12-31"),
    "module": Format(VALUE, refuse_module, rf"^{_MODULE.pattern}$", "tests.fixtures"),
    "duration": Format(VALUE, refuse_duration, rf"^(?=.*[1-9])(?:{_NUMBER}(?:ns|us|µs|μs|ms|s|m|h))+$", "20m"),
    "quantity": Format(
        VALUE, refuse_quantity, rf"^\+?(?=[0-9.]*[1-9]){_NUMBER}(?:[eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?$", "8Gi"
    ),
    "path": Format(VALUE, refuse_path, r"^(?![/~])(?!(?:.*/)?\.\.(?:/|$))(?=.*\S)[^\\]+$", "data/input.json"),
}  # fmt: skip


def normalise(name: str) -> str:
    """A distribution's name in the form that compares equal for one package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
