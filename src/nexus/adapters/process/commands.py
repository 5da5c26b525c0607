"""What an attempt executes: the file behind its command, its working directory, its environment. Reads the disk, writes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from nexus.adapters.environments import LocalEnvironment
from nexus.runs.ports import Launch, LaunchFailed

_PASSED = ("LANG", "TZ", "TMPDIR", "OMP_NUM_THREADS")  # the last one when the run has no processor limit
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command ready for execve."""

    path: str
    cwd: str
    environment: dict[str, str]


def resolve(launch: Launch, local: LocalEnvironment | None, scratch: Path, variables: Mapping[str, str]) -> Command:
    """The command of a launch, looked up on the PATH it will have. Raises LaunchFailed, permanent, when there is none.

    The environment: a short list passed through from *variables*, then the launch's own, with a local environment's programs
    first on PATH. The working directory: the template's, else its project, else *scratch*.
    """
    _refuse_nul(launch)
    environment = {
        "PATH": variables.get("PATH", _DEFAULT_PATH),
        "HOME": str(scratch),
        **{name: variables[name] for name in _PASSED if name in variables},
        **({"OMP_NUM_THREADS": str(max(-(-launch.cpu_millicores // 1000), 1))} if launch.cpu_millicores else {}),
        **launch.environment,
    }
    if local is not None:
        environment["PATH"] = f"{local.programs}{os.pathsep}{environment['PATH']}"
        environment.setdefault("VIRTUAL_ENV", str(local.folder))
    cwd = _working_directory(launch.local, scratch)
    return Command(path=_find(launch.argv, environment["PATH"], cwd), cwd=str(cwd), environment=environment)


def _working_directory(local: Mapping[str, str], scratch: Path) -> Path:
    given = local.get("working-directory") or local.get("project")
    if given is None:
        return scratch
    if not Path(given).is_dir():
        raise LaunchFailed(
            f"the working directory `{given}` does not exist", "it is named by the template's `local.nexus` annotations"
        )
    return Path(given)


def _find(argv: tuple[str, ...], path: str, cwd: Path) -> str:
    if not argv or not argv[0]:
        raise LaunchFailed("the template has no command", "`command` and `args` together are empty")
    name = argv[0]
    if "/" in name:
        place = cwd / name
        if not place.is_file():
            raise LaunchFailed(f"the command `{name}` does not exist", f"looked for `{place}`")
        if not os.access(place, os.X_OK):
            raise LaunchFailed(f"the command `{name}` is not executable", f"give it the permission: chmod +x {place}")
        return str(place)
    absolute = os.pathsep.join(str(cwd / folder) for folder in path.split(os.pathsep) if folder)
    found = shutil.which(name, path=absolute)
    if found is None:
        raise LaunchFailed(f"the command `{name}` was not found", f"PATH looked at: {path}")
    return found


def _refuse_nul(launch: Launch) -> None:
    texts = [*launch.argv, *launch.environment, *launch.environment.values()]
    if any("\0" in text for text in texts) or any("=" in name or not name for name in launch.environment):
        raise LaunchFailed(
            "the command or its environment cannot be passed to a process", "a NUL byte, or `=` in a variable's name"
        )
