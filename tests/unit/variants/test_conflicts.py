"""Why a variant does not resolve, what was tried, and whose change it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from nexus.kernel.errors import ResolverUnavailable
from nexus.variants import classes, conflicts, explanation, model, picture, proof, proposals, resolution, solutions, suspects
from nexus.variants.classes import PackageClass, Standing
from nexus.variants.conflicts import Answerable, Conflict, Registry, Solver
from nexus.variants.model import Declaration
from nexus.variants.pins import Pin
from nexus.variants.ports import Commit, Problem, Resolution, Unsatisfiable
from nexus.variants.solutions import Kind, Outcome, Tried
from tests.unit.variants.resolving import ListedHistory, TableMetadata, TableResolver, Universe

UNIVERSE: Universe = {
    "left": {"1.0": ["shared<2"], "2.0": ["shared>=2"]},
    "right": {"1.0": ["middle>=1"]},
    "middle": {"1.0": ["shared>=2"]},
    "shared": {"1.0": [], "2.0": []},
    "bystander": {"1.0": []},
}
TEXT = """\
[project]
name = "registry"
requires-python = ">=3.12"
[project.optional-dependencies]
ecosystem = [
  "bystander",
  "left==1.0",
  "right",
]
candidate = [
  "bystander",
]
[tool.uv]
conflicts = [[{ extra = "ecosystem" }, { extra = "candidate" }]]
"""
OWNERS = {"left": Answerable(owners=("ann",), models=("acme/lefty",)), "right": Answerable(owners=("bob",))}


class Ticking:
    """A clock that moves one second a look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def solver(universe: Universe = UNIVERSE, *, budget_s: float = 1e9, resolver: TableResolver | None = None) -> Solver:
    return Solver(resolver or TableResolver(universe), monotonic=Ticking(), budget_s=budget_s)


def known(declared: Declaration, held: tuple[Pin, ...] = ()) -> Registry:
    committed = resolution.Committed(pins={"ecosystem": held})
    return Registry(declaration=declared, committed=committed, members=frozenset(UNIVERSE), answerable=OWNERS)


def found(text: str = TEXT, asked: Solver | None = None) -> tuple[Declaration, Conflict]:
    declared = model.read(text)
    (conflict,) = conflicts.find(known(declared), declared.variants["ecosystem"], asked or solver())
    return declared, conflict


def test_the_smallest_set_leaves_bystanders_out() -> None:
    """Only requirements of which none can go stay; owners, models and lines come with them."""
    _, conflict = found()
    assert [side.asked.text for side in conflict.sides] == ["left==1.0", "right"]
    assert conflict.others == ("bystander",)
    assert conflict.smallest
    assert (conflict.sides[0].owners, conflict.sides[0].models, conflict.sides[0].asked.line) == (("ann",), ("acme/lefty",), 7)


def test_each_side_has_its_chain_to_the_contested_package() -> None:
    """The chain goes through what lies between, to the package on which the sides cannot agree."""
    _, conflict = found()
    assert conflict.contested == "shared"
    assert [step.needs for step in conflict.sides[1].chain] == ["middle>=1", "shared>=2"]


def test_a_variant_that_resolves_has_no_conflict() -> None:
    """Nothing is explained where nothing is wrong."""
    declared = model.read(TEXT)
    assert conflicts.find(known(declared), declared.variants["candidate"], solver()) == ()


def test_when_time_runs_out_the_set_is_said_to_be_unproven() -> None:
    """The budget ends the search; what is known so far is kept and marked."""
    _, conflict = found(asked=solver(budget_s=1.5))
    assert not conflict.smallest
    assert {"left", "right"} <= {side.asked.name for side in conflict.sides}


def test_an_index_that_goes_away_is_no_conflict() -> None:
    """A failure of the index is raised, not read as a proof."""
    with pytest.raises(ResolverUnavailable):
        found(asked=solver(resolver=TableResolver(UNIVERSE, fail_after=1)))


def tried(text: str = TEXT, standings: Mapping[str, Standing] | None = None) -> tuple[Tried, ...]:
    asked = solver()
    declared, conflict = found(text, asked)
    proposed = proposals.propose(declared, conflict, standings, frozenset(UNIVERSE))
    return solutions.try_all(declared, proposed, asked, resolution.Committed())


