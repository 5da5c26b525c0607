"""The declaration of variants: read where registries write it, with the line of everything that is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.variants import model
from nexus.variants.ports import Target

IBM = """\
[project]
name = "algorithm-nexus"
requires-python = ">=3.12,<3.14"
dynamic = ["version"]

[project.optional-dependencies]
candidate = [
  "bmfm-targets[vllm]>=0.20.0",
  # a comment with "terratorch[vllm]==1.2.10" in it
  "terratorch[vllm]==1.2.10",
  "vllm==0.24.0",
]
cli = ["rich>=15"]
ecosystem = ["bmfm-targets", "terratorch>=1.2.7"]
product = ["terratorch[vllm]==1.2.10", "vllm==0.24.0"]

[tool.uv]
conflicts = [[{ extra = "ecosystem" }, { extra = "candidate" }, { extra = "product" }]]

[tool.uv.sources]
bmfm-targets = { git = "https://github.com/BiomedSciAI/biomed-multi-omic.git" }
"""


def test_a_registry_without_our_table_works() -> None:
    """Extras, conflicts and sources are enough: engine, targets and rules have defaults."""
    declared = model.read(IBM)
    assert declared.findings == ()
    assert list(declared.variants) == ["ecosystem", "candidate", "product"]
    assert declared.lowest_python == "3.12"
    assert declared.rules.engine == "vllm"
    assert {target.python for target in declared.rules.targets} == {"3.12", "3.13"}
    assert declared.uv["sources"]["bmfm-targets"]["git"].startswith("https://")


def test_each_requirement_knows_its_line() -> None:
    """The line is that of the entry in its own extra, not of a comment nor of the same text elsewhere."""
    declared = model.read(IBM)
    assert [asked.line for asked in declared.variants["candidate"].requirements] == [8, 10, 11]
    assert [asked.line for asked in declared.variants["product"].requirements] == [15, 15]
    assert declared.variants["product"].of("vllm")[0].pinned == "0.24.0"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("[project\n", "NX-V01", 1),
        ("[project]\nname = 'r'\n", "NX-V02", 0),
        ('[project]\n[project.optional-dependencies]\necosystem = ["ok", "not a requirement!!"]\n', "NX-V03", 3),
        ('[project]\n[project.optional-dependencies]\necosystem = [\n  "evil @ file:///etc/passwd",\n]\n', "NX-V03", 4),
        ('[project]\n[project.optional-dependencies]\necosystem = "idna"\n', "NX-V03", 3),
        ('[project]\n[project.optional-dependencies]\necosystem = [3]\n', "NX-V03", 3),
        ('[project]\nrequires-python = "newest"\n[project.optional-dependencies]\necosystem = []\n', "NX-V03", 2),
        ('[project.optional-dependencies]\necosystem = []\nproduct = []\n', "NX-V04", 0),
        ('[project.optional-dependencies]\necosystem = []\n[tool.nexus]\ncandidate = "newest"\n', "NX-V05", 4),
        ('[project.optional-dependencies]\necosystem = []\n[tool.nexus]\npython = ["2"]\n', "NX-V05", 4),
        ('[project.optional-dependencies]\necosystem = []\n[tool.nexus]\nexclude-newer = "soon"\n', "NX-V05", 4),
        ('[project.optional-dependencies]\necosystem = []\n[tool.nexus]\nproduct = "one"\n', "NX-V05", 4),
        ('[project.optional-dependencies]\necosystem = []\n[tool.nexus.rules]\nNX-V31 = "loud"\n', "NX-V05", 4),
        ("project = 3\n", "NX-V03", 0),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_code_and_a_line(text: str, code: str, line: int) -> None:
    """Each kind of mistake is a finding at its line, and reading goes on."""
    found = [(finding.code, finding.line) for finding in model.read(text).findings]
    assert (code, line) in found


def test_all_mistakes_are_told_at_once() -> None:
    """Three wrong requirements are three findings."""
    text = '[project]\n[project.optional-dependencies]\necosystem = ["a b", "idna", "-e .", "$(x)"]\n'
    assert len([finding for finding in model.read(text).findings if finding.code == "NX-V03"]) == 3


def test_our_table_sets_engine_targets_and_severities() -> None:
    """What `[tool.nexus]` says replaces the defaults."""
    text = """
[project.optional-dependencies]
ecosystem = []
[tool.nexus]
engine = "Babel"
python = ["3.12"]
platforms = ["linux"]
build = true
[tool.nexus.rules]
NX-V31 = "warning"
"""
    rules = model.read(text).rules
    assert (rules.engine, rules.targets, rules.build) == ("babel", (Target(python="3.12", platform="linux"),), True)
    assert rules.severities == {"NX-V31": "warning"}


def test_shared_dependencies_and_references_to_own_extras_belong_to_a_variant() -> None:
    """`[project] dependencies` stand in every variant; `registry[cli]` stands for that extra's requirements."""
    extras = '[project.optional-dependencies]\ncli = ["rich"]\necosystem = ["r[cli,ecosystem]", "jinja2"]\n'
    text = f'[project]\nname = "r"\ndependencies = ["idna"]\n{extras}'
    names = [asked.name for asked in model.read(text).variants["ecosystem"].requirements]
    assert names == ["idna", "jinja2", "rich"]


def test_a_byte_order_mark_is_passed_over() -> None:
    """As `uv` and the checks of the catalogue do; lines and columns are those of the text after it."""
    text = '[project]\nname = "r"\n[project.optional-dependencies]\necosystem = ["rich", "!"]\n'
    assert model.read("\ufeff" + text) == model.read(text)


def test_own_extras_are_found_in_any_spelling() -> None:
    """`r[chem-lab]` stands for the extra that is declared as `Chem_Lab`."""
    extras = '[project.optional-dependencies]\nChem_Lab = ["rdkit"]\necosystem = ["r[chem-lab]"]\n'
    held = model.read(f'[project]\nname = "r"\n{extras}').variants["ecosystem"]
    assert [asked.name for asked in held.requirements] == ["rdkit"]


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever a file holds, reading ends with a declaration."""
    assert isinstance(model.read(text), model.Declaration)


KEYS = [
    "project",
    "tool",
    "uv",
    "nexus",
    "rules",
    "optional-dependencies",
    "ecosystem",
    "conflicts",
    "python",
    "sources",
    "dependencies",
]
LEAVES = st.one_of(st.integers(min_value=-9, max_value=9), st.from_regex("[a-z]{0,4}", fullmatch=True), st.booleans())


def toml(value: object) -> str:
    """A value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(inner)}' for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(inner) for inner in value) + "]"
    return str(value).lower() if isinstance(value, bool | int) else f'"{value}"'


@given(
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4), max_leaves=12
    )
)
def test_no_shape_breaks_the_reader(value: object) -> None:
    """TOML of any wrong type ends with a declaration."""
    declared = model.read(f"project = {toml(value)}\ntool = {toml(value)}\n")
    assert isinstance(declared, model.Declaration)
    assert not any("not valid TOML" in finding.message for finding in declared.findings)
