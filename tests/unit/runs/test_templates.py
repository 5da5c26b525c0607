"""Manifests: what is read, what is found wrong, where, and what the findings advise."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.kernel.documents import Finding
from nexus.runs.ports import StoredManifest
from nexus.runs.templates import (
    DEFAULT_WORKGROUP,
    TEMPLATE,
    WIRE_SECTIONS,
    WORKGROUP,
    Manifest,
    Template,
    Workgroup,
    read_manifests,
    shown_overrides,
)

HEAD = "apiVersion: science.sneaksanddata.com/v1\n"
AS_USERS_WRITE_IT = """\
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmTemplate
metadata: {name: hello-world, namespace: nexus}
spec:
  container: {image: hello-world, registry: registry.example.org/team, versionTag: v1.0.0, serviceAccountName: nexus}
  command: python
  args: [main.py, "--sas-uri=%s", "--request-id=%s"]
  computeResources: {cpuLimit: 500m, memoryLimit: 512Mi}
  workgroupRef: {group: science.sneaksanddata.com, kind: NexusAlgorithmWorkgroup, name: default}
  runtimeEnvironment:
    {deadlineSeconds: 600, maximumRetries: 3, annotations: {}, environmentVariables: [], mappedEnvironmentVariables: []}
  errorHandlingBehaviour: {transientExitCodes: [137], fatalExitCodes: [134]}
