"""Manifests of arbitrary content: whatever stands in a file is read or refused, soon and in words."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.runs.templates import (
    TEMPLATE,
    WORKGROUP,
    Template,
    Workgroup,
    read_manifests,
)
from tests.unit.runs.test_templates import stored, template_text

_WORDS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "name",
        "annotations",
        "local.nexus/project",
        "container",
        "computeResources",
        "limits",
        "runtimeEnvironment",
        "environmentVariables",
        "args",
        "command",
        "items",
        "labels",
        "affinity",
        "tolerations",
        "payloadValidFor",
    ]
)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([TEMPLATE, WORKGROUP, "List", "1Gi"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=4), children, max_size=5),
    max_leaves=12,
)


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_arbitrary_text_never_raises(text: str) -> None:
    """Whatever is in a file, reading it gives manifests and findings."""
    manifests, findings = read_manifests(text, "any.yaml")
    assert manifests or findings


@given(st.sampled_from([TEMPLATE, WORKGROUP]), _JSON, _JSON, _JSON)
@settings(max_examples=300, deadline=None)
def test_arbitrary_values_never_raise(kind: str, metadata: Any, spec: Any, section: Any) -> None:
    """Whatever values stand in a manifest, it is read or refused; one that is read becomes a value."""
    spec = {**json.loads(template_text())["spec"], "computeResources": section} if isinstance(spec, list) else spec
    document = {"apiVersion": "science.sneaksanddata.com/v1", "kind": kind, "metadata": metadata, "spec": spec}
    manifests, findings = read_manifests(json.dumps(document), "any.json")
    assert manifests or findings
    for manifest in manifests:
        (Template if kind == TEMPLATE else Workgroup).from_stored(stored(manifest))


def test_a_file_full_of_mistakes_is_read_soon() -> None:
    """A hundred findings are worked out; the rest is counted, however many there are, and no terminal is harmed."""
    text = template_text({f"unknown\x1b{index}": 1 for index in range(20_000)}) + "\n---\nkind: 1\n" * 2_000
    manifests, findings = read_manifests(text, "a.yaml")
    assert manifests == []
    assert len(findings) == 101
    assert "\x1b" not in "".join(finding.text() for finding in findings)
