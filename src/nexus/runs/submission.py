"""Accepting a run: check it against what is registered, store it, hand it to the dispatcher. Called by the API for each POST.

Reading bytes off the wire, spooling large bodies and splitting the envelope from the parameters is the API's; this module
never sees a parameter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import msgspec

from nexus.kernel.clock import Clock
from nexus.kernel.errors import NexusError, QueueFull, RunNotFound
from nexus.runs.algorithms import Algorithms
from nexus.runs.configuration import merge
from nexus.runs.model import ParentRef, Payload, Run, Stage
from nexus.runs.ports import Accepted, Objects, RunStore, TreeLimits

PAYLOADS = "payloads"  # the folder of large payloads, each under its run's id

_STRIDE = 16  # payloads looked at between two turns of the loop


class Submit(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the door understood it.

    ``inline`` are the raw parameter bytes when they travel in the row (``payload.object_key`` is None); otherwise the object
    is already durable. ``fingerprint`` is set exactly when there is an ``idempotency_key``: a digest of everything a replay
    must repeat.
    """

    run_id: str
    algorithm: str
    payload: Payload
    inline: bytes | None
    content_hash: str
    caller: str
    dry_run: bool = False
    api_version: str = ""
    tag: str | None = None
    parent: ParentRef | None = None
    overrides: bytes | None = None
    payload_valid_for: timedelta | None = None
    idempotency_key: str | None = None
    fingerprint: bytes | None = None


class Submission:
    """Accepts runs. ``offer`` gets each stored run at once; ``backlog`` says how many wait."""

    def __init__(
        self,
        store: RunStore,
        objects: Objects,
        algorithms: Algorithms,
        clock: Clock,
        *,
        host: str,
        offer: Callable[[Run], None],
        backlog: Callable[[], int],
        max_waiting: int = 1_000_000,
        tree_limits: TreeLimits | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._objects = objects
        self._algorithms = algorithms
        self._clock = clock
        self._host = host
        self._offer = offer
        self._backlog = backlog
        self._max_waiting = max_waiting
        self._tree_limits = tree_limits or TreeLimits()
        self._on_step = on_step

    async def submit(self, request: Submit) -> Accepted:
        """The stored run; durable when this returns.

        Raises UnknownAlgorithm, UnknownWorkgroup, InvalidTemplate (overrides), QueueFull, and what
        :meth:`RunStore.accept` raises. An object already written for the payload is removed when the run is not stored.
        """
        if self._on_step is not None:
            self._on_step("accept.before-store")
        try:
            accepted = await self._store.accept(self._draft(request), request.inline, self._tree_limits)
        except NexusError:
            await self._drop(request)
            raise
        except BaseException:  # the caller was cancelled, while the store may go on
            await self._find_out(request)
            raise
        if self._on_step is not None:
            self._on_step("accept.after-store")
        if accepted.replayed:
            await self._drop(request)
        else:
            self._offer(accepted.run)
        return accepted

    async def tidy(self, before: str) -> int:
        """Removes payloads whose run was never stored, because the service died between the two; how many.

        Only those made before the id *before* are looked at: a newer one may be on its way to its row.
        """
        removed = 0
        for number, run_id in enumerate(await self._objects.names(PAYLOADS)):
            if number % _STRIDE == _STRIDE - 1:
                await asyncio.sleep(0)
            if run_id < before and await self._store.find(run_id) is None:
                await self._objects.delete(f"{PAYLOADS}/{run_id}")
                removed += 1
        return removed

    def _draft(self, request: Submit) -> Run:
        template = self._algorithms.find(request.algorithm)
        self._algorithms.workgroup_of(merge(template, request.overrides))
        if self._backlog() >= self._max_waiting:
            raise QueueFull(f"`{self._max_waiting}` runs wait already", hint="try again later", retry_after_s=5.0)
        now = self._clock.now()
        return Run(
            id=request.run_id,
            algorithm=request.algorithm,
            stage=Stage.BUFFERED,
            received_at=now,
            last_modified=now,
            received_by=self._host,
            caller=request.caller,
            content_hash=request.content_hash,
            payload=request.payload,
            template_revision=template.revision,
            root_id=request.run_id,
            api_version=request.api_version,
            tag=request.tag,
            parent=request.parent,
            dry_run=request.dry_run,
            overrides=request.overrides,
            payload_valid_for=request.payload_valid_for,
            idempotency_key=request.idempotency_key,
            fingerprint=request.fingerprint,
        )

    async def _find_out(self, request: Submit) -> None:
        """Carries a request through whose caller is gone: offers the run when it was stored, else removes its payload."""
        try:  # a change waits its turn behind the accept
            change = await self._store.change(request.run_id, lambda run: run)
        except RunNotFound:
            await self._drop(request)
        except NexusError:
            return  # nobody knows: a payload too many is better than one too few
        else:
            self._offer(change.after)

    async def _drop(self, request: Submit) -> None:
        if request.payload.object_key is not None:
            await self._objects.delete(request.payload.object_key)