def test_solutions_are_resolved_for_real_and_the_smallest_comes_first() -> None:
    """Another version works; leaving one out works; each says what it leads to."""
    outcomes = {(one.solution.kind, one.solution.edits[0].before if one.solution.edits else ""): one for one in tried()}
    freed = outcomes[Kind.VERSION, "left==1.0"]
    assert (freed.outcome, freed.found, freed.solution.edits[0].after) == (Outcome.WORKS, "2.0", "left==2.0")
    assert outcomes[Kind.LEAVE_OUT, "right"].outcome is Outcome.WORKS
    assert tried()[0].outcome is Outcome.WORKS
    assert [one.outcome for one in tried()] == sorted((one.outcome for one in tried()), key=list(Outcome).index)


def test_an_owner_is_asked_to_relax_what_another_side_needs() -> None:
    """As if the package before the contested one allowed what the other side needs."""
    override = [one for one in tried() if one.solution.kind is Kind.OVERRIDE]
    assert {one.solution.overrides for one in override} == {("shared>=2",), ("shared<2",)}
    assert all(one.outcome is Outcome.WORKS for one in override)


def test_a_package_moves_only_where_its_class_allows() -> None:
    """An ecosystem-only package is refused in candidate, an agnostic one moves with its extra."""
    only = {name: Standing(package=name, version="1", kind=PackageClass.ECOSYSTEM_ONLY) for name in ("left", "right")}
    refused = [one for one in tried(standings=only) if one.solution.kind is Kind.MOVE]
    assert {one.outcome for one in refused} == {Outcome.REFUSED}
    agnostic = {"right": Standing(package="right", version="1", kind=PackageClass.AGNOSTIC, extras=("vllm",))}
    moved = [one for one in tried(standings=agnostic) if one.solution.kind is Kind.MOVE and "`right`" in one.solution.text]
    assert [edit.after for edit in moved[0].solution.edits] == ["", "right[vllm]"]


def test_a_lower_bound_that_goes_starts_at_the_version_found() -> None:
    """The edit keeps a bound, at what was tried."""
    text = TEXT.replace("left==1.0", "left<2").replace('"right"', '"shared>=2"')
    by_text = {
        edit.before: (edit.after, one.outcome)
        for one in tried(text)
        for edit in one.solution.edits
        if one.solution.kind is Kind.RELAX
    }
    assert by_text["shared>=2"] == ("shared>=1.0", Outcome.WORKS)
    assert by_text["left<2"] == ("left", Outcome.WORKS)


def test_an_edit_keeps_extras_and_markers() -> None:
    """What a solution proposes to write is the requirement as it was, with another bound."""
    text = TEXT.replace('"left==1.0"', "\"left[fast]==1.0 ; python_version < '4'\"")
    freed = [one for one in tried(text) if one.solution.kind is Kind.VERSION]
    assert freed[0].solution.edits[0].after == 'left[fast]==2.0 ; python_version < "4"'


def test_the_engine_of_product_is_not_negotiable() -> None:
    """A solution that leaves the product's pin, or product without the engine, is refused and not tried."""
    text = TEXT.replace("ecosystem", "product").replace("left==1.0", "vllm==1.0")
    universe = {**UNIVERSE, "vllm": {"1.0": ["shared<2"], "2.0": []}}
    declared = model.read(text)
    (conflict,) = conflicts.find(known(declared), declared.variants["product"], solver(universe))
    refused = [one.text for one in proposals.propose(declared, conflict) if one.refused]
    assert refused == ["take another version of `vllm`", "leave `vllm` out of `product`"]


def test_solutions_that_could_not_be_tried_say_so() -> None:
    """A budget that is used up and an index that is away give `untried`, with the reason."""
    declared, conflict = found()
    proposed = proposals.propose(declared, conflict)
    late = solutions.try_all(declared, proposed, solver(budget_s=-1), resolution.Committed())
    away = solutions.try_all(declared, proposed, solver(resolver=TableResolver(UNIVERSE, fail_after=0)), resolution.Committed())
    assert {one.outcome for one in (*late, *away)} == {Outcome.UNTRIED}
    assert "index" in away[0].reason


# ── several conflicts, Python, source archives, time ──────────────────────────────────────────────────────────────────

TWICE: Universe = {**UNIVERSE, "up": {"1.0": ["base<2"], "2.0": []}, "base": {"1.0": [], "2.0": []}}
TWO = TEXT.replace('"bystander",\n  "left', '"bystander",\n  "up==1.0",\n  "base>=2",\n  "left')


