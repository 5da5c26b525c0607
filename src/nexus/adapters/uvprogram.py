"""Where the `uv` program is: the one of the `uv` distribution beside us. Called by everything that runs it."""

from __future__ import annotations

import os
import threading

_FINDING = threading.Lock()


def find_packaged() -> str:
    """The path of the packaged program; empty when there is none.

    Locked: the look-up fills `sysconfig`, which Python 3.11 does not do thread-safe.
    """
    with _FINDING:
        try:
            from uv import find_uv_bin

            return os.fspath(find_uv_bin())
        except (ImportError, FileNotFoundError):
            return ""
