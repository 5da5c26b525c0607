"""Everything a program needs to use Nexus: a client (``Nexus``, ``NexusClient``), and the algorithm side (``algorithm``).

Names are imported when they are used: an algorithm's process never pays for the client's HTTP stack, nor the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus.sdk.authoring import Algorithm, Result, algorithm
    from nexus.sdk.client import NexusClient
    from nexus.sdk.context import Child, ChildFailed, Context, FatalError, LocalContext, TransientError
    from nexus.sdk.model import RunRef, RunResult, RunView
    from nexus.sdk.sync import Nexus

_HOMES = {
    "Algorithm": "nexus.sdk.authoring",
    "algorithm": "nexus.sdk.authoring",
    "Child": "nexus.sdk.context",
    "ChildFailed": "nexus.sdk.context",
    "Context": "nexus.sdk.context",
    "FatalError": "nexus.sdk.context",
    "LocalContext": "nexus.sdk.context",
    "Nexus": "nexus.sdk.sync",
    "NexusClient": "nexus.sdk.client",
    "Result": "nexus.sdk.authoring",
    "RunRef": "nexus.sdk.model",
    "RunResult": "nexus.sdk.model",
    "RunView": "nexus.sdk.model",
    "TransientError": "nexus.sdk.context",
}

__all__ = [
    "Algorithm",
    "Child",
    "ChildFailed",
    "Context",
    "FatalError",
    "LocalContext",
    "Nexus",
    "NexusClient",
    "Result",
    "RunRef",
    "RunResult",
    "RunView",
    "TransientError",
    "algorithm",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `nexus.sdk` has no attribute `{name}`")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
