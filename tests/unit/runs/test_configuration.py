"""Templates and overrides: what a run is started with, and what is refused at the door."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.kernel.errors import InvalidTemplate
from nexus.runs.configuration import Configuration, Resources, merge, without_effect
from nexus.runs.fields import SECTIONS
from nexus.runs.ports import StoredManifest
from nexus.runs.templates import WIRE_SECTIONS, Template, read_manifests

GIB = 2**30


def template(spec: dict[str, Any] | None = None, **annotations: str) -> Template:
    """A template with cpu 500m, memory 512Mi, workgroup `default`, deadline 600 s and 3 retries, changed by *spec*."""
    body = {
        "apiVersion": "science.sneaksanddata.com/v1",
        "kind": "NexusAlgorithmTemplate",
        "metadata": {"name": "demo", "annotations": {f"local.nexus/{key}": value for key, value in annotations.items()}},
        "spec": {
            "container": {"image": "demo", "registry": "registry.example.org", "versionTag": "v1", "serviceAccountName": "nexus"},
            "command": "python -m 'my module'",
            "args": ["--sas-uri=%s", "--request-id=%s"],
            "computeResources": {"cpuLimit": "500m", "memoryLimit": "512Mi"},
            "workgroupRef": {"group": "science.sneaksanddata.com", "kind": "NexusAlgorithmWorkgroup", "name": "default"},
            "runtimeEnvironment": {"deadlineSeconds": 600, "maximumRetries": 3},
            "errorHandlingBehaviour": {"transientExitCodes": [137, 75], "fatalExitCodes": [134]},
            **(spec or {}),
        },
    }
    (manifest,), findings = read_manifests(json.dumps(body), "demo.json", base="/")
    assert [finding for finding in findings if finding.severity == "error"] == []
    return Template.from_stored(
        StoredManifest(
            kind=manifest.kind,
            name=manifest.name,
            namespace=manifest.namespace,
            revision=1,
            body=manifest.body,
            source="",
            trusted=True,
            stored_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    )


def merged(overrides: dict[str, Any], base: Template | None = None) -> Configuration:
    return merge(base or template(), json.dumps(overrides).encode())


def bare() -> Template:
    """A template with nothing but what is required."""
    optional = ("args", "computeResources", "workgroupRef", "runtimeEnvironment", "errorHandlingBehaviour")
    return template(dict.fromkeys(optional))


def test_a_template_alone_gives_its_own_configuration() -> None:
    """Everything the manifest says is there, typed, and the command is split by shell rules."""
    configuration = merge(template(completion="exit-code"), None)
    assert configuration.command == ("python", "-m", "my module")
    assert configuration.args == ("--sas-uri=%s", "--request-id=%s")
    assert (configuration.deadline_s, configuration.maximum_retries) == (600.0, 3)
    assert configuration.transient_exit_codes == {137, 75}
    assert configuration.fatal_exit_codes == {134}
    assert configuration.limits == Resources(cpu_millicores=500, memory_bytes=GIB // 2)
    assert (configuration.workgroup, configuration.completion) == ("default", "exit-code")


def test_a_bare_template_gives_the_defaults() -> None:
    """Without optional sections: no limits, no deadline, no retries, no workgroup, payload valid for a day."""
    configuration = merge(bare(), None)
    assert (configuration.limits, configuration.requests) == (Resources(), Resources())
    assert (configuration.deadline_s, configuration.maximum_retries, configuration.workgroup) == (None, 0, None)
    assert (configuration.payload_valid_for, configuration.completion) == (timedelta(hours=24), "report")
    assert configuration.args == ()


@pytest.mark.parametrize(
    "overrides", [None, b"", b"null", b"{}", b'{"container":{}}', b'{"container":{"versionTag":""},"args":null}']
)
def test_overrides_that_say_nothing_cost_nothing(overrides: bytes | None) -> None:
    """The configuration kept with the template is given back itself."""
    base = template()
    assert merge(base, overrides) is merge(base, None)


def test_the_wire_sees_every_section() -> None:
    """Existing clients show a configuration only when all eight sections are present."""
    for configuration in (merge(bare(), None), merged({"computeResources": {"cpuLimit": "1"}}, bare())):
        shown = json.loads(configuration.json)
        assert set(shown) == {*WIRE_SECTIONS, "args"}
        assert b"null" not in configuration.json


def test_what_the_reference_takes_from_an_override_is_taken() -> None:
    """Image, registry, tag, limits, workgroup, deadline and retries replace those of the template."""
    configuration = merged(
        {
            "container": {"image": "other", "registry": "elsewhere.example.org", "versionTag": "v2"},
            "computeResources": {"cpuLimit": "2", "memoryLimit": "1Gi"},
            "workgroupRef": {"name": "gpu", "group": "science.sneaksanddata.com/v1", "kind": "NexusAlgorithmWorkgroup"},
            "runtimeEnvironment": {"deadlineSeconds": 10, "maximumRetries": 0},
            "payloadConfiguration": {"payloadValidFor": "90s"},
        }
    )
    shown = json.loads(configuration.json)
    assert shown["container"] == {
        "image": "other",
        "registry": "elsewhere.example.org",
        "versionTag": "v2",
        "serviceAccountName": "nexus",
    }
    assert configuration.limits == Resources(cpu_millicores=2000, memory_bytes=GIB)
    assert configuration.requests == Resources(cpu_millicores=200, memory_bytes=GIB)
    assert (configuration.workgroup, configuration.deadline_s, configuration.maximum_retries) == ("gpu", 10.0, 0)
    assert configuration.payload_valid_for == timedelta(seconds=90)


def test_what_the_reference_ignores_is_ignored() -> None:
    """Service account, custom resources, command, args, environment, error handling and datadog of a request change nothing."""
    base = template()
    configuration = merged(
        {
            "container": {"serviceAccountName": "root"},
            "computeResources": {"customResources": {"nvidia.com/gpu": "8"}, "defaultResourceQuota": "0.5"},
            "command": "rm",
            "args": ["-rf"],
            "runtimeEnvironment": {"environmentVariables": [{"name": "A", "value": "b"}], "annotations": {"a": "b"}},
            "errorHandlingBehaviour": {"fatalExitCodes": [1]},
            "datadogIntegrationSettings": {"mountDatadogSocket": True},
            "payloadConfiguration": {"payloadSerialization": "backend"},
        },
        base,
    )
    assert configuration is merge(base, None)


def test_limits_and_requests_of_the_real_client_are_honoured() -> None:
    """W22: the reference drops what its own client sends as `limits` and `requests`."""
    compute = {"limits": {"cpu": "4", "memory": "2Gi"}, "requests": {"cpu": "1500m", "memory": "1Gi"}}
    configuration = merged({"computeResources": compute})
    assert configuration.limits == Resources(cpu_millicores=4000, memory_bytes=2 * GIB)
    assert configuration.requests == Resources(cpu_millicores=1500, memory_bytes=GIB)


def test_a_workgroup_override_is_the_workgroup_used() -> None:
    """W22: the reference stores it, and uses the template's all the same."""
    configuration = merged({"workgroupRef": {"name": "large"}})
    assert configuration.workgroup == "large"
    assert json.loads(configuration.json)["workgroupRef"]["name"] == "large"