def test_conflicts_that_have_no_part_in_another_are_each_found() -> None:
    """A variant with two troubles has two smallest sets; the solutions of one are tried without the other's requirements."""
    declared = model.read(TWO)
    asked = solver(TWICE)
    both = conflicts.find(known(declared), declared.variants["ecosystem"], asked)
    assert {one.contested for one in both} == {"base", "shared"}
    assert sorted(side.asked.name for one in both for side in one.sides) == ["base", "left", "right", "up"]
    for one in both:
        assert sorted(one.apart) == sorted(side.asked.text for other in both if other is not one for side in other.sides)
        outcomes = solutions.try_all(declared, proposals.propose(declared, one), asked, resolution.Committed())
        assert outcomes[0].outcome is Outcome.WORKS


def test_one_solution_of_each_conflict_is_tried_on_the_whole_variant() -> None:
    """The last explanation says what mends everything at once, with every edit; the text has it once."""
    declared = model.read(TWO)
    told = explanation.explain(known(declared), "ecosystem", solver(TWICE), ListedHistory(), TableMetadata(TWICE))
    assert [(one.number, one.of) for one in told] == [(1, 2), (2, 2)]
    together = told[0].together
    assert together is not None
    assert (together.outcome, together.solution.kind) == (Outcome.WORKS, Kind.TOGETHER)
    assert len({edit.before for edit in together.solution.edits}) == 2
    words = "one solution of each conflict, together"
    assert [words in explanation.text(one) for one in told] == [False, True]
    assert "(conflict 2 of 2)" in explanation.text(told[1])


def test_a_combination_that_fails_is_followed_by_the_next() -> None:
    """Solutions that work apart and not together are not proposed together."""
    declared = model.read(TWO)
    each = [
        [Tried(solution=solutions.Solution(kind=Kind.RELAX, text=text, edits=(edit,), questions=()), outcome=Outcome.WORKS)]
        for text, edit in (
            ("free up", solutions.Edit(variant="ecosystem", before="up==1.0", after="up")),
            ("drop left", solutions.Edit(variant="ecosystem", before="left==1.0", after="left==1.0")),
        )
    ]
    drop = solutions.Edit(variant="ecosystem", before="left==1.0", after="")
    each[1].append(
        Tried(solution=solutions.Solution(kind=Kind.LEAVE_OUT, text="out", edits=(drop,), questions=()), outcome=Outcome.WORKS)
    )
    asked = solver(TWICE)
    found = solutions.try_together(declared, declared.variants["ecosystem"], each, asked, resolution.Committed())
    assert found is not None
    assert (found.outcome, found.solution.text) == (Outcome.WORKS, "free up; out")
    assert solutions.try_together(declared, declared.variants["ecosystem"], [[], each[1]], asked, resolution.Committed()) is None


def test_a_newer_python_is_a_solution() -> None:
    """Where releases ask for a newer Python, the registry's lowest one is raised, its upper bound kept; the lowest that works."""
    text = TEXT.replace(">=3.12", ">=3.12,<4")
    declared, conflict = found(text)
    needs = "Because left>=2 depends on Python>=3.14 and left==1.0 depends on Python>=3.13, we can conclude that no."
    proposed = proposals.propose(declared, replace(conflict, proof=needs))
    newer = [one for one in proposed if one.kind is Kind.PYTHON]
    assert [one.requires_python for one in newer] == [">=3.13,<4", ">=3.14,<4"]
    assert newer[0].edits[0].line == 3
    resolver = TableResolver({**UNIVERSE, "left": {"1.0": []}})
    (one,) = solutions.try_all(declared, newer, solver(resolver=resolver), resolution.Committed())
    assert (one.outcome, one.solution.requires_python) == (Outcome.WORKS, ">=3.13,<4")
    assert {problem.python for problem in resolver.problems} == {"3.13", "3.14"}


def test_a_build_is_named_and_not_tried() -> None:
    """Where the contested package has no wheel, allowing the build is a way out that is left to a person."""
    wheels = "all versions of left have no usable wheels\nhint: Wheels are required for `left` because building is disabled"
    declared, conflict = found(TEXT.replace('  "right",\n', "").replace("left==1.0", "left>=9"))
    assert (conflict.contested, len(conflict.sides)) == ("left", 1)
    resolver = TableResolver(UNIVERSE)
    built = [one for one in proposals.propose(declared, replace(conflict, proof=wheels)) if one.kind is Kind.BUILD]
    (one,) = solutions.try_all(declared, built, solver(resolver=resolver), resolution.Committed())
    assert (one.outcome, one.solution.edits[0].after, resolver.problems) == (Outcome.UNTRIED, "build = true", [])
    assert "--build" in one.reason


