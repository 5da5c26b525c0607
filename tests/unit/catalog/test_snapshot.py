"""Snapshots, what differs between two of them, who owns what, and what others are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.catalog import checks, difference, editing, owners, snapshot, views
from nexus.catalog.files import Files, Trouble, wanted
from nexus.variants import model
from tests.unit.catalog import trees
from tests.unit.catalog.trees import BENCHMARK, DAY, MODEL, NEXUS, SPACE, USAGE, VALID, build, edited, report

KEYS = [
    "package",
    "name",
    "owners",
    "model",
    "id",
    "testing",
    "scenarios",
    "experiments",
    "bindings",
    "logicalBenchmark",
    "waivers",
    "vllm",
    "benchmark_packages",
]
DATA = "packages/graphs/models/clubs/tests/clubs.txt"


def test_a_snapshot_knows_packages_models_instances_and_variants() -> None:
    """The values say what the files say."""
    registry = build()
    package = registry.package("graphs")
    assert package is not None
    assert package.owners == ("octocat",)
    assert registry.variants_of(package) == ("ecosystem",)
    assert [model.id for model in package.models] == ["example-org/clubs"]
    assert [instance.path for instance in package.every_instance()] == [SPACE.removesuffix("/space.yaml")]
    assert registry.model("example-org/clubs") == registry.model("graphs/clubs") == (package, package.models[0])


def test_members_are_found_under_any_spelling_of_their_name() -> None:
    """`Foo_Bar` in an extra is the package `foo-bar`."""
    registry = build(
        {"pyproject.toml": "[project.optional-dependencies]\nproduct = [\"Graphs [x] >= 1 ; python_version > '3'\"]\n"}
    )
    assert registry.project.variants_of("graphs") == ("product",)


def test_an_extra_of_the_registry_itself_stands_for_its_members() -> None:
    """`registry[geo]` in a variant makes the packages of `geo` its members, however often extras name one another."""
    extras = '[project]\nname = "My.Registry"\n[project.optional-dependencies]\n'
    extras += 'ecosystem = ["my-registry[geo,chem]>=1"]\ngeo = ["graphs>=1", "my_registry[ecosystem]"]\n'
    found = build({"pyproject.toml": extras})
    package = found.package("graphs")
    assert package is not None
    assert found.variants_of(package) == ("ecosystem",)
    assert "NX-C036" not in {one.code for one in report({"pyproject.toml": extras}).findings}


def test_extras_of_the_registry_are_named_in_any_spelling_and_in_several_requirements() -> None:
    """`r[geo]` and `r[chem-lab]` are two requirements of the registry itself, and `Chem_Lab` is how the second is declared."""
    extras = '[project]\nname = "r"\n[project.optional-dependencies]\n'
    extras += 'ecosystem = ["r[geo]", "r[chem-lab]", "idna"]\ngeo = ["graphs>=1"]\nChem_Lab = ["rdkit"]\n'
    members = build({"pyproject.toml": extras}).project.members
    assert set(members["ecosystem"]) == {"graphs", "rdkit", "idna"}


def test_extras_that_name_one_another_in_many_ways_are_read_once_each() -> None:
    """Forty layers, each of two extras that include both of the next, have 2⁴⁰ ways through them."""
    layers = "".join(f'{side}{n} = ["r[a{n + 1},b{n + 1}]"]\n' for n in range(40) for side in "ab")
    extras = f'[project]\nname = "r"\n[project.optional-dependencies]\necosystem = ["r[a0]"]\n{layers}a40 = ["graphs"]\n'
    assert set(build({"pyproject.toml": extras}).project.members["ecosystem"]) == {"graphs"}
    assert [one.name for one in model.read(extras).variants["ecosystem"].requirements] == ["graphs"]


def test_memory_reads_only_what_changed() -> None:
    """With a memory, unchanged packages are the same objects, and the answer is the one a fresh reading gives."""
    memory = snapshot.Memory()
    second = {"packages/other/nexus.yaml": "package: {name: other}\n"}
    first = snapshot.build(trees.files(second), memory)
    checks.check(first, DAY, memory)
    changed = trees.files(second, edited(MODEL, "example-org/clubs", "example-org/--"))
    after = snapshot.build(changed, memory)
    assert after.packages[1] is first.packages[1]
    assert after.packages[0] is not first.packages[0]
    assert checks.check(after, DAY, memory) == checks.check(snapshot.build(changed), DAY)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([NEXUS, MODEL, USAGE, SPACE, BENCHMARK, "pyproject.toml", "waivers.yaml"]), st.binary(max_size=60)
        ),
        max_size=4,
    )
)
def test_whatever_the_files_hold_there_is_a_report(changes: list[tuple[str, bytes]]) -> None:
    """No content of any manifest makes the check fail, and the memory never changes what it says."""
    memory = snapshot.Memory()
    snapshot.build(trees.files(), memory)
    files = trees.files(dict(changes))
    assert checks.check(snapshot.build(files, memory), DAY, memory) == checks.check(snapshot.build(files), DAY)


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
        max_leaves=12,
    )
)
def test_whatever_shape_a_manifest_has_there_is_a_report(value: object) -> None:
    """Any JSON value in any manifest gives findings, never an exception."""
    import json

    text = json.dumps(value)
    found = report({NEXUS: text, MODEL: text, SPACE: text, BENCHMARK: text, "waivers.yaml": text})
    assert all(one.code.startswith("NX-") for one in found.findings)


def test_nothing_is_read_that_does_not_matter() -> None:
    """Manifests and pages are wanted; code, data and hidden folders are not."""
    assert wanted(NEXUS)
    assert wanted(USAGE)
    assert wanted("waivers.yaml")
    assert not wanted("packages/graphs/benchmark_packages/x/pyproject.toml")
    assert not wanted("packages/graphs/data.bin")
    assert not wanted("benchmarks/sub/x.yaml")


def test_the_difference_names_what_a_pull_request_changes() -> None:
    """Added, changed and removed packages, models, owners and instances are told apart."""
    before = build({"packages/old/nexus.yaml": "package: {name: old, owners: [hubot]}\n"})
    after = build(
        edited(MODEL, "time_limit: 2m", "time_limit: 3m"),
        {SPACE: None, "packages/new/nexus.yaml": "package: {name: new, owners: [octocat]}\n"},
    )
    changes = {(one.what, one.name, one.change) for one in difference.compare(before, after)}
    assert changes == {
        ("package", "new", "added"),
        ("package", "old", "removed"),
        ("model", "example-org/clubs", "changed"),
        ("instance", SPACE.removesuffix("/space.yaml"), "removed"),
        ("owner", "octocat", "changed"),
        ("owner", "hubot", "removed"),
    }


def test_a_moved_model_is_changed_and_not_removed() -> None:
    """A model is known by its Hugging Face id: in another folder it is the same model."""
    after = build({MODEL: None, USAGE: None, SPACE: None, DATA: None, "packages/graphs/models/moved/model.yaml": VALID[MODEL]})
    changes = [one for one in difference.compare(build(), after) if one.what == "model"]
    assert [(one.name, one.change) for one in changes] == [("example-org/clubs", "changed")]
    assert "moved" in changes[0].detail


def test_findings_since_a_change_are_those_it_causes_here_and_elsewhere() -> None:
    """A finding of an untouched file counts when the change caused it, and old findings of other files do not."""
    old_trouble = {"packages/old/nexus.yaml": "package: {name: old}\n"}
    before = report(old_trouble)
    twin = {
        "packages/aaa/nexus.yaml": "package: {name: aaa, owners: [octocat]}\n",
        "packages/aaa/models/m/model.yaml": "model: {id: example-org/clubs}\n",
    }
    found = checks.new_since(report(old_trouble, twin), before, ["packages/aaa/nexus.yaml", "packages/aaa/models/m/model.yaml"])
    assert ("NX-C041", MODEL) in {(one.code, one.file) for one in found.findings}
    assert not any(one.file.startswith("packages/old/") for one in found.findings)


def test_owners_answer_for_packages_and_by_default_for_models() -> None:
    """A model without an owner of its own is answered for by the package's owners."""
    second = {"packages/other/nexus.yaml": "package: {name: other, owners: [Hubot, OctoCat]}\n",
              "packages/other/models/m/model.yaml": "model: {id: example-org/m, owner: hubot}\n"}  # fmt: skip
    found = {one.handle: one for one in owners.owners(build(second))}
    assert found["octocat"].packages == ("graphs", "other")
    assert found["octocat"].default_models == ("example-org/clubs",)
    assert found["Hubot"].models == ("example-org/m",)