---
apiVersion: science.sneaksanddata.com/v1
kind: NexusAlgorithmWorkgroup
metadata: {name: default, namespace: nexus}
spec: {description: Default machines, cluster: shard-0, capabilities: {}, tolerations: [], affinity: {}}
"""


def template_text(spec: dict[str, Any] | None = None, **metadata: Any) -> str:
    """A valid manifest with changes, as JSON."""
    return json.dumps(
        {
            "apiVersion": "science.sneaksanddata.com/v1",
            "kind": "NexusAlgorithmTemplate",
            "metadata": {"name": "demo", **metadata},
            "spec": {"container": {"image": "i", "registry": "r", "versionTag": "1"}, "command": "python main.py", **(spec or {})},
        }
    )


def stored(manifest: Manifest, revision: int = 1, trusted: bool = True) -> StoredManifest:
    return StoredManifest(
        kind=manifest.kind,
        name=manifest.name,
        namespace=manifest.namespace,
        revision=revision,
        body=manifest.body,
        source=manifest.source,
        trusted=trusted,
        stored_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def read_one(text: str, base: str = "/algorithms") -> Manifest:
    manifests, findings = read_manifests(text, "a.yaml", base=base)
    assert [finding for finding in findings if finding.severity == "error"] == []
    return manifests[0]


def findings_of(text: str) -> list[Finding]:
    return read_manifests(text, "a.yaml")[1]


def only(text: str) -> Finding:
    (finding,) = findings_of(text)
    return finding


def test_a_manifest_as_users_write_it_is_read_without_findings() -> None:
    """The manifest of the facts page gives a template and a workgroup, and nothing to complain about."""
    manifests, findings = read_manifests(AS_USERS_WRITE_IT, "hello.yaml")
    assert findings == []
    assert [(m.kind, m.name, m.namespace, m.source) for m in manifests] == [
        (TEMPLATE, "hello-world", "nexus", "hello.yaml"),
        (WORKGROUP, "default", "nexus", "hello.yaml"),
    ]
    assert Workgroup.from_stored(stored(manifests[1])).cluster == "shard-0"


def test_a_stored_template_has_every_section_of_the_wire() -> None:
    """A template without optional sections still shows all eight of them, and args."""
    template = Template.from_stored(stored(read_one(template_text()), revision=7, trusted=False))
    assert set(template.sections) == {*WIRE_SECTIONS, "args"}
    assert (template.name, template.revision, template.trusted, template.sections["computeResources"]) == ("demo", 7, False, {})


@given(
    st.sets(
        st.sampled_from(
            [
                "args",
                "computeResources",
                "workgroupRef",
                "runtimeEnvironment",
                "errorHandlingBehaviour",
                "datadogIntegrationSettings",
                "payloadConfiguration",
            ]
        )
    )
)
def test_optional_sections_may_be_absent_in_any_combination(sections: set[str]) -> None:
    """Any choice of optional sections, empty or null, is a valid manifest that becomes a template."""
    spec = {name: [] if name == "args" else None if name == "workgroupRef" else {} for name in sections}
    Template.from_stored(stored(read_one(template_text(spec))))


def test_all_findings_of_a_file_come_at_once_with_their_places() -> None:
    """Two broken documents are reported together; each finding names file, line, column and what to do."""
    text = (
        HEAD + "kind: NexusAlgorithmTemplate\nmetadata: {name: Bad_Name}\nspec:\n  container: {image: a, registry: b}\n"
        "  comand: python\n  computeResources:\n    memoryLimit: 512MB\n---\n" + HEAD + "kind: NexusAlgorithmWorkgroup\n"
        "metadata: {name: w}\nspec:\n  cluster: a\n  capabilities: {gpu: yes}\n"
    )
    found = {(finding.line, finding.column, finding.code): finding for finding in findings_of(text)}
    assert set(found) == {
        (3, 12, "NX-T05"),
        (5, 3, "NX-T04"),
        (6, 3, "NX-T02"),
        (4, 1, "NX-T04"),
        (8, 5, "NX-T06"),
        (15, 18, "NX-T03"),
        (13, 1, "NX-T04"),
    }
    assert found[6, 3, "NX-T02"].hint == "did you mean `command`?"
    assert found[8, 5, "NX-T06"].hint == "write `512M`"
    assert found[3, 12, "NX-T05"].hint.endswith("for example `bad-name`")
    assert all(finding.file == "a.yaml" and finding.hint for finding in found.values())


def test_one_broken_document_does_not_hide_the_good_one() -> None:
    """A manifest without errors is given back beside the findings of another."""
    manifests, findings = read_manifests(template_text() + "\n---\nkind: Secret\n", "a.yaml")
    assert [manifest.name for manifest in manifests] == ["demo"]
    assert len(findings) == 2


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        ({"command": 'python "main.py'}, "NX-T07", "`spec.command` cannot be split into words: no closing quotation"),
        ({"command": ""}, "NX-T06", "`spec.command` is empty"),
        ({"command": "  "}, "NX-T07", "`spec.command` names no program"),
        ({"command": ["python"]}, "NX-T03", "`spec.command` is `a list`, but must be text"),
        ({"args": ["--n", 3]}, "NX-T03", "`spec.args[1]` is `3`, but must be text"),
        ({"args": ["a\0b"]}, "NX-T06", "`spec.args[0]` contains a NUL character"),
        ({"args": "--n 3"}, "NX-T03", "`spec.args` is `--n 3`, but must be a list"),
        ({"computeResources": {"cpuLimit": "fast"}}, "NX-T06", "`spec.computeResources.cpuLimit`: `fast` is not a quantity"),
        ({"computeResources": {"cpuLimit": "-1"}}, "NX-T06", "`spec.computeResources.cpuLimit`: `-1` is negative"),
        ({"computeResources": {"memoryLimit": "99E"}}, "NX-T06", "`spec.computeResources.memoryLimit`: `99E` is larger than any"),
        (
            {"computeResources": {"limits": {"cpu": True}}},
            "NX-T03",
            "`spec.computeResources.limits.cpu` is `true`, but must be a quan",
        ),
        (
            {"computeResources": {"cpuLimit": "1", "requests": {"cpu": "2"}}},
            "NX-T06",
            "`spec.computeResources.requests.cpu` is `2`, more",
        ),
        (
            {"payloadConfiguration": {"payloadValidFor": "1 day"}},
            "NX-T06",
            "`spec.payloadConfiguration.payloadValidFor`: `1 day` is",
        ),
        ({"payloadConfiguration": {"payloadValidFor": "0s"}}, "NX-T06", "`spec.payloadConfiguration.payloadValidFor`: `0s` is no"),
        (
            {"payloadConfiguration": {"payloadSerialization": "gcs"}},
            "NX-T06",
            "`spec.payloadConfiguration.payloadSerialization` is",
        ),
        ({"errorHandlingBehaviour": {"fatalExitCodes": [0]}}, "NX-T06", "`spec.errorHandlingBehaviour.fatalExitCodes[0]` is `0`"),
        (
            {"errorHandlingBehaviour": {"fatalExitCodes": ["1"]}},
            "NX-T03",
            "`spec.errorHandlingBehaviour.fatalExitCodes[0]` is `1`, but",
        ),
        ({"runtimeEnvironment": {"deadlineSeconds": -5}}, "NX-T06", "`spec.runtimeEnvironment.deadlineSeconds` is `-5`"),
        ({"runtimeEnvironment": {"maximumRetries": True}}, "NX-T03", "`spec.runtimeEnvironment.maximumRetries` is `true`"),
        (
            {"runtimeEnvironment": {"environmentVariables": [{"name": "1X", "value": ""}]}},
            "NX-T08",
            "`spec.runtimeEnvironment.envir",
        ),
        ({"runtimeEnvironment": {"environmentVariables": [{"value": "x"}]}}, "NX-T04", "`spec.runtimeEnvironment.environmentVar"),
        (
            {"runtimeEnvironment": {"annotations": {"a": 1}}},
            "NX-T03",
            "`spec.runtimeEnvironment.annotations.a` is `1`, but must be text",
        ),
        ({"workgroupRef": {"name": "w", "kind": "NexusAlgorithmWorkgroup"}}, "NX-T04", "`spec.workgroupRef.group` is missing"),
        (
            {"workgroupRef": {"name": "7", "group": "science.sneaksanddata.com", "kind": "NexusAlgorithmWorkgroup"}},
            "NX-T05",
            "`spec.workgroupRef.name`: `7` reads as a number",
        ),
        (
            {"datadogIntegrationSettings": {"mountDatadogSocket": "no"}},
            "NX-T03",
            "`spec.datadogIntegrationSettings.mountDatadogSocket`",
        ),
        ({"container": None}, "NX-T04", "`spec.container` is missing"),
        ({"container": {"image": "", "registry": "r", "versionTag": "1"}}, "NX-T06", "`spec.container.image` is empty"),
    ],
)
def test_a_wrong_value_is_one_finding_that_names_it(spec: dict[str, Any], code: str, message: str) -> None:
    """Each mistake gives exactly one finding, with its code, its field and its value."""
    finding = only(template_text(spec))
    assert (finding.code, finding.message[: len(message)], finding.severity) == (code, message, "error")


@pytest.mark.parametrize("group", ["science.sneaksanddata.com", "science.sneaksanddata.com/v1"])
def test_the_group_of_a_workgroup_reference_is_taken_with_and_without_version(group: str) -> None:
    """Clients write `science.sneaksanddata.com/v1`, manifests usually leave the version out."""
    read_one(template_text({"workgroupRef": {"name": "w", "group": group, "kind": "NexusAlgorithmWorkgroup"}}))


@pytest.mark.parametrize("key", ["payloadSerialization", "payloadSerializationMode"])
def test_both_names_of_the_payload_serialization_mean_one_field(key: str) -> None:
    """Whichever name the manifest uses, the template shows the wire's name."""
    template = Template.from_stored(stored(read_one(template_text({"payloadConfiguration": {key: "backend"}}))))
    assert template.sections["payloadConfiguration"] == {"payloadSerializationMode": "backend"}