def test_what_overrides_a_release_is_not_said_to_run() -> None:
    """An override resolves; that the package runs with what its own release denies is not claimed."""
    override = next(one for one in tried() if one.solution.kind is Kind.OVERRIDE)
    assert "was not tried" in override.reason


@dataclass
class Slow(TableResolver):
    """A resolver whose answers take *seconds* of the clock, or as long as it may."""

    clock: Ticking = field(default_factory=Ticking)
    seconds: float = 0

    def resolve(self, problem: Problem, *, limit_s: float = math.inf) -> Resolution | Unsatisfiable:
        self.clock.now += min(self.seconds, limit_s)
        if limit_s < self.seconds:
            raise ResolverUnavailable("it did not answer in time")
        return super().resolve(problem)


@pytest.mark.parametrize("seconds", [12, 25, 200])
def test_no_question_outlasts_the_budget(seconds: float) -> None:
    """Whatever an answer takes, everything ends with the budget, and what is not known is said to be untried."""
    clock = Ticking()
    asked = Solver(Slow(UNIVERSE, clock=clock, seconds=seconds), monotonic=clock, budget_s=60)
    declared = model.read(TEXT)
    if seconds > 60:
        with pytest.raises(ResolverUnavailable, match="within the time for questions"):
            conflicts.find(known(declared), declared.variants["ecosystem"], asked)
    else:
        told = explanation.explain(known(declared), "ecosystem", asked, ListedHistory(), TableMetadata(UNIVERSE))
        assert Outcome.UNTRIED in {one.outcome for one in told[0].tried}
    assert clock.now < 60 + 40  # a look at the clock is a second


def test_what_a_single_requirement_comes_to_grief_at_is_the_contested_package() -> None:
    """Alone it ends at Python, or at the package of which it needs two versions at once."""
    for needs, contested in (("Python>=3.14", "python"), ("middle>=1 and middle==1.0 depends on shared>=2", "shared")):
        edges = f"Because left==1.0 depends on {needs} and left==1.0 depends on shared<2, we can conclude that no."
        links: dict[str, list[str]] = {}
        for edge in proof.edges(edges, "registry"):
            links.setdefault(edge.names[0], []).append(edge.names[1])
        assert conflicts._ends("left", links, edges)[0] == contested


# ── whose change ──────────────────────────────────────────────────────────────────────────────────────────────────────


def commit(number: int) -> Commit:
    return Commit(id=f"{number:040x}", author="Ann", at=datetime(2026, 1, number, tzinfo=UTC), subject=f"change {number}")


GOOD = TEXT.replace("left==1.0", "left")
FILE = "pyproject.toml"


def suspect(
    states: list[tuple[Commit, Mapping[str, str]]],
    text: str = TEXT,
    held: tuple[Pin, ...] = (),
    metadata: TableMetadata | None = None,
) -> suspects.Suspect:
    asked = solver()
    declared, conflict = found(text, asked)
    return suspects.find(known(declared, held), conflict, ListedHistory(states), asked, metadata or TableMetadata(UNIVERSE))


@pytest.mark.parametrize("guilty", [2, 3, 5, 9])
def test_bisection_finds_the_commit_that_broke_it(guilty: int) -> None:
    """Among ten commits of which each changes the variant, the first that does not resolve is named, with what it changed."""
    states = []
    for number in range(10, 0, -1):
        text = (TEXT if number >= guilty else GOOD).replace('"bystander",\n  "left', f'"bystander<{100 + number}",\n  "left')
        states.append((commit(number), {FILE: text}))
    now = states[0][1][FILE]
    culprit = suspect(states, now)
    assert (culprit.kind, culprit.commit) == ("commit", commit(guilty))
    assert "`left` became `left==1.0`" in culprit.changes
    assert "ann" in culprit.owners


def test_a_commit_is_suspected_of_this_conflict_alone() -> None:
    """Another trouble of the variant, older or younger, does not hide who brought this one; only what has part in it is named."""
    older = GOOD.replace('"bystander",\n  "left', '"bystander>=9",\n  "left')
    states = [
        (commit(3), {FILE: TEXT.replace('"bystander"', '"bystander>=9"', 1)}),
        (commit(2), {FILE: older}),
        (commit(1), {FILE: GOOD}),
    ]
    declared = model.read(states[0][1][FILE])
    asked = solver()
    shared, alone = sorted(conflicts.find(known(declared), declared.variants["ecosystem"], asked), key=lambda one: -len(one.sides))
    history, metadata = ListedHistory(states), TableMetadata(UNIVERSE)
    found_ = [suspects.find(known(declared), one, history, asked, metadata) for one in (shared, alone)]
    assert [one.commit for one in found_] == [commit(3), commit(2)]
    assert [one.changes for one in found_] == [("`left` became `left==1.0`",), ("`bystander` became `bystander>=9`",)]


