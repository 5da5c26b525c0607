"""What every ManifestStore promises (M1 to M4 of ``nexus.runs.ports``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from nexus.runs.ports import StoredManifest
from nexus.testing.builders import NOON


@dataclass
class ManifestSubject:
    """The store under test; ``reopen`` gives what a new process finds."""

    store: Any
    reopen: Callable[[], Awaitable[Any]]


def build_manifest(name: str = "demand", body: bytes = b"{}", **changes: Any) -> StoredManifest:
    fields: dict[str, Any] = {
        "kind": "Template", "namespace": "nexus", "revision": 0, "source": "a.yaml", "trusted": False, "stored_at": NOON, **changes,
    }  # fmt: skip
    return StoredManifest(name=name, body=body, **fields)


class ManifestStoreSuite:
    """Needs a fixture ``subject`` of ManifestSubject with an empty store."""

    async def test_m1_an_equal_body_makes_no_new_revision(self, subject: ManifestSubject) -> None:
        """Putting the same body again returns the stored revision, as it was stored."""
        (first,) = await subject.store.put([build_manifest()])
        (again,) = await subject.store.put([build_manifest(stored_at=NOON.replace(year=2030), source="elsewhere.yaml")])
        assert first.revision == 1
        assert again == first
        assert await subject.store.current() == [first]

    async def test_m1_trust_is_gained_and_kept(self, subject: ManifestSubject) -> None:
        """An operator's own file with the same body makes it trusted; an untrusted caller who sends it changes nothing."""
        await subject.store.put([build_manifest()])
        (trusted,) = await subject.store.put([build_manifest(trusted=True, source="own.yaml")])
        (again,) = await subject.store.put([build_manifest(source="sent")])
        assert (trusted.revision, trusted.trusted, trusted.source) == (1, True, "own.yaml")
        assert again == trusted
        assert await subject.store.at("Template", "demand", 1) == trusted

    async def test_m1_an_untrusted_change_is_untrusted(self, subject: ManifestSubject) -> None:
        """A new body is trusted only when whoever sends it is."""
        await subject.store.put([build_manifest(trusted=True)])
        (changed,) = await subject.store.put([build_manifest(body=b'{"evil": 1}')])
        assert (changed.revision, changed.trusted) == (2, False)

    async def test_m1_all_or_nothing(self, subject: ManifestSubject) -> None:
        """When one manifest of a call cannot be stored, none is."""
        broken = build_manifest("broken", source="\ud800")
        with pytest.raises(Exception, match="cannot be stored"):
            await subject.store.put([build_manifest("fine"), broken])
        assert await subject.store.current() == []

    async def test_m2_revisions_count_up_and_stay(self, subject: ManifestSubject) -> None:
        """Each new body is the next revision; older ones are read as they were."""
        bodies = [b"1", b"2", b"1"]
        stored = [(await subject.store.put([build_manifest(body=body)]))[0] for body in bodies]
        assert [manifest.revision for manifest in stored] == [1, 2, 3]
        for manifest in stored:
            assert await subject.store.at("Template", "demand", manifest.revision) == manifest
        assert await subject.store.at("Template", "demand", 4) is None
        assert await subject.store.at("Workgroup", "demand", 1) is None
        assert await subject.store.current() == [stored[-1]]

    async def test_m2_a_removed_name_keeps_its_revisions(self, subject: ManifestSubject) -> None:
        """A removed name is not current, its revisions are readable, and it counts on when it returns."""
        (first,) = await subject.store.put([build_manifest(body=b"1")])
        assert await subject.store.put([], prune=True) == [replace(first, removed=True)]
        assert await subject.store.current() == []
        assert await subject.store.at("Template", "demand", 1) == replace(first, removed=True)
        (back,) = await subject.store.put([build_manifest(body=b"2")])
        assert (back.revision, back.removed) == (2, False)
        assert await subject.store.current() == [back]

    async def test_m2_a_removed_name_returns_as_it_was(self, subject: ManifestSubject) -> None:
        """The body a removed name had is its newest revision again when it is put back."""
        (first,) = await subject.store.put([build_manifest()])
        await subject.store.put([], prune=True)
        assert await subject.store.put([build_manifest()]) == [first]
        assert await subject.store.current() == [first]

    async def test_m2_kinds_have_names_of_their_own(self, subject: ManifestSubject) -> None:
        """A template and a workgroup of one name are two manifests."""
        await subject.store.put([build_manifest(), build_manifest(kind="Workgroup", body=b"[]")])
        assert [(manifest.kind, manifest.revision) for manifest in await subject.store.current()] == [
            ("Template", 1),
            ("Workgroup", 1),
        ]

    async def test_m3_manifests_are_there_for_the_next_process(self, subject: ManifestSubject) -> None:
        """What put() kept and removed is found by a process that opens the store afterwards."""
        stored = await subject.store.put([build_manifest("a", trusted=True), build_manifest("b"), build_manifest("c")])
        await subject.store.put([build_manifest("a"), build_manifest("c")], prune=True)
        store = await subject.reopen()
        assert await store.current() == [stored[0], stored[2]]
        assert (await store.at("Template", "b", 1)).removed

    async def test_m4_pruning_removes_what_is_not_given(self, subject: ManifestSubject) -> None:
        """Names of either kind that are not given are removed and returned after the stored ones; without it they stay."""
        await subject.store.put([build_manifest("a"), build_manifest("b"), build_manifest("a", kind="Workgroup")])
        assert [manifest.name for manifest in await subject.store.put([build_manifest("c")])] == ["c"]
        changed = await subject.store.put([build_manifest("b", body=b"2"), build_manifest("d")], prune=True)
        assert [(each.kind, each.name, each.revision, each.removed) for each in changed] == [
            ("Template", "b", 2, False),
            ("Template", "d", 1, False),
            ("Template", "a", 1, True),
            ("Template", "c", 1, True),
            ("Workgroup", "a", 1, True),
        ]
        assert await subject.store.current() == changed[:2]
        assert await subject.store.put([build_manifest("d"), build_manifest("b", body=b"2")], prune=True) == changed[1::-1]

    async def test_m4_a_refused_call_prunes_nothing(self, subject: ManifestSubject) -> None:
        """When one of the manifests cannot be stored, none is, and nothing is removed."""
        before = await subject.store.put([build_manifest("a"), build_manifest("b")])
        with pytest.raises(Exception, match="cannot be stored"):
            await subject.store.put([build_manifest("c"), build_manifest("d", source="\ud800")], prune=True)
        assert await subject.store.current() == before
        assert await (await subject.reopen()).current() == before