def test_two_names_of_one_field_must_agree() -> None:
    """The two names of the payload serialization with different values are an error."""
    both = {"payloadSerialization": "s3", "payloadSerializationMode": "backend"}
    assert "differ" in only(template_text({"payloadConfiguration": both})).message


def test_secrets_and_mounts_are_warnings_that_keep_the_manifest() -> None:
    """What needs a cluster is kept and said, not refused."""
    runtime = {
        "environmentVariables": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "mappedEnvironmentVariables": [{"secretRef": {"name": "s"}}],
        "storageMounts": {"scratch": {"mountPath": "/scratch"}},
    }
    manifests, findings = read_manifests(template_text({"runtimeEnvironment": runtime}), "a.yaml")
    assert len(manifests) == 1
    assert [(finding.code, finding.severity) for finding in findings] == [("NX-T11", "warning")] * 3


def test_a_variable_has_a_value_or_a_source_not_both() -> None:
    """Kubernetes refuses both; so is it here."""
    variable = {"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {}}}
    assert only(template_text({"runtimeEnvironment": {"environmentVariables": [variable]}})).code == "NX-T08"


def test_numbers_are_quantities_and_become_text() -> None:
    """`cpuLimit: 2` is what people write; the wire wants text."""
    text = template_text({"computeResources": {"cpuLimit": 2, "limits": {"memory": 1e9}}})
    assert Template.from_stored(stored(read_one(text))).sections["computeResources"] == {
        "cpuLimit": "2",
        "limits": {"memory": "1000000000.0"},
    }


@pytest.mark.parametrize(
    ("annotation", "value", "kept"),
    [
        ("project", ".", "/algorithms"),
        ("project", "../other", "/other"),
        ("project", "/absolute/./path", "/absolute/path"),
        ("requirements", "requirements.txt", "/algorithms/requirements.txt"),
        ("working-directory", "data", "/algorithms/data"),
        ("python", "3.12", "3.12"),
        ("python", "./bin/python", "/algorithms/bin/python"),
        ("completion", "exit-code", "exit-code"),
    ],
)
def test_local_paths_start_at_the_manifest(annotation: str, value: str, kept: str) -> None:
    """Relative paths of local annotations are resolved against the folder of the manifest, in the stored body."""
    template = Template.from_stored(stored(read_one(template_text(annotations={f"local.nexus/{annotation}": value, "team": "a"}))))
    assert template.local == {annotation: kept}
    assert template.annotations == {f"local.nexus/{annotation}": kept, "team": "a"}


@pytest.mark.parametrize(
    ("annotations", "hint"),
    [
        ({"local.nexus/projct": "."}, "did you mean `local.nexus/project`?"),
        ({"local.nexus/completion": "exit"}, "did you mean `exit-code`?"),
        ({"local.nexus/project": ""}, "give it a value, or remove the line"),
        ({"local.nexus/project": ".", "local.nexus/requirements": "r.txt"}, "keep one: an environment comes from one of them"),
    ],
)
def test_wrong_local_annotations_are_findings(annotations: dict[str, str], hint: str) -> None:
    """A local annotation that is misspelt, empty, out of its choice or contradictory is refused."""
    finding = only(template_text(annotations=annotations))
    assert (finding.code, finding.hint) == ("NX-T09", hint)


def test_local_annotations_of_a_workgroup_are_refused() -> None:
    """They say how a template runs; on a workgroup they would be ignored silently."""
    text = HEAD + "kind: NexusAlgorithmWorkgroup\nmetadata: {name: w, annotations: {local.nexus/project: .}}\n"
    assert only(text + "spec: {cluster: a, description: b}\n").code == "NX-T09"


def test_what_a_server_added_makes_no_new_revision() -> None:
    """A manifest read back from a cluster has the same body as the one applied, and order of keys does not matter."""
    plain = json.loads(template_text(labels={"team": "a"}))
    exported = json.loads(template_text(labels={"team": "a"}, namespace="nexus", uid="1", resourceVersion="7", managedFields=[{}]))
    exported["status"] = {"conditions": []}
    exported["spec"]["computeResources"] = None
    exported = dict(reversed(exported.items()))
    assert read_one(json.dumps(exported)).body == read_one(json.dumps(plain)).body


def test_a_list_is_read_item_by_item() -> None:
    """`kubectl get -o yaml` gives a List; findings point into it."""
    items = [json.loads(template_text()), json.loads(template_text({"command": "'"}, name="other"))]
    manifests, findings = read_manifests(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1), "list.json")
    assert [manifest.name for manifest in manifests] == ["demo"]
    assert [(finding.code, finding.line > 10) for finding in findings] == [("NX-T07", True)]


