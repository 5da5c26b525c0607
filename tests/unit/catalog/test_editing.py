"""Plans that start, rename and remove packages and models: valid at the end, comments kept, refused when they break something."""

from __future__ import annotations

import pytest

from nexus.catalog import checks, editing, owners, snapshot, texts
from nexus.catalog.editing import NewModel, NewPackage, Plan
from nexus.catalog.snapshot import Snapshot
from nexus.kernel.errors import InvalidInput, RegistryEditRefused, UnknownName
from tests.unit.catalog.trees import BENCHMARK, DAY, NEXUS, SPACE, USAGE, VALID, build, edited

PROJECT = """[project]
name = "r"

[project.optional-dependencies]
# everything
ecosystem = [
    # why this one
    "graphs>=1",  # since spring
    "zebra",
]
product = [
    # pinned
    "Graphs[x]==1.2 ; python_version > '3'",
]

[tool.uv.sources]
graphs = { git = "https://example.org/graphs" }  # until released
"""


def after(registry: Snapshot, plan: Plan) -> Snapshot:
    """The registry after the plan, which must not make it worse."""
    editing.refuse(registry, plan, DAY)
    return snapshot.build(editing.applied(registry.files, plan))


def text(registry: Snapshot, path: str) -> str:
    """The content of one file."""
    return registry.files.contents[path].decode()


def test_a_new_package_is_valid_and_stands_in_its_variants() -> None:
    """The manifest is clean, and the requirement stands in its alphabetical place with all comments kept."""
    registry = build({"pyproject.toml": PROJECT})
    wanted = NewPackage(name="maps", owners=("octocat",), variants=("ecosystem",), requirement=">=2", docs="https://example.org")
    done = after(registry, editing.new_package(registry, wanted))
    package = done.package("maps")
    assert package is not None
    assert done.variants_of(package) == ("ecosystem",)
    assert '    "graphs>=1",  # since spring\n    "maps>=2",\n    "zebra",\n' in text(done, "pyproject.toml")
    assert "# why this one" in text(done, "pyproject.toml")
    assert not [one for one in checks.check(done, DAY).findings if "maps" in one.file]


def test_a_new_package_without_a_project_file_names_its_variants_itself() -> None:
    """Where no variant is declared, the manifest carries them."""
    registry = build({"pyproject.toml": None})
    done = after(registry, editing.new_package(registry, NewPackage(name="maps", owners=("octocat",), variants=("product",))))
    package = done.package("maps")
    assert package is not None
    assert done.variants_of(package) == ("product",)


@pytest.mark.parametrize("vllm", [False, True])
def test_a_new_model_is_valid(vllm: bool) -> None:
    """With tests and, where the package allows it, with vLLM, the new model has no finding but none."""
    registry = build({"pyproject.toml": PROJECT})
    done = after(registry, editing.new_model(registry, NewModel(package="graphs", id="example-org/new", vllm=vllm, tests=True)))
    assert [one for one in checks.check(done, DAY).findings if "/new/" in one.file] == []


@pytest.mark.parametrize(
    ("name", "owners_"),
    [
        ("../evil", ("octocat",)),
        ("-rf", ("octocat",)),
        ("a b", ("octocat",)),
        ("a\nb", ("octocat",)),
        ("maps", ("@octocat",)),
        ("", ("x",)),
    ],
)
def test_hostile_words_are_refused_before_anything_is_planned(name: str, owners_: tuple[str, ...]) -> None:
    """Names that are paths, options or lines, and handles that are none, never reach a plan."""
    with pytest.raises(InvalidInput):
        editing.new_package(build(), NewPackage(name=name, owners=owners_))


@pytest.mark.parametrize("name", ["graphs", "Graphs", "GRAPHS"])
def test_a_registered_name_is_refused_in_every_spelling(name: str) -> None:
    """A twin of a registered package is refused, also where only case differs."""
    with pytest.raises(RegistryEditRefused):
        editing.new_package(build(), NewPackage(name=name, owners=("octocat",)))


def test_a_model_with_an_error_in_it_is_refused_with_all_findings() -> None:
    """vLLM in a package of the ecosystem alone would be an error: the plan is refused and says why."""
    registry = build()
    plan = editing.new_model(registry, NewModel(package="graphs", id="example-org/new", vllm=True))
    with pytest.raises(RegistryEditRefused, match="NX-C045"):
        editing.refuse(registry, plan, DAY)


