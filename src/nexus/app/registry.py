"""The read-only views of a registry root that the service shows; each is computed when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

View = Callable[[Mapping[str, str]], Any]


def views(root: str) -> dict[str, View]:
    """Name → view of the registry at *root*."""
    return {}