def test_a_name_twice_in_a_file_is_refused_whatever_its_namespace() -> None:
    """The same name in another namespace is an error as well."""
    text = template_text(namespace="a") + "\n---\n" + template_text(namespace="b")
    assert only(text).code == "NX-T10"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file holds no manifest"),
        ("# nothing\n", "the file holds no manifest"),
        ("- a\n", "a manifest is a mapping, this is `a list`"),
        (
            "kind: NexusAlgorithmTemplates\n" + HEAD + "metadata: {name: a}\nspec: {cluster: a}",
            "`kind` is `NexusAlgorithmTemplates`",
        ),
        ("a: b: c\n", "not valid YAML"),
        ("a: 1\na: 2\n", "the key `a` is given twice"),
        ("? [a]\n: 1\n", "a key is a list or a mapping"),
        ("[" * 80 + "]" * 80, "the document is nested deeper than 64 levels"),
        ('{"a":' * 80 + "1" + "}" * 80, "the document is nested deeper than 64 levels"),
        (" " * 1048577, "the file has 1048577 characters; at most 1048576 are read"),
    ],
)
def test_a_text_that_is_no_manifest_is_a_finding(text: str, message: str) -> None:
    """Whatever the text is, the answer is a finding that says so."""
    assert message in findings_of(text)[0].message


def test_json_with_surrogate_pairs_is_read_as_json() -> None:
    """YAML reads `\\ud83d\\ude00` differently; a manifest written by a JSON library still works."""
    assert "😀" in read_one(template_text({"args": ["😀"]})).body.decode()


def test_json_that_repeats_a_key_is_refused() -> None:
    """Two values under one key: one of them would be lost."""
    text = template_text()[:-1] + ', "kind": "NexusAlgorithmWorkgroup"}'
    assert "`kind` is given twice" in only(text).message


