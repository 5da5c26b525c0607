"""Who answers for what: owners of packages and models, and the CODEOWNERS file made of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nexus.catalog import files as places
from nexus.catalog.formats import refuse_handle
from nexus.catalog.snapshot import Snapshot
from nexus.kernel.documents import Finding

BEGIN = "# nexus: begin (generated from owners; `nexus get codeowners`)"
END = "# nexus: end"


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """One handle and what it answers for: names of packages, ids of models (its own, and those it has by default)."""

    handle: str
    packages: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    default_models: tuple[str, ...] = ()


def owners(snapshot: Snapshot) -> list[Owner]:
    """Every owner, by handle; handles are one whatever their case."""
    shown: dict[str, str] = {}
    packages: dict[str, list[str]] = {}
    models: dict[str, list[str]] = {}
    defaults: dict[str, list[str]] = {}
    for package in snapshot.packages:
        for handle in package.owners:
            packages.setdefault(_key(handle, shown), []).append(package.name)
        for model in package.models:
            own = bool(model.manifest is not None and model.manifest.owner)
            for handle in package.owners_of(model):
                (models if own else defaults).setdefault(_key(handle, shown), []).append(model.shown)
    return [
        Owner(
            handle=shown[key], packages=tuple(packages.get(key, ())), models=tuple(models.get(key, ())),
            default_models=tuple(defaults.get(key, ())),
        )
        for key in sorted(shown)
    ]  # fmt: skip


def unsettled(snapshot: Snapshot) -> str:
    """The first manifest that is missing, unreadable or has an error in its form; empty when there is none.

    While there is one, who owns what is not known, and a CODEOWNERS made now would take owners away.
    """
    for trouble in snapshot.files.troubles:
        if trouble.path.split("/")[0] == places.PACKAGES:
            return trouble.path
    for package in snapshot.packages:
        if package.manifest is None or _wrong(package.manifest.findings):
            return f"{package.path}/{places.PACKAGE_FILE}"
        for model in package.models:
            if model.manifest is None or _wrong(model.manifest.findings):
                return f"{model.path}/{places.MODEL_FILE}"
    return ""


def _wrong(findings: tuple[Finding, ...]) -> bool:
    return any(one.severity == "error" for one in findings)


def codeowners(snapshot: Snapshot) -> str:
    """The generated part of CODEOWNERS, markers included: a line a package, and one a model whose owner is another.

    GitHub takes the last line that matches, so a model's line names the package's owners as well.
    """
    return "\n".join([BEGIN, *_lines(snapshot), END]) + "\n"


def is_generated(text: str) -> bool:
    """Whether the file holds a part of ours."""
    return BEGIN in text and END in text[text.index(BEGIN) :]


def merged(text: str, generated: str) -> str:
    """The file with our part renewed, or added at its end; all else stays."""
    if not is_generated(text):
        return f"{text.rstrip()}\n\n{generated}" if text.strip() else generated
    start = text.index(BEGIN)
    stop = text.index(END, start) + len(END)
    rest = text[stop:]
    return text[:start] + generated.rstrip("\n") + (rest if rest.startswith("\n") else f"\n{rest}")


def _lines(snapshot: Snapshot) -> Iterator[str]:
    for package in snapshot.packages:
        handles = _valid(package.owners)
        if handles:
            yield f"/{_escaped(package.path)}/ {' '.join(handles)}"
        for model in package.models:
            own = _valid((model.manifest.owner,)) if model.manifest is not None and model.manifest.owner else []
            if own and own[0] not in handles:
                yield f"/{_escaped(model.path)}/ {' '.join([*own, *handles])}"


def _valid(handles: tuple[str, ...]) -> list[str]:
    return [f"@{handle}" for handle in dict.fromkeys(handles) if not refuse_handle(handle)]


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(" ", "\\ ")


def _key(handle: str, shown: dict[str, str]) -> str:
    shown.setdefault(handle.lower(), handle)
    return handle.lower()