def test_codeowners_is_made_from_owners_and_keeps_what_people_wrote() -> None:
    """Our part is renewed between its markers; everything around it stays; handles that are none are left out."""
    registry = build({"packages/bad/nexus.yaml": 'package: {name: bad, owners: ["x y"]}\n'})
    text = owners.merged("* @admins\n", owners.codeowners(registry))
    assert text.startswith("* @admins\n\n# nexus: begin")
    assert "/packages/graphs/ @octocat\n" in text
    assert "bad" not in text
    again = owners.merged(text + "\n/docs/ @writers\n", owners.codeowners(build()))
    assert again.endswith("# nexus: end\n\n/docs/ @writers\n")


def test_supported_models_are_those_without_errors_in_the_variant() -> None:
    """A model with an error is left out with its reason; a model of a package outside the variant is not named."""
    registry = build(edited(MODEL, "example-org/clubs", "example-org/--"))
    kept, left_out = views.supported(registry, checks.check(registry, DAY), "ecosystem")
    assert kept == []
    assert "NX-C040" in left_out[0]["reasons"][0]
    assert views.supported(build(), report(), "candidate") == ([], [])
    assert [row["id"] for row in views.supported(build(), report(), "ecosystem")[0]] == ["example-org/clubs"]


def test_views_are_plain_data() -> None:
    """What the HTTP API shows can be written as JSON as it is."""
    import json

    registry, found = build(), report()
    package = registry.packages[0]
    shown = [
        views.packages(registry, found), views.package(registry, package, found), views.models(registry), views.owners(registry),
        views.findings(found), views.benchmark_packages(registry),
    ]  # fmt: skip
    assert json.loads(json.dumps(shown)) == shown


