"""Whether what `local.nexus/*` annotations name is there, asked when manifests are read: at a service's start and at an apply.

The service looks on its own machine, wherever an apply came from. What is found here would else fail the first run.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from nexus.runs.templates import PathFault

_DESCRIPTIONS = ("pyproject.toml", "requirements.txt")


def look(key: str, value: str) -> PathFault | None:
    """What is wrong with the path that the local annotation *key* names; None when nothing is, or it names none."""
    if key not in ("project", "requirements", "working-directory") and not (key == "python" and "/" in value):
        return None
    path = Path(value)
    if not path.is_absolute():
        hint = "write an absolute path, or apply the manifest as a file"
        return PathFault(message=f"is `{path}`, which is relative, and the manifest came without its folder", hint=hint)
    try:
        return _missing(key, path) or (_described(path) if key == "project" else None)
    except OSError as error:  # a folder on the way that is not this user's to read
        return PathFault(message=f"is `{path}`, which cannot be read: {error.strerror}", hint="the service's user must be able to")


def _missing(key: str, path: Path) -> PathFault | None:
    wants_folder = key in ("project", "working-directory")
    what = "folder" if wants_folder else "file"
    severity = "warning" if key == "working-directory" else "error"  # it may be mounted, or made, before the first run
    if not path.exists():
        hint = f"make the {what} on the service's machine, or correct the path: it counts from the manifest"
        return PathFault(message=f"is `{path}`, which does not exist", hint=hint, severity=severity)
    if path.is_dir() != wants_folder:
        return PathFault(message=f"is `{path}`, which is no {what}", hint=f"name a {what}", severity=severity)
    return None


def _described(project: Path) -> PathFault | None:
    """What keeps a folder from being a project an environment can be built from."""
    if not any((project / name).is_file() for name in _DESCRIPTIONS):
        hint = "add a `pyproject.toml` (`[project]` with `name`, `version`, `dependencies`), or name the folder by "
        hint += "`local.nexus/working-directory` if the command needs no packages"
        return PathFault(message=f"is `{project}`, which has no `pyproject.toml`", hint=hint)
    try:
        tomllib.loads((project / _DESCRIPTIONS[0]).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        message = f"is `{project}`, whose `pyproject.toml` is not valid TOML: {error}"
        return PathFault(message=message, hint="mend it; `uv lock` in the folder shows whether it is right")
    return None
