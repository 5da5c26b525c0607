"""Resolving as a plan: what would be written, and what stands."""

from __future__ import annotations

import pytest

from nexus.kernel.errors import ResolverUnavailable, UnknownVariant
from nexus.variants import model, pins, resolution, views
from nexus.variants.pins import Pin
from nexus.variants.ports import Resolution, Unsatisfiable
from tests.unit.variants.resolving import TableResolver, Universe

UNIVERSE: Universe = {"idna": {"3.6": [], "3.7": []}, "jinja2": {"3.0": ["markupsafe"]}, "markupsafe": {"2.0": []}}
DECLARED = model.read("""\
[project]
name = "registry"
requires-python = ">=3.11"
[project.optional-dependencies]
ecosystem = ["idna", "jinja2"]
product = ["idna<3.7"]
[tool.uv]
override-dependencies = ["x<2"]
[tool.uv.sources]
idna = { path = "libs/idna" }
other = [{ git = "https://host/other.git" }, { path = "libs/other" }]
""")
COMMIT = "a" * 40


def resolve(committed: resolution.Committed, **options: object) -> dict[str, Resolution | Unsatisfiable]:
    return resolution.resolve(DECLARED, resolution.select(DECLARED, ()), TableResolver(UNIVERSE), committed, **options)  # type: ignore[arg-type]


def written(answers: dict[str, Resolution | Unsatisfiable], committed: resolution.Committed) -> resolution.Plan:
    return resolution.plan(DECLARED, {name: one for name, one in answers.items() if isinstance(one, Resolution)}, committed)


def test_each_variant_is_resolved_apart() -> None:
    """Two variants may pin two versions of one package."""
    answers = resolve(resolution.Committed())
    versions = {
        name: [pin.version for pin in one.pins if pin.name == "idna"]
        for name, one in answers.items()
        if isinstance(one, Resolution)
    }
    assert versions == {"ecosystem": ["3.7"], "product": ["3.6"]}


def test_what_was_written_is_the_plan_s_before_and_stands_after() -> None:
    """A second resolution with the committed pins changes nothing, whoever formatted the file."""
    first = written(resolve(resolution.Committed()), resolution.Committed())
    texts = {file.path: file.after or "" for file in first.files}
    assert sorted(texts) == ["requirements-ecosystem.txt", "requirements-product.txt"]
    again = resolution.read_committed({path: "# by hand\n" + text for path, text in texts.items()}, DECLARED.variants)
    assert written(resolve(again), again).files == ()


def test_committed_pins_are_kept_until_they_are_upgraded() -> None:
    """Preferences hold; one package, or all, can be renewed."""
    held = resolution.Committed(pins={"ecosystem": (Pin(name="idna", version="3.6"), Pin(name="jinja2", version="3.0"))})

    def idna(**options: object) -> str:
        answer = resolve(held, **options)["ecosystem"]
        assert isinstance(answer, Resolution)
        return next(pin.version for pin in answer.pins if pin.name == "idna")

    assert idna() == "3.6"
    assert idna(upgrade=("idna",)) == "3.7"
    assert idna(upgrade=("jinja2",)) == "3.6"
    assert idna(upgrade=None) == "3.7"


def test_git_sources_stand_in_their_own_file_which_goes_when_they_do() -> None:
    """A plan writes `requirements-V.git.txt` for Git sources, and removes it when there are none left."""
    source = Pin(name="lib", url=f"git+https://host/lib@{COMMIT}", via=("registry",))
    plain = Pin(name="idna", version="3.7", hashes=("sha256:aa",), via=("registry",))
    first = resolution.plan(DECLARED, {"ecosystem": Resolution(pins=(plain, source))}, resolution.Committed())
    texts = {file.path: file.after or "" for file in first.files}
    assert f"@{COMMIT}" in texts["requirements-ecosystem.git.txt"]
    assert "git+" not in texts["requirements-ecosystem.txt"]
    committed = resolution.read_committed(texts, DECLARED.variants)
    assert {pin.name for pin in committed.of("ecosystem")} == {"idna", "lib"}
    second = resolution.plan(DECLARED, {"ecosystem": Resolution(pins=(plain,))}, committed)
    assert {file.path: file.after is None for file in second.files} == {
        "requirements-ecosystem.txt": False,
        "requirements-ecosystem.git.txt": True,
    }


def test_the_plan_says_what_changes() -> None:
    """Each file of a plan carries its packages: added, removed, up, down."""
    held = resolution.Committed(
        pins={"product": (Pin(name="idna", version="3.5"),)}, texts={"requirements-product.txt": "idna==3.5\n"}
    )
    plan = resolution.plan(DECLARED, {"product": Resolution(pins=(Pin(name="idna", version="3.6"),))}, held)
    assert [(change.kind, change.before, change.after) for change in plan.files[0].changes] == [("up", "3.5", "3.6")]


def test_an_unknown_variant_names_the_declared_ones() -> None:
    """A mistyped name is refused with what there is."""
    with pytest.raises(UnknownVariant) as caught:
        resolution.select(DECLARED, ["prodct"])
    assert "`ecosystem`, `product`" in caught.value.hint


def test_an_index_that_fails_half_way_gives_no_plan() -> None:
    """When one variant could not be resolved, nothing is answered for the others."""
    with pytest.raises(ResolverUnavailable):
        resolution.resolve(DECLARED, resolution.select(DECLARED, ()), TableResolver(UNIVERSE, fail_after=1), resolution.Committed())


def test_a_question_carries_the_registry_s_own_settings() -> None:
    """uv's settings go along, relative sources become absolute, the lowest Python is that of the registry."""
    asked = resolution.question(DECLARED, ["idna"], root="/registry")
    assert asked.settings["override-dependencies"] == ["x<2"]
    assert asked.settings["sources"]["idna"]["path"] == "/registry/libs/idna"
    assert asked.settings["sources"]["other"][1]["path"] == "/registry/libs/other"
    assert (asked.python, asked.requires_python) == ("3.11", ">=3.11")


def test_views_are_plain_rows() -> None:
    """The HTTP part and the command line show the same dictionaries."""
    texts = {file.path: file.after or "" for file in written(resolve(resolution.Committed()), resolution.Committed()).files}
    committed = resolution.read_committed(texts, DECLARED.variants)
    assert views.variants(DECLARED, committed)[0]["packages"] == 3
    assert views.pins("product", committed)[0]["version"] == "3.6"
    rows = {
        row["package"]: (row["ecosystem"], row["product"]) for row in views.matrix(DECLARED, committed, ["ecosystem", "product"])
    }
    assert rows == {"idna": ("3.7", "3.6"), "jinja2": ("3.0", ""), "markupsafe": ("2.0", "")}
    assert [row["package"] for row in views.matrix(DECLARED, committed, ["ecosystem"], members=True)] == ["idna", "jinja2"]
    chains, complete = views.chains("markupsafe", ["ecosystem"], committed)
    assert (chains[0]["chain"], complete) == ("jinja2 → markupsafe", True)
    assert pins.file_of("x") == "requirements-x.txt"
