"""What can be run: names, revisions, namespaces, trust, pruning."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from nexus.kernel.clock import SystemClock
from nexus.kernel.errors import Forbidden, InvalidTemplate, UnknownAlgorithm
from nexus.runs.algorithms import Algorithms
from nexus.runs.ports import StoredManifest
from nexus.runs.templates import Manifest, read_manifests
from nexus.testing.memory import MemoryStore
from tests.unit.runs.rig import TEMPLATE


def manifest(
    name: str = "demand", *, more: str = "", annotations: str = "", namespace: str = "", source: str = "a.yaml"
) -> Manifest:
    text = TEMPLATE.format(name=name, annotations=annotations, more=more)
    if namespace:
        text = text.replace("metadata: {", f"metadata: {{namespace: {namespace}, ")
    found, findings = read_manifests(text, source, base="/work")
    assert not findings, findings
    return found[0]


@pytest.fixture
def algorithms() -> Algorithms:
    return Algorithms(MemoryStore(), SystemClock())


async def changes(algorithms: Algorithms, *manifests: Manifest, prune: bool = False) -> list[tuple[str, str, int]]:
    return [(each.name, each.change, each.revision) for each in await algorithms.apply(manifests, trusted=True, prune=prune)]


async def test_applying_is_idempotent(algorithms: Algorithms) -> None:
    """The same text makes no new revision; another one does; what is not named stays unless it is pruned."""
    assert await changes(algorithms, manifest(), manifest("other")) == [("demand", "created", 1), ("other", "created", 1)]
    assert await changes(algorithms, manifest()) == [("demand", "unchanged", 1)]
    assert await changes(algorithms, manifest(more="computeResources: {cpuLimit: 2}")) == [("demand", "updated", 2)]
    assert [template.name for template in algorithms.templates()] == ["demand", "other"]
    assert await changes(algorithms, manifest("other"), prune=True) == [("other", "unchanged", 1), ("demand", "removed", 2)]
    with pytest.raises(UnknownAlgorithm):
        algorithms.find("demand")


async def test_applying_and_pruning_is_one_write() -> None:
    """The store is asked once, for everything: there is no moment at which half of an apply could be what stays."""
    store = MemoryStore()
    calls: list[tuple[list[str], bool]] = []
    put = store.put

    async def counted(manifests: Sequence[StoredManifest], *, prune: bool = False) -> list[StoredManifest]:
        calls.append(([each.name for each in manifests], prune))
        return await put(manifests, prune=prune)

    store.put = counted  # type: ignore[method-assign]
    algorithms = Algorithms(store, SystemClock())
    await changes(algorithms, manifest(), manifest("other"))
    await changes(algorithms, manifest("third"), prune=True)
    assert calls == [(["demand", "other"], False), (["third"], True)]
    assert [template.name for template in algorithms.templates()] == ["third"]


async def test_an_apply_whose_caller_is_gone_is_current_all_the_same() -> None:
    """What the store took is what the service runs, though nobody waits for the answer any more."""
    store = MemoryStore()
    algorithms = Algorithms(store, SystemClock())
    call = asyncio.ensure_future(algorithms.apply([manifest()], trusted=True))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await changes(algorithms, manifest("other"))
    stored = [each.name for each in await store.current()]
    assert stored == [template.name for template in algorithms.templates()] == ["demand", "other"]


async def test_a_removed_algorithm_keeps_its_revisions(algorithms: Algorithms) -> None:
    """Runs that wait still find theirs; when the name returns, revisions count on."""
    await changes(algorithms, manifest())
    await changes(algorithms, manifest("other"), prune=True)
    assert (await algorithms.at("demand", 1)).name == "demand"
    assert await changes(algorithms, manifest(more="computeResources: {cpuLimit: 2}")) == [("demand", "created", 2)]


async def test_a_name_lives_in_one_namespace(algorithms: Algorithms) -> None:
    """The default is `nexus`; the same name in another namespace is an error, and nothing of that call is stored."""
    await changes(algorithms, manifest())
    assert algorithms.find("demand").namespace == "nexus"
    with pytest.raises(InvalidTemplate, match="`nexus`, not `team`"):
        await changes(algorithms, manifest("new"), manifest(namespace="team"))
    assert [template.name for template in algorithms.templates()] == ["demand"]


async def test_one_name_twice_in_a_call_is_refused(algorithms: Algorithms) -> None:
    """Both files are named."""
    with pytest.raises(InvalidTemplate, match=r"a\.yaml.*b\.yaml"):
        await changes(algorithms, manifest(), manifest(source="b.yaml"))


async def test_local_annotations_need_trust(algorithms: Algorithms) -> None:
    """They run code on this machine: a caller without the scope to operate is refused."""
    with pytest.raises(Forbidden, match="demand"):
        await algorithms.apply([manifest(annotations="local.nexus/project: p")], trusted=False)
    assert not algorithms.templates()


async def test_an_unknown_name_gets_the_nearest(algorithms: Algorithms) -> None:
    """The message is the reference's, the hint names what was meant."""
    await changes(algorithms, manifest("demand-forecast"))
    with pytest.raises(UnknownAlgorithm) as caught:
        algorithms.find("demand-forcast")
    assert caught.value.message == "No valid configuration found for: `demand-forcast`"
    assert "demand-forecast" in caught.value.hint


async def test_the_next_life_finds_what_was_registered() -> None:
    """What was applied is read from the store at the next start, at its newest revision."""
    store = MemoryStore()
    first = Algorithms(store, SystemClock())
    await changes(first, manifest())
    await changes(first, manifest(more="computeResources: {cpuLimit: 2}"))
    second = Algorithms(store, SystemClock())
    await second.load()
    assert second.find("demand").revision == 2


async def test_a_workgroup_nobody_registered_is_a_warning(algorithms: Algorithms) -> None:
    """Who applies a template learns that its runs will be refused, until the workgroup is there; `default` always is."""
    group = "workgroupRef: {name: %s, group: science.sneaksanddata.com, kind: NexusAlgorithmWorkgroup}"
    await algorithms.apply([manifest(more=group % "gpu"), manifest("plain", more=group % "default")], trusted=True)
    (finding,) = algorithms.lost_workgroups()
    assert (finding.code, finding.severity, finding.file) == ("NX-T12", "warning", "a.yaml")
    assert "`demand` names the workgroup `gpu`" in finding.message
    text = "apiVersion: science.sneaksanddata.com/v1\nkind: NexusAlgorithmWorkgroup\nmetadata: {name: gpu}\n"
    workgroups, _ = read_manifests(text + "spec: {cluster: local, description: Fast}\n", "b.yaml")
    await algorithms.apply(workgroups, trusted=True)
    assert algorithms.lost_workgroups() == []
