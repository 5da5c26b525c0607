"""Every rule of the catalogue: the smallest tree that breaks it gives its code at the right file and line."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.catalog import rulebook
from nexus.catalog.files import Trouble
from tests.unit.catalog.trees import BENCHMARK, LOCAL, MODEL, NEXUS, SPACE, USAGE, VALID, edited, report

PROJECT = "pyproject.toml"
SKILL = "packages/graphs/skills/find-clubs/SKILL.md"
WAIVERS = "waivers.yaml"
SECOND = "packages/other/nexus.yaml"
OTHER = "package: {name: other, owners: [octocat]}\n"
JOINED = edited(PROJECT, '"graphs>=1",', '"graphs>=1", "other",')
IN_CANDIDATE = edited(PROJECT, '["vllm"]', '["vllm", "graphs[vllm]"]')
WAIVER = "waivers:\n  - {code: %s, owner: octocat, reason: r, expires: %s}\n"

# code → changes of the valid tree, file, line
CASES: list[tuple[str, list[dict[str, Any]], str, int]] = [
    ("NX-C004", [{"packages/Graphs/nexus.yaml": VALID[NEXUS]}], NEXUS, 1),
    ("NX-C005", [{"packages/graphs/models/clubs/tests/con.txt": ""}], "packages/graphs/models/clubs/tests/con.txt", 0),
    ("NX-C005", [{"packages/graphs/a\x1b[2J/x": ""}], "packages/graphs/a\x1b[2J/x", 0),
    ("NX-C005", [{"packages/-rf/nexus.yaml": OTHER}], "packages/-rf", 0),
    ("NX-C006", [{"packages/graphs/model.yaml": "x"}], "packages/graphs/model.yaml", 1),
    ("NX-C006", [{MODEL: None, "packages/graphs/models/clubs/model.yml": "x"}],
     "packages/graphs/models/clubs/model.yml", 0),
    ("NX-C006", [{"packages/graphs/models/other.yaml": "x"}], "packages/graphs/models/other.yaml", 0),
    ("NX-C006", [{"packages/graphs/benchmark_instances": "x"}], "packages/graphs/benchmark_instances", 0),
    ("NX-C008", [{"packages/other.yaml": "x"}], "packages/other.yaml", 0),
    ("NX-C008", [{"benchmarks/old/communities.yml": "x"}], "benchmarks/old/communities.yml", 0),
    ("NX-C010", [{"packages/empty/": ""}], "packages/empty/nexus.yaml", 0),
    ("NX-C011", [{"packages/graphs/models/empty/": ""}], "packages/graphs/models/empty/model.yaml", 0),
    ("NX-C010", [{NEXUS: None}], NEXUS, 0),
    ("NX-C011", [{MODEL: None}], MODEL, 0),
    ("NX-C012", [{SPACE: None, SPACE.replace("space.yaml", "notes.txt"): "x"}], SPACE, 0),
    ("NX-C013", [{SKILL: None, SKILL.replace("SKILL.md", "x.py"): ""}], SKILL, 0),
    ("NX-C020", [edited(MODEL, "  id: example-org/clubs\n", "  owner: octocat\n")], MODEL, 1),
    ("NX-C021", [edited(NEXUS, "  docs:", "  doc:")], NEXUS, 4),
    ("NX-C022", [edited(NEXUS, "[octocat]", "octocat")], NEXUS, 3),
    ("NX-C023", [edited(MODEL, "cores: 1", "cores: 0")], MODEL, 6),
    ("NX-C024", [{MODEL: "# nothing\n"}], MODEL, 1),
    ("NX-C025", [edited(MODEL, "  testing:", "  owner:\n  testing:")], MODEL, 3),
    ("NX-C030", [edited(NEXUS, "name: graphs", "name: 'graphs; rm -rf /'")], NEXUS, 2),
    ("NX-C031", [edited(NEXUS, "name: graphs", "name: charts")], NEXUS, 2),
    ("NX-C032", [{"packages/zz/nexus.yaml": "package: {name: Graphs, owners: [octocat]}\n"}], "packages/zz/nexus.yaml", 1),
    ("NX-C033", [edited(NEXUS, "  owners: [octocat]\n", "")], NEXUS, 1),
    ("NX-C034", [edited(NEXUS, "[octocat]", "[octo--cat]")], NEXUS, 3),
    ("NX-C034", [edited(NEXUS, "[octocat]", '["@octocat"]')], NEXUS, 3),
    ("NX-C035", [edited(NEXUS, "[octocat]", "[octocat, OctoCat]")], NEXUS, 3),
    ("NX-C036", [edited(PROJECT, '    "graphs>=1",\n', "")], NEXUS, 2),
    ("NX-C037", [edited(NEXUS, "  docs:", "  variants: [ecosystem, candidate]\n  docs:")], NEXUS, 4),
    ("NX-C037", [edited(PROJECT, '["vllm"]', '["vllm", "graphs"]'), edited(NEXUS, "  docs:", "  variants: [ecosystem]\n  docs:")],
     NEXUS, 4),
    ("NX-C038", [edited(NEXUS, "  docs:", "  variants: [ecosystem, product]\n  docs:")], NEXUS, 4),
    ("NX-C039", [edited(NEXUS, "https://example.org/docs", "ftp://example.org")], NEXUS, 4),
    ("NX-C040", [edited(MODEL, "example-org/clubs", "example-org/a--b")], MODEL, 2),
    ("NX-C041", [{"packages/other/models/clubs/model.yaml": "model: {id: Example-Org/Clubs}\n", SECOND: OTHER}, JOINED],
     "packages/other/models/clubs/model.yaml", 1),
    ("NX-C042", [edited(NEXUS, "  owners: [octocat]\n", "")], MODEL, 1),
    ("NX-C043", [{USAGE: None}], MODEL, 1),
    ("NX-C044", [{USAGE: "# Clubs\n\n## Install\n"}], USAGE, 1),
    ("NX-C044", [{USAGE: b"\xff\xfe"}], USAGE, 1),
    ("NX-C045", [edited(MODEL, "  testing:", "  vllm: {enabled: true}\n  testing:")], MODEL, 3),
    ("NX-C046", [edited(MODEL, "kind: inference", "kind: vllm")], MODEL, 9),
    ("NX-C047", [edited(MODEL, "data: [tests/clubs.txt]", "data: [tests/other.txt]")], MODEL, 8),
    ("NX-C048", [{MODEL: "model: {id: example-org/clubs}\n"}], MODEL, 1),
    ("NX-C049", [edited(MODEL, "  testing:", "  vllm: {enabled: true}\n  testing:"), IN_CANDIDATE],
     MODEL, 10),
    ("NX-C050", [edited(NEXUS, "./packages/graphs/benchmark_packages/clubs-benchmarks", "--index-url=http://x")], NEXUS, 6),
    ("NX-C050", [edited(NEXUS, "./packages/graphs/benchmark_packages/clubs-benchmarks", "http://example.org/x.whl")], NEXUS, 6),
    ("NX-C050", [edited(NEXUS, "./packages/graphs/benchmark_packages/clubs-benchmarks", "https://me:token@x.org/x")], NEXUS, 6),
    ("NX-C050", [edited(NEXUS, "./packages/graphs/benchmark_packages/clubs-benchmarks", "https://")], NEXUS, 6),
    ("NX-C051", [edited(NEXUS, "benchmark_packages/clubs-benchmarks", "benchmark_packages/nowhere")], NEXUS, 6),
    ("NX-C051", [edited(NEXUS, "./packages/graphs/benchmark_packages/clubs-benchmarks", "./packages/../../etc")], NEXUS, 6),
    ("NX-C052", [{LOCAL.replace("clubs-benchmarks", "lonely"): "x"}], LOCAL.replace("clubs-benchmarks", "lonely"), 0),
    ("NX-C053", [edited(NEXUS, "[club_quality]", "[club_quality, club_quality]")], NEXUS, 7),
    ("NX-C054", [edited(SPACE, "club_quality", "club_size")], SPACE, 5),
    ("NX-C057", [{"packages/graphs/benchmark_instances/base/space.yaml": VALID[SPACE]}],
     "packages/graphs/benchmark_instances/base/space.yaml", 1),
    ("NX-C058", [edited(SPACE, "{values: [1, 2], variableType: DISCRETE_VARIABLE_TYPE}", "{domainRange: [5, 5]}")], SPACE, 3),
    ("NX-C058", [edited(SPACE, "{values: [1, 2], ", "{")], SPACE, 3),
    ("NX-C058", [edited(SPACE, "{values: [1, 2], ", "{values: [1], interval: 1, ")], SPACE, 3),
    ("NX-C059", [edited(SPACE, "experiments:", "  - identifier: size\nexperiments:")], SPACE, 4),
    ("NX-C060", [{"benchmarks/zz.yaml": VALID[BENCHMARK]}], "benchmarks/zz.yaml", 2),
    ("NX-C061", [{"benchmarks/zz.yaml": VALID[BENCHMARK], BENCHMARK: None}], "benchmarks/zz.yaml", 2),
    ("NX-C062", [edited(BENCHMARK, "  - benchmarkIdentifier: communities", "  - benchmarkIdentifier: others")], BENCHMARK, 11),
    ("NX-C063", [edited(BENCHMARK, "{benchmark: {identifier: dataset}", "{benchmark: {identifier: datset}")], BENCHMARK, 15),
    ("NX-C063", [edited(BENCHMARK, ", experiment: {identifier: graph}}", "}")], BENCHMARK, 15),
    ("NX-C064", [edited(BENCHMARK, "{benchmark: {identifier: modularity}", "{benchmark: {identifier: speed}")], BENCHMARK, 19),
    ("NX-C065", [edited(BENCHMARK, "value: karate", "value: chess")], BENCHMARK, 16),
    ("NX-C066", [edited(SPACE, "experimentVersion: 1.0.0", "experimentVersion: v1")], SPACE, 5),
    ("NX-C067", [{BENCHMARK: VALID[BENCHMARK] + VALID[BENCHMARK].partition("bindings:\n")[2].replace("1.0.0", "1.2.0")}],
     BENCHMARK, 21),
    ("NX-C068", [edited(BENCHMARK, "experimentIdentifier: club_quality", "experimentIdentifier: nothing")], BENCHMARK, 12),
    ("NX-C069", [edited(BENCHMARK, "  owner: octocat\n", "")], BENCHMARK, 1),
    ("NX-C070", [edited(SKILL, "name: find-clubs", "name: clubs")], SKILL, 2),
    ("NX-C071", [{SKILL: "# Find clubs\n"}], SKILL, 1),
    ("NX-C081", [{"CODEOWNERS": "# nexus: begin (generated from owners; `nexus get codeowners`)\n# nexus: end\n"}],
     "CODEOWNERS", 1),
    ("NX-C082", [{PROJECT: VALID[PROJECT] + '\n[tool.nexus.rules]\n"NX-C999" = "error"\n'}], PROJECT, 11),
    ("NX-C082", [{PROJECT: VALID[PROJECT] + '\n[tool.nexus.rules]\nmodel-id = "fatal"\n'}], PROJECT, 11),
    ("NX-C083", [{PROJECT: "[project\n"}], PROJECT, 1),
    ("NX-C083", [{PROJECT: "[project.optional-dependencies]\nproduct = []\necosystem = 'graphs'\n"}], PROJECT, 3),
    ("NX-C083", [{PROJECT: "tool = 1\n[project]\n"}], PROJECT, 1),
    ("NX-C090", [{USAGE: None, WAIVERS: WAIVER % ("NX-C043", "2026-11-20")}], WAIVERS, 2),
    ("NX-C091", [{WAIVERS: WAIVER % ("NX-C043", "2026-12-20")}], WAIVERS, 2),
    ("NX-C092", [{USAGE: None, WAIVERS: WAIVER % ("NX-C043", "2031-01-01")}], WAIVERS, 2),
    ("NX-C093", [{WAIVERS: WAIVER % ("NX-C777", "2026-12-20")}], WAIVERS, 2),
]  # fmt: skip
TROUBLES = [
    ("NX-C005", Trouble("name", "packages/graphs/\ufffd.txt", "is not UTF-8")),
    ("NX-C005", Trouble("name", "packages/\ufffd", "is not UTF-8")),
    ("NX-C001", Trouble("unreadable", MODEL, "Permission denied")),
    ("NX-C002", Trouble("unsettled", MODEL)),
    ("NX-C003", Trouble("link", MODEL, "leads out of the registry")),
    ("NX-C007", Trouble("oversized", MODEL, "10000000")),
]


def test_the_valid_tree_has_no_findings() -> None:
    """The tree from which every case is made is clean, warnings included."""
    assert report().findings == ()


@pytest.mark.parametrize(("code", "changes", "file", "line"), CASES)
def test_a_broken_tree_gives_the_code_at_its_place(code: str, changes: list[dict[str, Any]], file: str, line: int) -> None:
    """The smallest break of a rule is found, in the right file and on the right line, with a message and a hint."""
    found = [one for one in report(*changes).findings if one.code == code]
    assert [(one.file, one.line) for one in found] == [(file, line)]
    assert found[0].message
    assert found[0].hint


@pytest.mark.parametrize("file", [NEXUS, MODEL])
@pytest.mark.parametrize("text", ["package:\n\tname: x\n", "", "a: [", "package: [x]\nmodel: [x]\n"])
def test_of_a_manifest_that_cannot_be_understood_nothing_else_is_missing(file: str, text: str) -> None:
    """One finding says what is wrong with the file; no rule speaks of owners or variants that it may well name."""
    found = {one.code for one in report({file: text}).findings if one.file == file}
    assert found
    assert not found & {"NX-C033", "NX-C036", "NX-C042", "NX-C048"}


@pytest.mark.parametrize(("code", "trouble"), TROUBLES)
def test_what_cannot_be_read_is_a_finding_and_not_a_missing_file(code: str, trouble: Trouble) -> None:
    """A file that is there but unreadable is told as such; it does not also count as missing."""
    found = report({MODEL: None} if trouble.path == MODEL else {}, troubles=(trouble,))
    assert [one.code for one in found.findings if one.file == trouble.path] == [code]


def test_an_empty_registry_is_a_warning() -> None:
    """Nothing below `packages/` is told, and is no error."""
    found = report(dict.fromkeys(VALID))
    assert [(one.code, one.severity) for one in found.findings] == [("NX-C080", "warning")]


def test_every_rule_has_a_case_here() -> None:
    """No rule is entered in the book without a tree that breaks it."""
    shown = {code for code, *_ in CASES} | {code for code, _ in TROUBLES} | {"NX-C080"}
    assert {code for code in rulebook.RULES if code.startswith("NX-C")} == shown


def test_every_rule_can_be_read() -> None:
    """Each rule has a unique name, a title, an explanation and a hint."""
    rules = list(rulebook.RULES.values())
    assert len({one.name for one in rules}) == len(rules)
    assert all(one.title and one.text.strip() and one.hint and one.severity in ("error", "warning") for one in rules)


def test_an_optional_field_without_a_value_counts_as_absent() -> None:
    """Trees of algorithm-nexus 0.2.x may leave one empty: a warning, and nothing that the field could have said."""
    found = report({MODEL: "model: {id: example-org/clubs, owner: , vllm: , testing: }\n"})
    assert {one.code for one in found.findings} == {"NX-C025", "NX-C048"}
    assert found.errors == 0


def test_a_name_that_is_none_has_one_finding() -> None:
    """Folder and variants are not judged by a name nobody can have."""
    found = report(edited(NEXUS, "name: graphs", "name: 'graphs; rm'"))
    assert [one.code for one in found.findings] == ["NX-C030"]


def test_a_mistyped_name_is_seen_by_its_folder() -> None:
    """The folder stands in a variant and the name in none: the hint asks whether the name is mistyped, and says the command."""
    found = {one.code: one.hint for one in report(edited(NEXUS, "name: graphs", "name: grahps")).findings}
    assert "`graphs`: is `name` mistyped?" in found["NX-C036"]
    assert "nexus rename package graphs grahps" in found["NX-C031"]


def test_an_owner_in_a_wrong_form_is_not_missing() -> None:
    """`owners: octocat` is told as what it is; neither the package nor its models count as without owner."""
    assert {one.code for one in report(edited(NEXUS, "[octocat]", "octocat")).findings} == {"NX-C022"}


@pytest.mark.parametrize("path", ["./tests/clubs.txt", "tests", "tests/"])
def test_test_data_may_be_a_folder(path: str) -> None:
    """A folder with files ships its data, and `./` changes nothing."""
    assert report(edited(MODEL, "data: [tests/clubs.txt]", f"data: [{path}]")).findings == ()


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({NEXUS: "name: graphs\nowners: [octocat]\n"}, "below `package:`"),
        ({MODEL: "model: {id: example-org/clubs, vllm: {enabled: yes}}\n"}, "write `true`"),
        ({MODEL: "model: {<<: {id: example-org/clubs}}\n"}, "merge keys"),
        ({NEXUS: "package: {name: graphs, owners: [1000]}\n"}, "in quotes"),
        (edited(MODEL, "cores: 1", 'cores: "1"'), "without quotes"),
        ({NEXUS: "package: {name: graphs, owners: octocat}\n"}, "`[octocat]`"),
        ({NEXUS: "package: {name: graphs, owner: [octocat]}\n"}, "did you mean `owners`?"),
    ],
)
def test_what_people_mistype_has_a_hint_of_its_own(change: dict[str, Any], hint: str) -> None:
    """A field one level too high, YAML 1.1, numbers for texts and texts for lists: the hint says what to write."""
    assert any(hint in one.hint for one in report(change).findings)


@pytest.mark.parametrize(("key", "word"), [("1", "`1`"), ("~", "`null`"), ("true", "`true`")])
def test_a_key_that_is_no_text_is_told_as_yaml_writes_it(key: str, word: str) -> None:
    """A number is not taken for `true`, and null is not called by its name in Python."""
    assert any(word in one.message for one in report({MODEL: f"model: {{id: example-org/clubs}}\n{key}: 2\n"}).findings)


@pytest.mark.parametrize("address", ["git+https://me:s3cret@example.org/x", "x @ https://s3cret@example.org/x"])
def test_credentials_are_refused_and_not_repeated(address: str) -> None:
    """A token that somebody committed does not also stand in the logs of every check."""
    found = report(edited(NEXUS, "./packages/graphs/benchmark_packages/clubs-benchmarks", f'"{address}"')).findings
    assert "credentials" in next(one.message for one in found if one.code == "NX-C050")
    assert not any("s3cret" in one.text() for one in found)


def test_all_findings_come_at_once() -> None:
    """Five mistakes in three files are five findings of one run."""
    found = report(
        {NEXUS: "package: {name: graphs, onwers: [x], docs: 3}\n", USAGE: None},
        edited(MODEL, "example-org/clubs", "clubs"),
    )
    assert {one.code for one in found.findings} >= {"NX-C021", "NX-C022", "NX-C033", "NX-C040", "NX-C043"}


def test_a_registry_sets_severities_by_code_or_name() -> None:
    """`[tool.nexus.rules]` makes a warning an error, an error a warning, and turns a rule off."""
    rules = '\n[tool.nexus.rules]\nNX-C043 = "error"\nmodel-id = "warning"\ntesting-missing = "off"\n'
    found = report(
        {PROJECT: VALID[PROJECT] + rules, USAGE: None, MODEL: "model: {id: wrong}\n"},
    )
    assert {one.code: one.severity for one in found.findings} == {"NX-C043": "error", "NX-C040": "warning"}


def test_an_experiment_of_another_package_may_be_used() -> None:
    """An instance may use what any package of the registry registers."""
    found = report(
        edited(NEXUS, "[club_quality]", "[other_quality]"),
        {SECOND: OTHER.replace("}", ", benchmark_packages: [{requirement_specifier: x, experiments: [club_quality]}]}")},
        JOINED,
    )
    assert found.findings == ()


def test_hostile_text_in_findings_cannot_forge_lines() -> None:
    """A name with line breaks and escape sequences is one line of output without them."""
    found = report({"packages/a\n::error::x\x1b[31m/nexus.yaml": "package: {name: x}\n"})
    for one in found.findings:
        assert "\x1b" not in one.text()
        assert "\n::error" not in one.text()


def test_a_tree_without_variants_says_nothing_about_them() -> None:
    """A registry whose project file declares no variant, or that has none, gets no finding about variants."""
    assert report({PROJECT: None}).findings == ()
    assert report({PROJECT: '[project]\nname = "r"\n'}).findings == ()


@pytest.mark.parametrize(
    "change",
    [
        {NEXUS: "package:\n  name: graphs\n  owners: [" + "a, " * 50_000 + "b]\n"},
        {NEXUS: "package:\n  name: graphs\n" + "".join(f"  k{n}: 1\n" for n in range(20_000))},
        {SPACE: "experiments:\n" + "- {actuatorIdentifier: a, experimentIdentifier: club_qualitx}\n" * 3_000},
        {PROJECT: "[tool.nexus.rules]\n" + "".join(f'"x{n}" = "error"\n' for n in range(10_000))},
        {PROJECT: "a = " + "[" * 50_000},
        {WAIVERS: "waivers:\n" + "- {code: NX-C043, owner: a, reason: b, expires: 2026-12-01}\n" * 3_000},
    ],
)
def test_a_hostile_manifest_gives_few_findings(change: dict[str, Any]) -> None:
    """A file with thousands of mistakes is told about once it is clear, not thousands of times."""
    found = report(change).findings
    assert 0 < len(found) <= 1_002