def test_a_snapshot_of_nothing_is_empty() -> None:
    """No file at all is a registry without packages."""
    registry = snapshot.build(replace(Files()))
    assert registry.packages == ()
    assert list(registry.models()) == []


@pytest.mark.parametrize("text", ["package: {name: graphs\n", "", "package: {name: graphs, onwers: [octocat]}\n"])
def test_owners_nobody_knows_are_not_taken_out_of_codeowners(text: str) -> None:
    """While a manifest is wrong, CODEOWNERS counts as fresh, and an edit of another package leaves it as it is."""
    kept = {"CODEOWNERS": owners.codeowners(build()), NEXUS: text}
    assert "NX-C081" not in {one.code for one in report(kept).findings}
    assert owners.unsettled(build(kept)) == NEXUS
    plan = editing.new_package(build(kept), editing.NewPackage(name="other", owners=("octocat",), variants=("ecosystem",)))
    assert "CODEOWNERS" not in {step.path for step in plan.steps}
    assert any("get codeowners" in note for note in plan.notes)


def test_packages_nobody_can_read_are_not_taken_out_of_codeowners() -> None:
    """A folder of packages that is a link, or a manifest without permission, leaves its owners where they are."""
    unread = build({"CODEOWNERS": owners.codeowners(build()), NEXUS: None}, troubles=(Trouble("link", "packages", "leads out"),))
    assert owners.unsettled(unread) == "packages"
