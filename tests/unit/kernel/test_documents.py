"""YAML of every bad kind: each is a finding with its place, none is a crash or a wait."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.kernel import documents
from nexus.kernel.documents import DocumentError, Finding, Positions


def refused(text: str) -> Finding:
    with pytest.raises(DocumentError) as caught:
        documents.load(text, "f.yaml")
    return caught.value.finding


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "NX-Y07", 4, 3),
        ("é: 1\nb: {c: 1, c: 2}\n", "NX-Y07", 2, 11),
        ("a:\n\tb: 1\n", "NX-Y06", 2, 1),
        ("a: [1,\n", "NX-Y06", 2, 1),
        ("a: *nobody\n", "NX-Y06", 1, 4),
        ("b: 1\n? [1]\n: 2\n", "NX-Y06", 2, 3),
        ("a: 1\n---\nb: 2\n", "NX-Y03", 2, 1),
        ("a: " + "[" * 300 + "]" * 300, "NX-Y05", 1, 131),
        ("a: " + "[" * 70 + "]" * 70, "NX-Y05", 0, 0),
        ("# é\na: \x07\n", "NX-Y06", 2, 4),
    ],
)
def test_a_bad_text_is_one_finding_with_its_place(text: str, code: str, line: int, column: int) -> None:
    """Duplicate keys, tabs, broken syntax, unknown aliases, several documents, depth and control characters are located."""
    finding = refused(text)
    assert (finding.code, finding.line, finding.column) == (code, line, column)


def test_a_tab_is_explained() -> None:
    """A tab at the beginning of a line gets the hint that YAML is indented with spaces."""
    assert "spaces" in refused("a:\n\tb: 1\n").hint


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("owners: [@octocat]\n", "`@`"),
        ("a: b: c\n", "`: `"),
        ("a:\n  - x\n y: z\n", "indentation"),
        ("a: 'it's'\n", "quotes"),
        ("a: [x\nb: y\n", "bracket"),
        ('a: "x\n', "close the quote"),
        ("a: - b\n", "line of its own"),
        ("a: *x\n", "`*`"),
        ("a: \x07\n", "remove it"),
    ],
)
def test_what_people_mistype_has_a_hint(text: str, word: str) -> None:
    """The parser's words are followed by what to do about them."""
    assert word in refused(text).hint


def test_few_aliases_that_multiply_are_refused_before_anything_is_built() -> None:
    """Thirty-one lines that double each other would stand for four thousand million values."""
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 32)]
    assert refused("\n".join(lines)).code == "NX-Y04"


def test_many_aliases_are_refused() -> None:
    """A manifest needs a handful of aliases; sixty-five are refused."""
    assert refused("a: &a 1\nb: [" + ", ".join(["*a"] * 65) + "]").code == "NX-Y04"


def test_a_few_aliases_are_read() -> None:
    """An anchor and its alias give the same value."""
    assert documents.load("a: &a [1]\nb: *a\n") == {"a": [1], "b": [1]}


@pytest.mark.parametrize(
    "text", ["a: 1\na: " + "[" * 300_000, "a: &x 1\nb: *x\nc: " + "[" * 300_000, "a: 1\na: 1\nb: " + "- " * 300_000]
)
def test_depth_neither_overflows_the_stack_nor_takes_for_ever(text: str) -> None:
    """A text nested three hundred thousand levels deep is refused by the reader, and its places are found without recursion."""
    assert refused(text).code in ("NX-Y05", "NX-Y07")
    assert Positions(text).of(("b",))[0] >= 1


def test_tags_build_nothing() -> None:
    """A tag that asks for a Python object is plain text."""
    assert documents.load("a: !!python/object/apply:os.system [x]\n") == {"a": ["x"]}


def test_words_that_look_like_booleans_and_numbers_stay_text() -> None:
    """YAML 1.2: `yes` and `012` are text."""
    assert documents.load("a: yes\nb: 012\n") == {"a": "yes", "b": "012"}


def test_a_file_that_is_not_utf8_names_line_and_column() -> None:
    """The first byte that is not UTF-8 is located."""
    with pytest.raises(DocumentError) as caught:
        documents.decode(b"a: 1\nb: \xff\n", "f.yaml")
    assert (caught.value.finding.code, caught.value.finding.line, caught.value.finding.column) == ("NX-Y02", 2, 4)


def test_ten_megabytes_are_not_read() -> None:
    """A manifest larger than the limit is refused by its size."""
    with pytest.raises(DocumentError) as caught:
        documents.decode(b" " * 10_000_000, "f.yaml")
    assert caught.value.finding.code == "NX-Y01"


def test_place_reads_each_text_once_and_keeps_what_is_placed() -> None:
    """Findings get the line of their key; those that have one keep it."""
    text = "package:\n  name: x\n  owners: [a, b]\n"
    findings = [
        Finding(code="A", message="", file="f", at=("package", "owners", 1)),
        Finding(code="B", message="", file="f", at=("package", "missing")),
        Finding(code="C", message="", file="f", line=9),
        Finding(code="D", message="", file="elsewhere"),
    ]
    placed = documents.place(findings, {"f": text})
    assert [(one.line, one.column) for one in placed] == [(3, 15), (1, 1), (9, 0), (0, 0)]


def test_spans_count_characters() -> None:
    """The span of a value is right after characters of several bytes."""
    text = 'é: 1\n# ü\nname: "x y" # c\n'
    span = Positions(text).span(("name",))
    assert span is not None
    assert text[slice(*span)] == '"x y"'


def test_shown_text_cannot_act_on_a_terminal() -> None:
    """Control characters are replaced, long texts cut, backticks cannot end the quotation."""
    assert documents.shown("a\x1b[2Jb\n`c`") == "`a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}'c'`"
    assert len(documents.shown("x" * 500)) == 82


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="ab:-[]{}&*?!|>#'\" \n\t", max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything but DocumentError, and a place can be asked for in any text."""
    codes = []
    try:
        documents.load(text)
    except DocumentError as error:
        codes.append(error.finding.code)
    assert all(code.startswith("NX-Y") for code in codes)
    Positions(text).of(("a", 0))
