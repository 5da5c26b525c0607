"""Execution trees on a real service: fan-out and fan-in, limits, a machine narrower than the tree, and cancels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.service import Service, alive, eventually, pids


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on which one run is executed at a time, and trees are small."""
    environ = {"NEXUS__TREE_MAX_DEPTH": "3", "NEXUS__TREE_MAX_RUNS": "16"}
    with Service(tmp_path_factory.mktemp("trees"), flags=("--max-runs", "1"), environ=environ) as running:
        yield running


def leaf(name: str = "leaf") -> dict[str, Any]:
    return {"do": [["report", f"s3://b/{name}"]]}


def child_of(service: Service, parent: str, algorithm: str = "agent") -> Any:
    """The answer to a child of *parent*, submitted by a person."""
    body = {"algorithmParameters": leaf(), "parentRequest": {"algorithmName": algorithm, "requestId": parent}}
    return service.ask("POST", "/algorithm/v1/run/agent", body)


def test_a_tree_of_three_levels_ends_on_one_place(service: Service) -> None:
    """With one place for runs, a parent that waits for two children, each waiting for two of theirs, completes: 7 runs."""
    middle = {"do": [["fan_out", [leaf(), leaf()]]]}
    root = service.submit(["fan_out", [middle, middle]])
    run = service.end(root)
    assert (run["stage"], run["resultUri"]) == ("COMPLETED", "done:2")
    tree = service.json("GET", f"/algorithm/latest/runs/agent/{root}/tree")["runs"]
    assert [each.get("depth", 0) for each in tree] == [0, 1, 1, 2, 2, 2, 2]
    assert {each["stage"] for each in tree} == {"COMPLETED"}
    assert tree[0]["requestId"] == root


def test_a_narrow_machine_runs_other_work_too(service: Service) -> None:
    """While a tree fills the one place, an unrelated run waits for it and is started when it has ended."""
    root = service.submit(["fan_out", [leaf(), leaf(), leaf()]])
    other = service.submit(["report", "s3://b/other"])
    assert service.end(root)["resultUri"] == "done:3"
    assert service.end(other)["stage"] == "COMPLETED"


def test_a_child_knows_its_parent(service: Service) -> None:
    """A child's process has its parent's name and id in its environment; the parent's own has neither."""
    names = ["environment", "NEXUS__PARENT_ALGORITHM_NAME", "NEXUS__PARENT_REQUEST_ID"]
    root = service.submit(names, ["fan_out", [{"do": [names, ["report"]]}]])
    service.end(root)
    (child,) = service.json("GET", f"/algorithm/latest/runs?parent={root}")["runs"]
    assert b"null" in service.output(root).splitlines()[0]
    seen = service.output(child["requestId"]).decode()
    assert f'"NEXUS__PARENT_REQUEST_ID": "{root}"' in seen
    assert '"NEXUS__PARENT_ALGORITHM_NAME": "agent"' in seen
    assert service.metadata(child["requestId"])["parent"] == {"algorithmName": "agent", "requestId": root}


def test_a_tree_has_a_depth_and_a_size(service: Service) -> None:
    """A child below the deepest level, and one more run than a tree may have, are 400 in words."""
    run_id = service.submit(["report"])
    for _ in range(3):
        answer = child_of(service, run_id)
        assert answer.status == 202
        run_id = answer.json["requestId"]
    too_deep = child_of(service, run_id)
    assert (too_deep.status, "depth" in too_deep.text) == (400, True)
    wide = service.submit(["report"])
    answers = [child_of(service, wide).status for _ in range(17)]
    assert answers == [202] * 15 + [400] * 2
    for root in (run_id, wide):
        service.cancel(root)


@pytest.mark.parametrize(("step", "stage"), [(["report"], "COMPLETED"), (["report", "", "no"], "FAILED")])
def test_children_of_a_finished_parent_are_accepted(service: Service, step: list[str], stage: str) -> None:
    """Completed and failed parents take children: existing algorithms report first and spawn afterwards."""
    root = service.submit(step)
    assert service.end(root)["stage"] == stage
    answer = child_of(service, root)
    assert answer.status == 202
    assert service.end(answer.json["requestId"])["stage"] == "COMPLETED"


