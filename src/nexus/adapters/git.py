"""Runs the `git` command so that a repository or an environment makes it do nothing but what was asked.

No shell; no hook, file watcher, pager or prompt; variables that point Git at another repository (set within its own hooks) are
dropped; the network is reached only over the protocols a caller names. Used by the adapters that read registries (`checkout`,
`history`) and packages (`gitsource`, `packagefacts`); each says in its own errors what a refusal means.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

REMOTE = "https:ssh:file"
_SETTINGS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_PLACES = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_REPLACE_REF_BASE",
)  # fmt: skip
_SECRET = re.compile(r"(?<=://)[^/@\s]+@")


class Unanswered(Exception):
    """Git could not be run, or did not end in time; the text says which."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


@dataclass(frozen=True, slots=True)
class Answer:
    """What Git said. ``reason`` is its complaint on one line, without credentials; empty when ``ok``."""

    ok: bool
    out: bytes
    reason: str

    @property
    def text(self) -> str:
        """The output as text."""
        return self.out.decode("utf-8", errors="replace")


def run(*arguments: str, folder: Path | str, time_limit_s: float, feed: bytes = b"", protocols: str = "") -> Answer:
    """Git's answer in *folder*; *protocols* such as :data:`REMOTE` open the network. Raises Unanswered."""
    closed = () if protocols else ("-c", "protocol.allow=never")
    try:
        done = subprocess.run(
            ["git", *_SETTINGS, *closed, *arguments], cwd=folder, input=feed, capture_output=True, check=False,
            timeout=time_limit_s, env=_environment(protocols),
        )  # fmt: skip
    except FileNotFoundError:
        raise Unanswered("`git` is not installed here", "install Git, or do without what stands in it") from None
    except subprocess.TimeoutExpired:
        raise Unanswered(f"Git did not answer within {time_limit_s:g} s", "check the network and the disk, then repeat") from None
    return Answer(done.returncode == 0, done.stdout, _reason(done.stderr) if done.returncode else "")


def _environment(protocols: str) -> dict[str, str]:
    """Of the caller's own, what carries credentials and proxies when the network is open, nothing of Git's otherwise."""
    kept = {key: value for key, value in os.environ.items() if key not in _PLACES and (protocols or not key.startswith("GIT_"))}
    asked = {"GIT_ALLOW_PROTOCOL": protocols} if protocols else {"GIT_NO_LAZY_FETCH": "1"}
    ssh = {} if "GIT_SSH_COMMAND" in kept or not protocols else {"GIT_SSH_COMMAND": "ssh -oBatchMode=yes"}
    return {**kept, **asked, **ssh, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_PAGER": "cat", "LC_ALL": "C"}


def _reason(complaint: bytes) -> str:
    """The line that says why: the last that begins with `fatal:` or `error:`, else the last."""
    lines = _SECRET.sub("***@", complaint.decode("utf-8", errors="replace")).strip().splitlines()
    named = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (named or lines or ["no reason given"])[-1][:400]