def test_overriding_one_amount_leaves_the_other() -> None:
    """A request that raises the cpu keeps the template's memory, however either of them is written."""
    assert merged({"computeResources": {"limits": {"cpu": "1"}}}).limits == Resources(cpu_millicores=1000, memory_bytes=GIB // 2)
    newer = template({"computeResources": {"limits": {"cpu": "2", "memory": "2Gi"}}})
    assert merged({"computeResources": {"cpuLimit": "1"}}, newer).limits == Resources(cpu_millicores=1000, memory_bytes=2 * GIB)
    assert merged({"computeResources": {"requests": {"cpu": "1"}}}, newer).requests == Resources(
        cpu_millicores=1000, memory_bytes=2 * GIB
    )


@pytest.mark.parametrize(
    ("quota", "millicores"), [(None, 33), ("0.5", 167), ("1", 333), ("half", 33), ("", 33), ("nan", 33), ("-1", 33), ("7", 33)]
)
def test_requests_are_a_share_of_the_cpu_limit(quota: str | None, millicores: int) -> None:
    """Without requests: the limits with cpu times the quota, 0.1 when unset or no usable number, in whole millicores."""
    base = template({"computeResources": {"cpuLimit": "333m", "memoryLimit": "1Gi", "defaultResourceQuota": quota}})
    assert merge(base, None).requests == Resources(cpu_millicores=millicores, memory_bytes=GIB)


def test_an_amount_of_zero_is_no_limit() -> None:
    """A container runtime reads a limit of 0 as none."""
    assert merged({"computeResources": {"cpuLimit": "0", "memoryLimit": 0}}).limits == Resources()


def test_a_deadline_of_zero_is_none() -> None:
    """The client cannot send 0; a manifest can, and means no deadline."""
    assert merge(template({"runtimeEnvironment": {"deadlineSeconds": 0}}), None).deadline_s is None


def test_plain_variables_reach_the_environment_and_references_do_not() -> None:
    """A variable without a value is empty; one from a Secret is left to clusters; the last of two wins."""
    variables = [
        {"name": "A", "value": "1"},
        {"name": "B"},
        {"name": "C", "valueFrom": {"secretKeyRef": {}}},
        {"name": "A", "value": "2"},
    ]
    base = template({"runtimeEnvironment": {"environmentVariables": variables}})
    assert merge(base, None).environment == {"A": "2", "B": ""}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"computeResources": {"cpuLimit": "fast"}}, "`customConfiguration.computeResources.cpuLimit`: `fast` is not a quantity"),
        ({"computeResources": {"limits": {"memory": "1GB"}}}, "(write `1G`)"),
        ({"computeResources": {"limits": {"memory": None, "cpu": "-1"}}}, "`-1` is negative"),
        (
            {"computeResources": {"requests": {"cpu": "1"}}},
            "`customConfiguration.computeResources.requests.cpu` is `1`, more than its",
        ),
        ({"workgroupRef": {"name": "Not A Name"}}, "`customConfiguration.workgroupRef.name`: `Not A Name` is not a name"),
        ({"workgroupRef": {"kind": "Deployment"}}, "`customConfiguration.workgroupRef.kind` is `Deployment`"),
        (
            {"runtimeEnvironment": {"deadlineSeconds": "10"}},
            "`customConfiguration.runtimeEnvironment.deadlineSeconds` is `10`, but",
        ),
        ({"runtimeEnvironment": {"maximumRetries": -1}}, "must be from 0 to"),
        ({"payloadConfiguration": {"payloadValidFor": "soon"}}, "`soon` is not a duration"),
        ({"runtimeEnv": {}}, "`customConfiguration.runtimeEnv` is unknown (did you mean `runtimeEnvironment`?)"),
        ({"command": ["python"]}, "`customConfiguration.command` is `a list`, but must be text"),
        ([], "`customConfiguration` is `a list`, but must be a mapping"),
        ("v2", "`customConfiguration` is `v2`, but must be a mapping"),
    ],
)
def test_a_bad_override_is_refused_with_its_field(overrides: Any, message: str) -> None:
    """W10: what makes the reference panic is a 400 that says what is wrong."""
    with pytest.raises(InvalidTemplate) as caught:
        merged(overrides)
    assert message in caught.value.message
    assert caught.value.status == 400