def test_a_run_that_reported_spawns_until_its_process_ends(service: Service) -> None:
    """Spawning after the report works, as existing clients do it; the same token is refused when the process is gone, also by
    the next life of the service."""
    run_id = service.submit(["environment", "NEXUS__RUN_TOKEN"], ["report", "s3://b/r"], ["spawn", leaf()])
    assert service.end(run_id)["stage"] == "COMPLETED"
    printed, _, spawned = service.output(run_id).decode().splitlines()
    assert spawned.startswith("spawned 202")
    child = json.loads(spawned.split(maxsplit=2)[2])["requestId"]
    assert service.end(child)["stage"] == "COMPLETED"
    token = json.loads(printed)["NEXUS__RUN_TOKEN"]

    def refused() -> bool:
        body = {"algorithmParameters": leaf()}
        answer = service.ask("POST", "/algorithm/v1/run/agent", body, {"Authorization": f"Bearer {token}"})
        return answer.status == 400 and "NX215" in answer.text

    eventually(refused, "the refusal, once the end of the process is stored")
    service.kill()
    service.start()
    assert refused()


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_a_cancel_takes_the_whole_tree(service: Service, tmp_path: Path, policy: str) -> None:
    """Background and Foreground cancel every run below, waiting or running; a finished one stays as it is."""
    marks = tmp_path / "marks"
    working = {"do": [["mark", str(marks)], ["wait_for", "/nowhere"]]}
    root = service.submit(["fan_out", [leaf("done"), working, leaf(), leaf()]])
    victims = pids(marks)

    def stages() -> list[str]:
        return [run["stage"] for run in service.json("GET", f"/algorithm/latest/runs/agent/{root}/tree")["runs"]]

    eventually(lambda: len(stages()) == 5 and stages()[1] == "COMPLETED", "the whole tree, the first child done")
    assert service.cancel(root, policy=policy).status == 200
    assert stages()[0] == "CANCELLED"
    assert stages()[1] == "COMPLETED"
    assert set(stages()[2:]) == {"CANCELLED"}
    eventually(lambda: not any(alive(pid) for pid in victims), "the working child to go")
    child = service.json("GET", f"/algorithm/latest/runs?parent={root}&stage=CANCELLED")["runs"][0]
    assert root in child["failureDetails"]


def test_foreground_answers_when_the_processes_are_gone(service: Service, tmp_path: Path) -> None:
    """After a Foreground cancel was answered nothing of the run works on."""
    marks = tmp_path / "marks"
    run_id = service.submit(["mark", str(marks)], ["wait_for", "/nowhere"])
    (pid,) = pids(marks)
    service.reach(run_id, "RUNNING")
    assert service.cancel(run_id, policy="Foreground").status == 200
    assert not alive(pid)


def test_a_cancelled_ancestor_takes_no_children(service: Service) -> None:
    """A child of a cancelled run, or of a run below one, is 400; the text says why."""
    root = service.submit(["report"])
    service.end(root)
    child = child_of(service, root).json["requestId"]
    cancelled = service.submit(["wait_for", "/nowhere"])
    below = child_of(service, cancelled).json["requestId"]
    assert service.cancel(cancelled).status == 200
    for parent in (cancelled, below):
        answer = child_of(service, parent)
        assert (answer.status, "cancelled" in answer.text) == (400, True)
    assert service.end(child)["stage"] == "COMPLETED"


def test_another_policy_is_400(service: Service) -> None:
    """A policy that is none of the three is refused and cancels nothing."""
    run_id = service.submit(["report"])
    assert service.cancel(run_id, policy="Sideways").status == 400
    assert service.end(run_id)["stage"] == "COMPLETED"


def test_a_cancel_of_a_finished_parent_takes_what_is_left_of_its_tree(service: Service, tmp_path: Path) -> None:
    """Cancelling a completed root leaves it COMPLETED and cancels the children that still work."""
    marks = tmp_path / "marks"
    root = service.submit(["spawn", {"do": [["mark", str(marks)], ["wait_for", "/nowhere"]]}], ["report"])
    assert service.end(root)["stage"] == "COMPLETED"
    (pid,) = pids(marks)
    assert service.cancel(root).status == 200
    assert service.run(root)["stage"] == "COMPLETED"
    (child,) = service.json("GET", f"/algorithm/latest/runs?parent={root}")["runs"]
    assert child["stage"] == "CANCELLED"
    eventually(lambda: not alive(pid), "the child's process to go")