def test_an_uncommitted_change_is_its_author_s() -> None:
    """When the last commit resolves, the change in the folder is the suspect."""
    culprit = suspect([(commit(1), {FILE: GOOD})])
    assert (culprit.kind, culprit.commit, culprit.packages) == ("uncommitted", None, ("left",))


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        (TableMetadata(UNIVERSE, yanked=frozenset({("shared", "1.0")})), "withdrawn"),
        (TableMetadata({**UNIVERSE, "shared": {"2.0": []}}), "removed"),
    ],
)  # fmt: skip
def test_a_release_that_went_away_is_the_suspect_when_no_commit_is(metadata: TableMetadata, word: str) -> None:
    """When no earlier declaration resolves, a committed pin that the index no longer offers is named."""
    held = (Pin(name="shared", version="1.0"), Pin(name="left", version="1.0"))
    culprit = suspect([(commit(3), {FILE: TEXT})], held=held, metadata=metadata)
    assert (culprit.kind, culprit.packages) == ("index", ("shared",))
    assert word in culprit.changes[0]


def test_without_a_history_the_suspect_is_unknown() -> None:
    """A folder that is no checkout gives no suspect, and says why."""
    culprit = suspect([])
    assert culprit.kind == "unknown"
    assert "Git" in culprit.reason


# ── as text, data and picture ─────────────────────────────────────────────────────────────────────────────────────────


def whole() -> explanation.Explanation:
    declared = model.read(TEXT)
    history = ListedHistory([(commit(1), {FILE: GOOD})])
    (one,) = explanation.explain(known(declared), "ecosystem", solver(), history, TableMetadata(UNIVERSE))
    return one


def test_the_text_tells_what_who_what_to_do_and_since_when() -> None:
    """The report names the contested package, owners, models, chains, edits and the suspect."""
    text = explanation.text(whole())
    for words in (
        "2 of its 3 requirements conflict over `shared`", "pyproject.toml:7, owners @ann", "models hit: acme/lefty",
        "middle", "needs shared>=2", "works", "becomes `left==2.0`", "your uncommitted change",
    ):  # fmt: skip
        assert words in text


def test_the_data_carries_everything() -> None:
    """Sides with chains, solutions with edits and changes, suspect: all as plain values."""
    data = explanation.data(whole())
    assert data["contested"] == "shared"
    assert data["sides"][1]["chain"][-1]["needs"] == "shared>=2"
    assert data["solutions"][0]["outcome"] == "works"
    assert data["suspect"]["kind"] == "uncommitted"


def test_the_picture_shows_every_side_and_nothing_active() -> None:
    """Names are escaped, each requirement and the contested package are drawn, no script and no link stands in it."""
    import xml.etree.ElementTree as ET

    conflict = whole().conflict
    drawn = picture.svg(conflict)
    words = " ".join(node.text or "" for node in ET.fromstring(drawn).iter())
    assert all(side.asked.text in words for side in conflict.sides)
    assert "shared" in words
    hostile = Conflict(variant='<script>"x', sides=conflict.sides, contested="<b>&")
    assert "<script>" not in picture.svg(hostile)
    ET.fromstring(picture.svg(hostile))


def test_the_picture_says_what_fails_and_under_which_marker() -> None:
    """A marker stands below its requirement, whole; Python and a missing wheel are told apart from versions that clash."""
    _, conflict = found(TEXT.replace('"left==1.0"', "\"left==1.0 ; python_version < '4'\""))
    drawn = picture.svg(conflict)
    assert ">left==1.0<" in drawn
    assert "if python_version &lt; &quot;4&quot; · @ann" in drawn
    assert "no version fits" in drawn
    assert "no release for every one allowed" in picture.svg(replace(conflict, contested="python"))
    wheels = replace(conflict, proof="hint: Wheels are required for `shared` because")
    assert "no release with a wheel" in picture.svg(wheels)


def test_classes_are_words() -> None:
    """Machine output carries the class as text."""
    assert str(classes.PackageClass.AGNOSTIC) == "engine-agnostic"