def test_a_refusal_names_every_finding() -> None:
    """Two mistakes, one answer."""
    with pytest.raises(InvalidTemplate) as caught:
        merged({"computeResources": {"cpuLimit": "x", "memoryLimit": "y"}, "container": {"image": 1}})
    assert [name for name in ("cpuLimit", "memoryLimit", "container.image") if name in caught.value.message] == [
        "cpuLimit",
        "memoryLimit",
        "container.image",
    ]


@pytest.mark.parametrize("overrides", [b"{", b"\xff", b'{"container":{"image":"\xff"}}', b"[" * 5000 + b"]" * 5000, b"NaN"])
def test_overrides_that_are_no_json_are_refused(overrides: bytes) -> None:
    """Broken JSON, wrong encodings and absurd depth are the caller's mistake, never ours."""
    with pytest.raises(InvalidTemplate):
        merge(template(), overrides)


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["500m", "1Gi", "1e30", "-1", "24h", "default", "1e-40", "0"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "image",
                    "versionTag",
                    "cpuLimit",
                    "memoryLimit",
                    "limits",
                    "requests",
                    "cpu",
                    "memory",
                    "name",
                    "group",
                    "kind",
                    "deadlineSeconds",
                    "maximumRetries",
                    "payloadValidFor",
                    "environmentVariables",
                    "annotations",
                ]
            )
            | st.text(max_size=3),
            children,
            max_size=4,
        )
    ),
    max_leaves=10,
)
_ARBITRARY = _VALUES | st.dictionaries(st.sampled_from(sorted(SECTIONS)), _VALUES, max_size=4)


