"""What an attempt is started with: addresses, token, deadline."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from nexus.kernel.clock import SystemClock
from nexus.runs import launching
from nexus.runs.configuration import merge
from nexus.runs.model import ParentRef
from nexus.runs.ports import Launch, StoredManifest
from nexus.runs.templates import DEFAULT_WORKGROUP, Template, Workgroup, read_manifests
from nexus.runs.urls import Signer
from nexus.testing.builders import build_run
from tests.unit.runs.rig import TEMPLATE

CLOCK = SystemClock()
SIGNER = Signer(b"k" * 32, CLOCK)
RUN = build_run(parent=ParentRef(algorithm="above", run_id="01a1fe58-842d-7001-a1d7-411db6405cc0"))


def launch(*, need_token: bool = False, trusted: bool = True, more: str = "", used_s: float = 0.0, **changes: object) -> Launch:
    text = TEMPLATE.format(name="demand", annotations="local.nexus/project: p", more=more)
    found, _ = read_manifests(text, "a.yaml", base="/work")
    stored = StoredManifest(
        kind=found[0].kind, name="demand", namespace="nexus", revision=1, body=found[0].body, source="", trusted=trusted,
        stored_at=CLOCK.now(),
    )  # fmt: skip
    template = Template.from_stored(stored)
    addresses = launching.Addresses(scheduler="http://s", receiver="http://r", results_root="/objects", need_token=need_token)
    run = replace(RUN, **changes)
    configuration = merge(template, run.overrides)
    return launching.launch_of(run, template, configuration, DEFAULT_WORKGROUP, addresses=addresses, signer=SIGNER, used_s=used_s)


def test_existing_clients_inside_algorithms_get_a_token_only_when_one_is_needed() -> None:
    """With tokens required the run's own token stands where the existing client looks; what a template says wins."""
    name = "NEXUS__CLIENT__SCHEDULER_ACCESS_TOKEN"
    assert name not in launch().environment
    environment = launch(need_token=True).environment
    assert environment[name] == environment["NEXUS__RUN_TOKEN"]
    assert SIGNER.run_of(environment[name]) == RUN.id
    own = launch(need_token=True, more=f"runtimeEnvironment: {{environmentVariables: [{{name: {name}, value: mine}}]}}")
    assert own.environment[name] == "mine"


def test_what_the_service_says_of_itself_cannot_be_overridden() -> None:
    """A template's variables come first; the run's own names, addresses and upload URL last."""
    more = "runtimeEnvironment: {environmentVariables: [{name: NEXUS__ALGORITHM_NAME, value: x}, {name: A, value: b}]}"
    environment = launch(more=more).environment
    assert (environment["NEXUS__ALGORITHM_NAME"], environment["A"]) == ("demand", "b")
    assert environment["NEXUS__PARENT_ALGORITHM_NAME"] == "above"
    assert environment["NEXUS__CLIENT__RECEIVER"] == "http://r"
    assert environment["NEXUS__RESULT_UPLOAD_URL"].startswith("http://r/data/v1/results/demand/requests/")


def test_annotations_of_an_untrusted_template_are_not_followed() -> None:
    """They run code on this machine."""
    assert launch().local == {"project": "/work/p"}
    assert launch(trusted=False).local == {}


def test_a_retry_gets_what_is_left_of_the_time() -> None:
    """The deadline covers all attempts, from the first start on."""
    again = launch(more="runtimeEnvironment: {deadlineSeconds: 60}", attempt=1, used_s=40.0)
    assert again.attempt == 2
    assert again.deadline_s == 20.0


@pytest.mark.parametrize(("cluster", "shown"), [("gpu-1", "gpu-1"), ("7", "shard-7"), ("1.5", "shard-1.5"), ("1e5", "shard-1e5")])
def test_the_name_of_a_shard_is_no_number(cluster: str, shown: str) -> None:
    """Existing clients read their settings as TOML: a name that reads as a number would become one."""
    assert launching.shard_name(Workgroup(name="w", cluster=cluster, description="")) == shown