def test_renaming_a_package_follows_it_everywhere_and_keeps_comments() -> None:
    """Folder, manifest, extras, sources, local requirements, waivers and CODEOWNERS follow; markers, extras and comments stay."""
    waived = (
        "waivers:\n  - code: NX-C043  # soon\n    path: packages/graphs/models/clubs\n"
        "    owner: octocat\n    reason: r\n    expires: 2026-12-01\n"
    )
    registry = build({"pyproject.toml": PROJECT, "waivers.yaml": waived, USAGE: None, "CODEOWNERS": owners.codeowners(build())})
    done = after(registry, editing.rename_package(registry, "graphs", "networks"))
    assert checks.check(done, DAY).findings == ()
    project = text(done, "pyproject.toml")
    assert '"networks>=1",  # since spring' in project
    assert "\"networks[x]==1.2 ; python_version > '3'\"" in project
    assert "networks = { git" in project
    assert "raphs>" not in project
    assert "./packages/networks/benchmark_packages/clubs-benchmarks" in text(done, "packages/networks/nexus.yaml")
    assert "# soon\n    path: packages/networks/models/clubs\n" in text(done, "waivers.yaml")
    assert "/packages/networks/ @octocat" in text(done, "CODEOWNERS")
    back = after(done, editing.rename_package(done, "networks", "graphs"))
    assert {path: data for path, data in back.files.contents.items() if path != "pyproject.toml"} == {
        path: data for path, data in registry.files.contents.items() if path != "pyproject.toml"
    }


def test_removing_a_package_takes_it_out_of_every_extra() -> None:
    """Its folder, requirements, source and waivers are gone, and nothing else."""
    waived = "waivers:\n  - {code: NX-C043, path: packages/graphs, owner: o, reason: r, expires: 2026-12-01}\n"
    registry = build({"pyproject.toml": PROJECT, "waivers.yaml": waived, USAGE: None, BENCHMARK: None})
    done = after(registry, editing.remove_package(registry, "graphs"))
    assert done.packages == ()
    assert "raphs" not in text(done, "pyproject.toml")
    assert '"zebra"' in text(done, "pyproject.toml")
    assert "[]" in text(done, "waivers.yaml")


def test_a_removal_that_breaks_another_package_is_refused() -> None:
    """A package whose benchmarks others use stays."""
    user = {
        "packages/user/nexus.yaml": "package: {name: user, owners: [octocat]}\n",
        "packages/user/benchmark_instances/i/space.yaml": VALID[SPACE],
    }
    registry = build(user, {BENCHMARK: None})
    plan = editing.remove_package(registry, "graphs")
    with pytest.raises(RegistryEditRefused, match="NX-C054"):
        editing.refuse(registry, plan, DAY)


def test_old_errors_do_not_stop_an_edit() -> None:
    """A registry that is wrong already may be edited; only new errors are refused, also in a folder that moves."""
    registry = build(edited(NEXUS, "  docs:", "  doc:"))
    done = after(registry, editing.rename_package(registry, "graphs", "networks"))
    assert done.package("networks") is not None


def test_renaming_a_model_moves_its_folder_and_changes_its_id() -> None:
    """Both at once, and the manifest keeps its other lines."""
    registry = build()
    done = after(registry, editing.rename_model(registry, "example-org/clubs", "groups", "example-org/groups"))
    found = done.model("example-org/groups")
    assert found is not None
    assert found[1].folder == "groups"
    assert found[1].instances[0].name == "sizes"


def test_removing_a_model_takes_its_folder() -> None:
    """The package stays."""
    registry = build()
    done = after(registry, editing.remove_model(registry, "graphs/clubs"))
    assert [package.models for package in done.packages] == [()]


def test_unknown_names_are_told() -> None:
    """A package or model nobody registered cannot be renamed."""
    with pytest.raises(UnknownName):
        editing.rename_package(build(), "nothing", "something")
    with pytest.raises(UnknownName):
        editing.remove_model(build(), "graphs/nothing")