@given(_ARBITRARY)
@settings(max_examples=500, deadline=None)
def test_arbitrary_json_is_merged_or_refused(overrides: Any) -> None:
    """Whatever JSON a caller sends, the only error is InvalidTemplate; what is merged can be shown and read back."""
    try:
        configuration = merged(overrides)
    except InvalidTemplate:
        return
    assert set(json.loads(configuration.json)) == {*WIRE_SECTIONS, "args"}


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_are_merged_or_refused(overrides: bytes) -> None:
    """Not only JSON arrives."""
    try:
        merge(template(), overrides)
    except InvalidTemplate:
        return
    assert overrides.strip(b" \t\r\n") in (b"", b"null", b"{}")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "cpuLimit": st.integers(0, 10**6).map(lambda n: f"{n}m"),
            "memoryLimit": st.integers(0, 10**6).map(lambda n: f"{n}Ki"),
            "limits": st.dictionaries(st.sampled_from(["cpu", "memory"]), st.integers(0, 10**4).map(str)),
        },
    )
)
@settings(deadline=None)
def test_requests_never_pass_limits(compute: dict[str, Any]) -> None:
    """Whatever limits are asked for, what is scheduled by is at most what is allowed."""
    configuration = merged({"computeResources": compute})
    for name in ("cpu_millicores", "memory_bytes"):
        limit, request = getattr(configuration.limits, name), getattr(configuration.requests, name)
        assert limit is None or request is None or request <= limit


def test_overrides_are_bounded() -> None:
    """What is decoded for each request has a limit; payloads belong elsewhere."""
    with pytest.raises(InvalidTemplate, match="at most 65536 are taken"):
        merged({"command": "x" * 70_000})
    with pytest.raises(InvalidTemplate, match="; 900 more"):
        merged({f"f{index}": 1 for index in range(1000)})


def test_overrides_that_change_nothing_are_named() -> None:
    """What a request gives but cannot change is named, so that `latest` can refuse it; empty values say nothing."""
    given = {
        "command": "sh", "args": ["-c"], "container": {"versionTag": "v2", "serviceAccountName": "x"}, "errorHandlingBehaviour": {},
        "runtimeEnvironment": {"deadlineSeconds": 5, "environmentVariables": [{"name": "A", "value": "1"}], "annotations": {}},
        "computeResources": {"cpuLimit": "1"},
    }  # fmt: skip
    assert without_effect(msgspec.json.encode(given)) == [
        "command", "args", "container.serviceAccountName", "runtimeEnvironment.environmentVariables",
    ]  # fmt: skip
    assert without_effect(b'{"container":{}}') == []
