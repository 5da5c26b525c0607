"""Everything `nexus variants check` asks, on a small table of packages."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nexus.kernel.errors import Unavailable
from nexus.variants import archives, checks, model, pins, resolution
from nexus.variants.checks import Tools
from nexus.variants.ports import Resolution, Unsatisfiable
from tests.unit.variants.resolving import TableMetadata, TableResolver, Universe

UNIVERSE: Universe = {
    "engine": {"1.0": [], "2.0": [], "3.0rc1": []},
    "app": {"1.0": ['engine ; extra == "engine"', "lib>=1"]},
    "lib": {"1.0": [], "1.1": []},
    "sly": {"1.0": ["engine"]},
}
TEXT = """\
[project]
name = "registry"
requires-python = ">=3.12"
[project.optional-dependencies]
ecosystem = [
  "app",
  "lib",
]
candidate = [
  "app[engine]",
  "engine",
]
product = [
  "app[engine]",
  "engine==1.0",
]
[tool.uv]
conflicts = [[{ extra = "ecosystem" }, { extra = "candidate" }, { extra = "product" }]]
[tool.nexus]
engine = "engine"
python = ["3.12"]
"""


@dataclass
class NoLock:
    """A registry without a lock asks nothing of it."""

    stale: str = ""
    pins: tuple[pins.Pin, ...] = ()

    def is_fresh(self, root: str) -> str:
        return self.stale

    def lock(self, root: str, *, upgrade: object = ()) -> str | Unsatisfiable:
        return "lock"

    def export(self, root: str, extra: str, lock: str) -> tuple[pins.Pin, ...]:
        return self.pins


def committed(text: str = TEXT, universe: Universe = UNIVERSE) -> tuple[model.Declaration, dict[str, str]]:
    """The declaration, and the files that resolving it writes."""
    declared = model.read(text)
    empty = resolution.Committed()
    answers = resolution.resolve(declared, resolution.select(declared, ()), TableResolver(universe), empty)
    found = {name: answer for name, answer in answers.items() if isinstance(answer, Resolution)}
    return declared, {file.path: file.after or "" for file in resolution.plan(declared, found, empty).files}


def run(
    text: str,
    files: dict[str, str],
    *,
    resolver: TableResolver | None = None,
    locker: NoLock | None = None,
    universe: Universe = UNIVERSE,
) -> list[str]:
    """The findings as `CODE file:line`."""
    declared = model.read(text)
    tools = Tools(
        resolver=resolver or TableResolver(universe), locker=locker or NoLock(),
        metadata=TableMetadata(universe, extras={"app": ("engine",)}),
    )  # fmt: skip
    held = resolution.read_committed(files, declared.variants)
    found = checks.check(declared, resolution.select(declared, ()), held, tools, members=frozenset({"app", "lib", "sly"}))
    return [f"{one.code} {one.file}:{one.line}" for one in found]


def test_a_resolved_registry_has_no_findings() -> None:
    """What resolve writes, check accepts."""
    _, files = committed()
    assert set(files) == {"requirements-ecosystem.txt", "requirements-candidate.txt", "requirements-product.txt"}
    assert run(TEXT, files) == []


def test_missing_pins_are_named() -> None:
    """A variant without its file is one finding, and nothing else is claimed of it."""
    _, files = committed()
    del files["requirements-product.txt"]
    assert run(TEXT, files) == ["NX-V21 requirements-product.txt:0"]


def test_edited_pins_are_found_and_shown() -> None:
    """A pin that nobody's declaration gives is a difference at its line."""
    _, files = committed()
    files["requirements-ecosystem.txt"] += "stranger==1.0\n"
    found = run(TEXT, files)
    assert found == [f"NX-V22 requirements-ecosystem.txt:{len(files['requirements-ecosystem.txt'].splitlines())}"]


def test_a_changed_declaration_makes_pins_stale() -> None:
    """A new requirement that was not resolved yet is a difference."""
    _, files = committed()
    assert "NX-V22 requirements-ecosystem.txt:0" in run(TEXT.replace('"lib",\n', '"lib",\n  "sly",\n'), files)


