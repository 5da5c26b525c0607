"""In-memory twins of the stores, with the same promises except the durable ones: for tests of what uses a store.

MemoryStore is RunStore, ManifestStore and TokenStore at once, as SqliteStore is; MemoryObjects is Objects. ``room_bytes`` lets
a test fill the disk and make room again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from msgspec.structs import replace

from nexus.kernel.access import Token
from nexus.kernel.clock import Clock
from nexus.kernel.errors import NoSpace, Unavailable
from nexus.runs.keeping import (
    cancelled_parent,
    check_key,
    check_limits,
    next_manifest,
    no_object,
    no_token,
    not_found,
    object_exists,
    run_exists,
    same_request,
    token_exists,
    unknown_cursor,
    unknown_parent,
    unstorable,
)
from nexus.runs.model import Report, Run, Stage
from nexus.runs.ports import Accepted, Change, Decide, Ended, Filter, StoredManifest, TreeLimits

_ROW_BYTES = 500  # about what a run takes on disk, for tests that count room


class MemoryStore:
    """Keeps runs, manifests and tokens in dictionaries. Every call gives other tasks a turn first, as a real one does."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock
        self.room_bytes: int | None = None
        self._runs: dict[str, Run] = {}  # in the order they were accepted
        self._payloads: dict[str, bytes] = {}
        self._keys: dict[tuple[str, str, str], str] = {}
        self._ends: dict[str, dict[int, Ended]] = {}
        self._late: dict[str, list[Report]] = {}
        self._manifests: dict[tuple[str, str], list[StoredManifest]] = {}
        self._removed: set[tuple[str, str]] = set()
        self._tokens: dict[str, Token] = {}

    async def close(self) -> None:
        """Nothing to close; there because a real store has it."""

    # ── RunStore ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def accept(self, run: Run, inline: bytes | None, limits: TreeLimits) -> Accepted:
        await asyncio.sleep(0)
        key = None if run.idempotency_key is None else (run.caller, run.algorithm, run.idempotency_key)
        if key is not None and key in self._keys:
            return Accepted(same_request(self._runs[self._keys[key]], run), True)
        run = self._placed(run, limits) if run.parent is not None else replace(run, root_id=run.id, depth=0)
        if run.id in self._runs:
            raise run_exists(run)
        self._take(_ROW_BYTES + len(inline or b""))
        self._runs[run.id] = run
        if inline is not None:
            self._payloads[run.id] = bytes(inline)
        if key is not None:
            self._keys[key] = run.id
        return Accepted(run)

    def _placed(self, run: Run, limits: TreeLimits) -> Run:
        assert run.parent is not None
        parent = self._runs.get(run.parent.run_id)
        if parent is None or parent.algorithm != run.parent.algorithm:
            raise unknown_parent(run)
        ancestor: Run | None = parent
        while ancestor is not None:
            if ancestor.stage is Stage.CANCELLED:
                raise cancelled_parent(run, ancestor.id)
            ancestor = self._runs[ancestor.parent.run_id] if ancestor.parent is not None else None
        size = sum(other.root_id == parent.root_id for other in self._runs.values())
        check_limits(parent.depth + 1, size + 1, limits)
        return replace(run, root_id=parent.root_id, depth=parent.depth + 1)

    async def change(self, run_id: str, decide: Decide) -> Change:
        await asyncio.sleep(0)
        before = self._known(run_id)
        after = decide(before)
        if after is not before:
            self._take(0)
            self._runs[run_id] = after
        return Change(before, after)

    async def end_attempt(self, ended: Ended, decide: Decide) -> Change:
        await asyncio.sleep(0)
        before = self._known(ended.run_id)
        after = decide(before)
        ends = self._ends.setdefault(ended.run_id, {})
        if ended.attempt not in ends:
            self._take(_ROW_BYTES)
            detail = ended.exit.detail.encode("utf-8", "replace").decode()
            ends[ended.attempt] = replace(ended, exit=replace(ended.exit, detail=detail))
        elif after is not before:
            self._take(0)
        self._runs[ended.run_id] = after
        return Change(before, after)

    async def change_tree(self, run_id: str, decide: Decide) -> list[Change]:
        await asyncio.sleep(0)
        family = [self._known(run_id)]
        for member in family:  # grows while it is walked: parents before children
            family += [run for run in self._runs.values() if run.parent is not None and run.parent.run_id == member.id]
        changes = [Change(run, decide(run)) for run in family]
        self._take(0)
        for change in changes:
            self._runs[change.after.id] = change.after
        return changes

    async def get(self, algorithm: str, run_id: str) -> Run:
        run = self._runs.get(run_id)
        if run is None or run.algorithm != algorithm:
            raise not_found(run_id, algorithm)
        return run

    async def find(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    async def inline_payload(self, run_id: str) -> bytes:
        self._known(run_id)
        return self._payloads.get(run_id, b"")

    async def tagged(self, tag: str, *, limit: int, before: str | None = None) -> list[Run]:
        return await self.page(Filter(tag=tag), limit=limit, before=before)

    async def page(self, where: Filter, *, limit: int, before: str | None = None) -> list[Run]:
        await asyncio.sleep(0)
        runs = list(self._runs.values())
        if before is not None:
            if before not in self._runs:
                raise unknown_cursor(before)
            runs = runs[: list(self._runs).index(before)]
        return [run for run in reversed(runs) if _matches(run, where)][:limit]

    async def waiting(self, now: datetime, *, limit: int, exclude: Sequence[str] = ()) -> list[Run]:
        await asyncio.sleep(0)
        due = (run for run in self._runs.values() if run.waiting and (run.not_before is None or run.not_before <= now))
        return [run for run in due if run.id not in set(exclude)][:limit]

    async def running(self) -> list[Run]:
        return [run for run in self._runs.values() if run.stage is Stage.RUNNING and not run.waiting]

    async def counts(self) -> dict[Stage, int]:
        counts = dict.fromkeys(Stage, 0)
        for run in self._runs.values():
            counts[run.stage] += 1
        return counts

    async def record_late(self, run_id: str, report: Report) -> None:
        await asyncio.sleep(0)
        self._known(run_id)
        self._take(_ROW_BYTES)
        self._late.setdefault(run_id, []).append(report)

    async def late_reports(self, run_id: str) -> list[Report]:
        return list(self._late.get(run_id, ()))

    async def attempts(self, run_id: str, *, limit: int) -> list[Ended]:
        ends = self._ends.get(run_id, {})
        return [ends[number] for number in sorted(ends)[-limit:]]

    # ── ManifestStore ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def put(self, manifests: Sequence[StoredManifest], *, prune: bool = False) -> list[StoredManifest]:
        await asyncio.sleep(0)
        for given in manifests:
            try:
                f"{given.kind}{given.name}{given.namespace}{given.source}".encode()
            except UnicodeEncodeError as error:
                raise unstorable(error) from error
        self._take(sum(len(manifest.body) for manifest in manifests))
        results = []
        for given in manifests:
            name = (given.kind, given.name)
            revisions = self._manifests.setdefault(name, [])
            result = next_manifest(revisions[-1] if revisions else None, given)
            if revisions and revisions[-1].revision == result.revision:
                revisions[-1] = result
            else:
                revisions.append(result)
            self._removed.discard(name)
            results.append(result)
        if prune:
            keep = {(each.kind, each.name) for each in manifests}
            gone = [each for each in self._current() if (each.kind, each.name) not in keep]
            self._removed.update((each.kind, each.name) for each in gone)
            results += [replace(each, removed=True) for each in gone]
        return results

    async def current(self) -> list[StoredManifest]:
        return self._current()

    def _current(self) -> list[StoredManifest]:
        return [self._manifests[name][-1] for name in sorted(self._manifests) if name not in self._removed]

    async def at(self, kind: str, name: str, revision: int) -> StoredManifest | None:
        revisions = self._manifests.get((kind, name), [])
        if not 0 < revision <= len(revisions):
            return None
        return replace(revisions[revision - 1], removed=(kind, name) in self._removed)

    # ── TokenStore ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def add_token(self, token: Token) -> None:
        if token.name in self._tokens:
            raise token_exists(token.name)
        self._take(_ROW_BYTES)
        self._tokens[token.name] = token

    async def revoke_token(self, name: str) -> None:
        if self._tokens.pop(name, None) is None:
            raise no_token(name)

    async def tokens(self) -> list[Token]:
        return [self._tokens[name] for name in sorted(self._tokens)]

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _known(self, run_id: str) -> Run:
        if run_id not in self._runs:
            raise not_found(run_id)
        return self._runs[run_id]

    def _take(self, size_bytes: int) -> None:
        if self.room_bytes is not None:
            if size_bytes >= self.room_bytes:
                raise NoSpace("the memory given to this store is full")
            self.room_bytes -= size_bytes


class MemoryObjects:
    """Keeps objects in a dictionary."""

    def __init__(self) -> None:
        self.room_bytes: int | None = None
        self._objects: dict[str, bytes] = {}

    @asynccontextmanager
    async def spool(self) -> AsyncIterator[MemorySpool]:
        spool = MemorySpool(self)
        try:
            yield spool
        finally:
            spool.data = bytearray()

    async def read(self, key: str, *, offset: int = 0, size_bytes: int | None = None) -> AsyncIterator[bytes]:
        await asyncio.sleep(0)
        check_key(key)
        if key not in self._objects:
            raise no_object(key)
        data = self._objects[key]
        end = len(data) if size_bytes is None else min(len(data), offset + size_bytes)
        for start in range(offset, end, 256 << 10):
            yield data[start : min(end, start + (256 << 10))]

    async def size(self, key: str) -> int | None:
        check_key(key)
        data = self._objects.get(key)
        return None if data is None else len(data)

    async def delete(self, key: str) -> None:
        check_key(key)
        self._objects.pop(key, None)

    async def names(self, folder: str) -> list[str]:
        check_key(folder)
        keys = [key.removeprefix(f"{folder}/") for key in self._objects if key.startswith(f"{folder}/")]
        return [key for key in keys if "/" not in key]

    def keep(self, key: str, data: bytes) -> None:
        """Takes an object in. Raises Conflict, NoSpace."""
        check_key(key)
        if key in self._objects:
            raise object_exists(key)
        if self.room_bytes is not None and len(data) > self.room_bytes:
            raise NoSpace("the memory given to these objects is full")
        self._objects[key] = data


class MemorySpool:
    """An object being written, in memory."""

    def __init__(self, objects: MemoryObjects) -> None:
        self._objects = objects
        self._sealed = False
        self.data = bytearray()

    async def write(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        if self._sealed:
            raise Unavailable("this object takes no more: it is committed", hint="begin a new one")
        self.data += chunk

    def view(self) -> memoryview:
        return memoryview(bytes(self.data))

    async def commit(self, key: str) -> int:
        await asyncio.sleep(0)
        if self._sealed:
            raise Unavailable("this object takes no more: it is committed", hint="begin a new one")
        self._objects.keep(key, bytes(self.data))
        self._sealed = True
        return len(self.data)


def _matches(run: Run, where: Filter) -> bool:
    return (
        (where.algorithm is None or run.algorithm == where.algorithm)
        and (where.stage is None or run.stage is where.stage)
        and (where.tag is None or run.tag == where.tag)
        and (where.root_id is None or run.root_id == where.root_id)
        and (where.parent_id is None or (run.parent is not None and run.parent.run_id == where.parent_id))
    )
