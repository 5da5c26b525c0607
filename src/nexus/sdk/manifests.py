"""Manifest files: which they are, for `apply` and for a service's start, and how they are sent to one, which alone judges them."""

from __future__ import annotations

import re
from pathlib import Path

from nexus.kernel.documents import DocumentError, decode
from nexus.kernel.errors import InvalidInput
from nexus.sdk.answers import RefusedManifests
from nexus.sdk.model import Manifest, ManifestFinding

_SUFFIXES = (".yaml", ".yml", ".json")
_MEANT = re.compile(rb"science\.sneaksanddata\.com/|\bkind[\"']?\s*:\s*[\"']?NexusAlgorithm")


def read(paths: list[Path]) -> list[Manifest]:
    """The manifests of files, and of folders with all below them that mean to be one, in the order of their names.

    Raises InvalidInput when a path is missing or holds none, RefusedManifests for files that are no text.
    """
    manifests: list[Manifest] = []
    findings: list[ManifestFinding] = []
    for file in _files(paths):
        try:
            text = decode(file.read_bytes(), str(file))
        except OSError as error:
            raise InvalidInput(f"`{file}` cannot be read: {error.strerror or error}") from error
        except DocumentError as error:
            said = error.finding
            findings.append(ManifestFinding(message=said.message, code=said.code, hint=said.hint, file=said.file, line=said.line))
            continue
        manifests.append(Manifest(str(file), text, str(file.resolve().parent)))
    if findings:
        raise RefusedManifests("nothing was applied", findings=tuple(findings))
    return manifests


def _files(paths: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = in_folder(path)
            if not found:
                raise InvalidInput(f"the folder `{path}` holds no manifest", hint=f"files end in {', '.join(_SUFFIXES)}")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise InvalidInput(f"`{path}` does not exist", hint="give the file or folder of the manifests")
    return files


def in_folder(folder: Path) -> list[Path]:
    """The files below *folder* that mean to be manifests, in the order of their names; hidden ones and hidden folders stay out."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix in _SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and _is_manifest(file)
    )


def _is_manifest(file: Path) -> bool:
    """Whether a file found in a folder means to be a manifest: folders hold payloads and other YAML too."""
    with file.open("rb") as stream:
        return _MEANT.search(stream.read(64 * 1024)) is not None