def test_the_committed_version_is_kept_while_it_fits() -> None:
    """A release that came after the pins does not make them stale."""
    _, files = committed()
    newer = {**UNIVERSE, "lib": {**UNIVERSE["lib"], "1.2": []}}
    assert run(TEXT, files, universe=newer) == []


def test_the_engine_in_ecosystem_is_traced_to_what_brings_it() -> None:
    """A member that always needs the engine is an error of its class, and its chain is shown at its line."""
    text = TEXT.replace('"lib",\n', '"sly",\n')
    _, files = committed(text)
    assert sorted(run(text, files)) == ["NX-V12 pyproject.toml:7", "NX-V30 pyproject.toml:7"]


def test_a_candidate_behind_the_latest_stable_release_is_an_error() -> None:
    """Pre-releases do not count; a pin in the declaration is the line to change."""
    text = TEXT.replace('  "engine",\n', '  "engine==1.0",\n')
    _, files = committed(text)
    assert run(text, files) == ["NX-V31 pyproject.toml:11"]
    assert run(text.replace('python = ["3.12"]', 'python = ["3.12"]\ncandidate = "any"'), files) == []


def test_a_candidate_behind_by_its_pins_points_at_them() -> None:
    """When the declaration leaves the version open, the pins are what is old."""
    _, files = committed()
    newer = {**UNIVERSE, "engine": {**UNIVERSE["engine"], "2.1": []}}
    assert run(TEXT, files, universe=newer) == ["NX-V31 requirements-candidate.txt:5"]


def test_product_stands_on_its_pin() -> None:
    """No pin, another pin than the rule's, and a lock off the pin are each found."""
    _, files = committed()
    assert "NX-V32 pyproject.toml:15" in run(TEXT.replace('"engine==1.0"', '"engine<2"'), files)
    assert "NX-V32 pyproject.toml:15" in run(TEXT.replace("[tool.nexus]\n", '[tool.nexus]\nproduct = "2.0"\n'), files)
    moved = {**files, "requirements-product.txt": files["requirements-product.txt"].replace("engine==1.0", "engine==2.0")}
    assert any(one.startswith("NX-V32 requirements-product.txt:") for one in run(TEXT, moved))


def test_a_variant_of_the_engine_without_it_is_an_error() -> None:
    """Candidate without the engine is no candidate."""
    text = TEXT.replace('  "app[engine]",\n  "engine",\n', '  "lib",\n')
    _, files = committed(text)
    assert run(text, files) == ["NX-V33 pyproject.toml:9", "NX-V10 pyproject.toml:10"]


def test_what_does_not_install_is_an_error_on_its_target() -> None:
    """The reason of the dry run is kept, one finding a variant and target."""
    _, files = committed()
    found = run(TEXT, files, resolver=TableResolver(UNIVERSE, not_installable={"3.12": "no wheel of `lib==1.1`"}))
    assert found.count("NX-V24 requirements-ecosystem.txt:5") == 1
    assert len(found) == 3


def test_an_index_that_does_not_answer_is_never_a_pass() -> None:
    """Every question that could not be asked is an error."""
    _, files = committed()
    assert set(run(TEXT, files, resolver=TableResolver(UNIVERSE, fail_after=0))) == {"NX-V40 pyproject.toml:0"}


def test_a_variant_without_a_solution_points_to_explain() -> None:
    """The finding stands at the extra, and the old pins are not called wrong."""
    _, files = committed()
    assert run(TEXT.replace('"lib",', '"lib<0.5",'), files) == ["NX-V25 pyproject.toml:5"]


def test_a_registry_with_a_lock_is_checked_against_it() -> None:
    """A stale lock and exports that differ from the committed pins are found without asking the resolver for them."""
    _, files = committed()
    files["uv.lock"] = "lock"
    locker = NoLock(stale="it needs to be updated", pins=(pins.Pin(name="lib", version="9"),))
    found = run(TEXT, files, locker=locker)
    assert [one for one in found if "V23" in one] == ["NX-V23 uv.lock:0"]
    assert len([one for one in found if "V22" in one]) == 3


