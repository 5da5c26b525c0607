"""Which results are ours to sign. A result URI is stored as the algorithm gave it; only two forms are ever opened:

- ``nexus:<key>``, an object stored through the run's own upload URL;
- a path (plain or ``file://``) inside the run's own result folder.

Any other URI is handed back verbatim and never opened.
"""

from __future__ import annotations

import posixpath
from urllib.parse import unquote, urlsplit

from nexus.runs.model import Run

_SCHEME = "nexus:"


def folder_key(run_id: str) -> str:
    """The key prefix under which everything that belongs to a run's result lies."""
    return f"results/{run_id}"


def object_uri(key: str) -> str:
    """How a stored object is named in a run's ``result_uri``."""
    return f"{_SCHEME}{key}"


def object_key(run: Run, root: str) -> str | None:
    """The key of the object behind the run's result; None when the result is not ours to open.

    *root* is the absolute path under which local objects lie. Whether the path holds symlinks is the adapter's to refuse.
    """
    uri = run.result_uri
    if not uri:
        return None
    if uri.startswith(_SCHEME):
        key = uri.removeprefix(_SCHEME)
    else:
        path = unquote(urlsplit(uri).path) if uri.startswith("file://") else uri
        if not path.startswith("/"):
            return None
        key = posixpath.relpath(posixpath.normpath(path), root)
    inside = key.startswith(folder_key(run.id) + "/") and posixpath.normpath(key) == key
    return key if inside else None