def test_too_many_findings_are_cut_and_counted() -> None:
    """A hundred findings are shown; the rest is a number."""
    findings = findings_of(template_text({"args": [1] * 250}))
    assert len(findings) == 101
    assert findings[-1].message == "150 more findings are not shown"


def test_the_built_in_workgroup_is_the_local_engine() -> None:
    """A template without a reference has somewhere to run."""
    assert (DEFAULT_WORKGROUP.name, DEFAULT_WORKGROUP.cluster) == ("default", "local")


def test_warnings_never_hide_an_error() -> None:
    """A manifest with more warnings than are shown is still refused for the error after them."""
    variables = [{"name": f"V{index}", "valueFrom": {"secretKeyRef": {}}} for index in range(150)]
    broken = (
        template_text({"runtimeEnvironment": {"environmentVariables": variables}})
        + "\n---\n"
        + template_text({"command": "'"}, name="b")
    )
    manifests, findings = read_manifests(broken, "a.yaml")
    assert [manifest.name for manifest in manifests] == ["demo"]
    assert findings[-1].message == "51 more findings are not shown"


@pytest.mark.parametrize("name", ["hello.world.v1", "a", "a" * 63, "0.a", "2-stage"])
def test_names_that_clusters_take_are_taken(name: str) -> None:
    """Names with dots are those of existing manifests; they fit into a label's value."""
    manifests, findings = read_manifests(document(name), "a.yaml")
    assert ([manifest.name for manifest in manifests], findings) == ([name], [])


@pytest.mark.parametrize("name", ["1.5", "1e5", "inf", "nan", "42", "a..b", ".a", "a.", "a.-b", "a" * 64, "a_b", "A", "..", "a/b"])
def test_names_nothing_could_carry_are_refused(name: str) -> None:
    """A name is no number to a reader of settings, and nothing a label, a path or a cluster would refuse."""
    manifests, findings = read_manifests(document(name), "a.yaml")
    assert (manifests, [finding.code for finding in findings]) == ([], ["NX-T05"])


def test_a_version_that_yaml_took_for_a_number_is_not_quoted_back() -> None:
    """`1.10` is read as 1.1: the hint must not offer what was never written."""
    (finding,) = read_manifests(document("a").replace("versionTag: v", "versionTag: 1.10"), "a.yaml")[1]
    assert finding.hint == "put it in quotes, as it is written"


def test_an_exit_code_in_both_lists_is_a_warning() -> None:
    """Fatal wins, as on a cluster; whoever wrote both should know."""
    manifests, (finding,) = read_manifests(
        document("a") + "  errorHandlingBehaviour: {transientExitCodes: [75, 137], fatalExitCodes: [137]}\n", "a.yaml"
    )
    assert len(manifests) == 1
    assert (finding.severity, finding.message) == ("warning", "`137` is fatal too, which counts")


def document(name: str) -> str:
    """A template called *name*."""
    return (
        f'{HEAD}kind: NexusAlgorithmTemplate\nmetadata: {{name: "{name}"}}\n'
        "spec:\n  container: {image: a, registry: b, versionTag: v}\n  command: x\n"
    )


def test_overrides_are_shown_as_existing_clients_can_read_them() -> None:
    """All sections, quantities as text, no null and no empty choice, whatever the request held."""
    given = {
        "container": {"image": None, "versionTag": "v2", "registry": ""},
        "computeResources": {"memoryLimit": 1073741824, "limits": {"cpu": 0.5, "memory": None}},
        "payloadConfiguration": {"payloadSerialization": "s3", "payloadValidFor": ""},
        "workgroupRef": None,
        "errorHandlingBehaviour": "",
        "runtimeEnvironment": {"deadlineSeconds": 5},
    }
    assert shown_overrides(given) == {
        "container": {"versionTag": "v2"},
        "computeResources": {"memoryLimit": "1073741824", "limits": {"cpu": "0.5"}},
        "workgroupRef": {},
        "command": "",
        "payloadConfiguration": {"payloadSerializationMode": "s3"},
        "runtimeEnvironment": {"deadlineSeconds": 5},
        "errorHandlingBehaviour": {},
        "datadogIntegrationSettings": {},
    }
    assert shown_overrides({"args": ["x"], "command": None})["args"] == ["x"]


def test_what_the_top_lacks_is_asked_for_at_the_top() -> None:
    """The hint names the section a field belongs under, and none where there is none."""
    hints = [finding.hint for finding in findings_of("apiVersion: science.sneaksanddata.com/v1\nkind: NexusAlgorithmTemplate\n")]
    assert hints == ["add `metadata:`", "add `spec:`"]
