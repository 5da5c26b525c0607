"""What the doors need of the service and how they are set up; given by the wiring, read by every handler."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from nexus.api.access import Gate
from nexus.api.metrics import Traffic
from nexus.kernel.access import TokenStore
from nexus.kernel.clock import Clock
from nexus.runs.algorithms import Algorithms
from nexus.runs.cancellation import Cancellation
from nexus.runs.completion import Completion
from nexus.runs.elapsed import Elapsed
from nexus.runs.ports import Objects
from nexus.runs.reading import Reading
from nexus.runs.submission import Submission
from nexus.runs.tagging import Tagging
from nexus.runs.templates import Look
from nexus.runs.urls import Signer

RegistryView = Callable[[Mapping[str, str]], Any]


def _is_ready() -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Services:
    """The use cases and ports behind the routes.

    ``queue`` says what waits and runs now: ``{"waiting", "running", "capacity"}``. ``registry`` holds read-only views by
    name (`packages`, `models`, …): each gets the query and returns something JSON can carry; it may block, and runs in a
    thread. ``ready`` says why the service is not ready, None when it is. ``collectors`` are further Prometheus collectors.
    ``look`` judges the paths that manifests name on this machine.
    """

    submission: Submission
    completion: Completion
    cancellation: Cancellation
    reading: Reading
    tagging: Tagging
    algorithms: Algorithms
    signer: Signer
    objects: Objects
    ids: Callable[[], str]
    clock: Clock
    elapsed: Elapsed
    tokens: TokenStore
    queue: Callable[[], Mapping[str, Any]]
    registry: Mapping[str, RegistryView] = field(default_factory=dict)
    ready: Callable[[], str | None] = _is_ready
    collectors: Sequence[Any] = ()
    look: Look | None = None


@dataclass(frozen=True, kw_only=True)
class DoorSettings:
    """Limits and rules of the doors. Sizes in bytes.

    ``public_url`` is what signed URLs begin with; empty: the address the caller used. ``allowed_hosts`` are names beyond
    loopback under which the service may be called; ``*`` is any. ``max_uploads``: how many results one run may store.
    """

    inline_payload_bytes: int = 64 * 1024
    max_payload_bytes: int = 500 * 1024 * 1024
    max_result_bytes: int = 2 * 1024 * 1024 * 1024
    max_uploads: int = 100
    max_report_bytes: int = 4 * 1024 * 1024
    max_manifest_bytes: int = 16 * 1024 * 1024
    max_wait_s: float = 60.0
    result_valid_for: timedelta = timedelta(hours=24)
    require_token: bool = False
    behind_proxy: bool = False
    allowed_hosts: frozenset[str] = frozenset()
    public_url: str = ""


class Context:
    """One service's doors: shared by all its ports."""

    def __init__(self, services: Services, settings: DoorSettings) -> None:
        self.services = services
        self.settings = settings
        self.traffic = Traffic()
        self.draining = asyncio.Event()
        self.gate = Gate(
            services.tokens,
            services.signer,
            services.clock,
            require_token=settings.require_token,
            behind_proxy=settings.behind_proxy,
            allowed_hosts=settings.allowed_hosts,
        )
        self.uploading: Counter[str] = Counter()  # results on their way, by run
        self.named_unknown: set[str] = set()  # unknown fields of v1 requests that were logged
