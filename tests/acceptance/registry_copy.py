"""What the tests of a registry's commands share: the command, Git, and where the example stands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/registry"
NEXUS = [sys.executable, "-c", "import sys; from nexus.cli.main import main; sys.exit(main())"]


def nexus(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One call of the command; its input is empty and no terminal."""
    return subprocess.run(
        [*NEXUS, *arguments], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=180
    )


def git(place: Path, *arguments: str) -> None:
    """One Git command, independent of this machine's settings."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "GIT_CONFIG_GLOBAL": "/dev/null"}
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *arguments], cwd=place, env=environment, check=True, capture_output=True)


def copied(place: Path) -> Path:
    """A copy of the example registry below this folder."""
    return Path(shutil.copytree(EXAMPLE, place / "registry", ignore=shutil.ignore_patterns("__pycache__")))