@pytest.mark.parametrize("word", ["yes", "1.0", "a: b", "# x", "", "null", "é", "- a", "'"])
def test_scalars_are_quoted_where_they_could_be_read_as_something_else(word: str) -> None:
    """What is written comes back as the same text."""
    from nexus.kernel import documents

    assert documents.load(f"a: {texts.scalar(word)}\n") == {"a": word}


def test_removing_the_middle_item_keeps_its_neighbours() -> None:
    """An item of a block list goes with its lines; the others stay as they are."""
    text_ = "waivers:\n  - a: 1\n    b: 2\n  # about two\n  - a: 2\n  - a: 3\n"
    assert texts.remove_item(text_, ("waivers", 0)).count("- a") == 2
    assert texts.remove_item(text_, ("waivers", 2)).endswith("- a: 2\n")


@pytest.mark.parametrize(
    ("before", "item", "after"),
    [
        ("# t\nwaivers:  # see: x\n  # one\n  - a: 1\n\n# tail\nb: []\n", 0, "# t\nwaivers: []  # see: x\n\n# tail\nb: []\n"),
        ("waivers:\n- {a: 1}  # why\n- {a: 2}\n", 0, "waivers:\n- {a: 2}\n"),
        ("waivers:\n- {a: 1}\n# two\n- {a: 2}  # why\nb: 1\n", 1, "waivers:\n- {a: 1}\nb: 1\n"),
        ("waivers: [{a: 1}, {a: 2}, {a: 3}] # c\n", 0, "waivers: [{a: 2}, {a: 3}] # c\n"),
        ("waivers: [{a: 1}, {a: 2}, {a: 3}] # c\n", 2, "waivers: [{a: 1}, {a: 2}] # c\n"),
        ("waivers: [ {a: 1} ]\nb: 1\n", 0, "waivers: [ ]\nb: 1\n"),
        (
            "waivers:\n  - a: 1\n    b: |\n      x\n      # no comment\n  - a: 2\n",
            1,
            "waivers:\n  - a: 1\n    b: |\n      x\n      # no comment\n",
        ),
    ],
)
def test_an_item_goes_with_its_own_comments_only(before: str, item: int, after: str) -> None:
    """In block lists and in brackets, first, last or alone: what is left says the same, and other comments stay."""
    from nexus.kernel import documents

    left = texts.remove_item(before, ("waivers", item))
    assert left == after
    expected = documents.load(before)
    del expected["waivers"][item]
    assert documents.load(left) == expected


def test_a_variant_or_an_owner_given_twice_counts_once() -> None:
    """The requirement is added once, and the owner named once."""
    wanted = editing.NewPackage(name="other", owners=("octocat", "OctoCat", "hubot"), variants=("ecosystem", "ecosystem"))
    plan = editing.new_package(build(), wanted)
    written = {step.path: step.after.decode() for step in plan.steps}
    assert written["pyproject.toml"].count('"other"') == 1
    assert "[octocat, hubot]" in written["packages/other/nexus.yaml"]


def test_a_registry_that_asks_for_a_variant_is_told_which_flag_names_one() -> None:
    """Where standing in no variant is an error, the refusal names `--variant` and the variants."""
    strict = {"pyproject.toml": VALID["pyproject.toml"] + '[tool.nexus.rules]\nvariant-none = "error"\n'}
    with pytest.raises(RegistryEditRefused) as caught:
        editing.new_package(build(strict), editing.NewPackage(name="other", owners=("octocat",)))
    assert "--variant" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "renamed"),
    [
        (
            b"\xef\xbb\xbfpackage: {name: graphs, owners: [octocat]}\r\n",
            b"\xef\xbb\xbfpackage: {name: charts, owners: [octocat]}\r\n",
        ),
        (b"package:\n  name: >-\n    graphs\n  owners: [octocat]\n", b"package:\n  name: charts\n  owners: [octocat]\n"),
        (b"package:\n  name: &n 'graphs' # c\n", b"package:\n  name: charts # c\n"),
    ],
)
def test_a_name_is_replaced_however_it_is_written(data: bytes, renamed: bytes) -> None:
    """Byte order mark, line ends, block scalars, anchors: the rest of the file stays as it is."""
    plan = editing.rename_package(build({NEXUS: data}), "graphs", "charts")
    assert next(step.after for step in plan.steps if step.path == "packages/charts/nexus.yaml") == renamed