def test_severities_of_the_registry_decide() -> None:
    """A rule can be a warning, or off."""
    declared = model.read(TEXT + '[tool.nexus.rules]\nNX-V21 = "off"\nNX-V31 = "warning"\n')
    finding = checks.unchecked(Unavailable("the index is away"))
    weighed = checks.weigh([replace(finding, code="NX-V21"), replace(finding, code="NX-V31")], declared)
    assert [(one.code, one.severity) for one in weighed] == [("NX-V31", "warning")]


# ── releases that have only source archives ───────────────────────────────────────────────────────────────────────────

ARCHIVED: Universe = {**UNIVERSE, "lib": {**UNIVERSE["lib"], "1.2": []}}
ONLY_SOURCES = frozenset({("lib", "1.2")})


def passed(text: str = TEXT, *, held: tuple[pins.Pin, ...] = (), upgrade: tuple[str, ...] | None = ()) -> list[tuple[str, ...]]:
    """What resolving ecosystem passes over: package, version, taken."""
    declared = model.read(text)
    (variant,) = resolution.select(declared, ["ecosystem"])
    resolver = TableResolver(ARCHIVED, archives=ONLY_SOURCES)
    before = resolution.Committed(pins={"ecosystem": held})
    answer = resolution.resolve(declared, [variant], resolver, before, upgrade=upgrade)["ecosystem"]
    assert isinstance(answer, Resolution)
    found = archives.passed_over(declared, variant, answer.pins, resolver, held=held, upgrade=upgrade)
    return [(one.package, one.version, one.taken) for one in found]


def test_a_newest_release_without_a_wheel_is_named_as_passed_over() -> None:
    """A fresh resolution takes the release before it, and says so; where builds are allowed there is nothing to say."""
    assert passed() == [("lib", "1.2", "1.1")]
    assert passed(TEXT + "build = true\n") == []
    assert passed(TEXT.replace('"lib"', '"lib<1.2"')) == []


def test_a_kept_pin_passed_over_nothing() -> None:
    """What stands stays, whatever came since; asked to be renewed, it is told that the newest release was passed over."""
    held = (pins.Pin(name="app", version="1.0"), pins.Pin(name="lib", version="1.1"))
    assert passed(held=held) == []
    assert passed(held=held, upgrade=("lib",)) == [("lib", "1.2", "1.1")]
    assert passed(held=held, upgrade=None) == [("lib", "1.2", "1.1")]
    older = (pins.Pin(name="lib", version="1.0"),)
    assert passed(held=older) == []


def test_a_committed_pin_that_needs_a_build_is_named_by_check() -> None:
    """Pins that were resolved with builds are checked without: the finding says which release, what comes instead, what to do."""
    _, files = committed(TEXT + "build = true\n", ARCHIVED)
    assert "lib==1.2" in files["requirements-ecosystem.txt"]
    found = run(TEXT, files, resolver=TableResolver(ARCHIVED, archives=ONLY_SOURCES), universe=ARCHIVED)
    line = files["requirements-ecosystem.txt"].splitlines().index(next(
        line for line in files["requirements-ecosystem.txt"].splitlines() if line.startswith("lib==")
    )) + 1  # fmt: skip
    assert f"NX-V27 requirements-ecosystem.txt:{line}" in found
    assert f"NX-V22 requirements-ecosystem.txt:{line}" in found
    assert run(TEXT + "build = true\n", files, resolver=TableResolver(ARCHIVED, archives=ONLY_SOURCES), universe=ARCHIVED) == []


def test_a_variant_that_needs_a_build_says_how_to_allow_it() -> None:
    """Where no release has a wheel, the way out is to allow the build, not to look for a conflict."""
    _, files = committed()
    everything = frozenset(("lib", version) for version in UNIVERSE["lib"])
    declared = model.read(TEXT)
    tools = Tools(resolver=TableResolver(UNIVERSE, archives=everything), locker=NoLock(), metadata=TableMetadata(UNIVERSE))
    held = resolution.read_committed(files, declared.variants)
    found = checks.check_fresh(declared, resolution.select(declared, ["ecosystem"]), held, tools, root="")
    assert [(one.code, "build = true" in one.hint) for one in found] == [("NX-V25", True)]
