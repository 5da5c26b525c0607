"""The language in which manifests are described, and the check of a value against such a description.

One description serves three readers: :func:`check` (findings), ``tools/catalog_docs.py`` (JSON Schema for editors, reference
pages). The descriptions themselves are in ``schema``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nexus.catalog import rulebook
from nexus.catalog.formats import FORMATS, VALUE
from nexus.catalog.rulebook import Problem
from nexus.kernel.documents import Path, shown

MISSING = rulebook.enter(
    "NX-C020", "field-missing", "A required field is missing",
    text="The manifest lacks a field without which it says nothing that can be used.",
    hint="add the field; the reference of manifests shows an example",
)  # fmt: skip
UNKNOWN = rulebook.enter(
    "NX-C021", "field-unknown", "A field nobody reads",
    text="Unknown fields are refused: a mistyped `onwer` that is silently ignored is a model without an owner.",
    hint="remove the field, or correct its name",
)  # fmt: skip
TYPE = rulebook.enter(
    "NX-C022", "field-type", "A field has a value of the wrong type",
    text="A text where a list is meant, a number where a text is meant, and so on. YAML reads `1.0` as a number: quote it.",
    hint="the reference of manifests lists the type of each field",
)  # fmt: skip
EMPTY = rulebook.enter(
    "NX-C025", "field-empty", "A field has no value", severity="warning",
    text="A key without a value says nothing: YAML reads it as null. An optional field counts as absent then, as in trees of "
    "algorithm-nexus 0.2.x; a required one is an error.",
    hint="give it a value, or remove the line",
)  # fmt: skip
MOST = 1000  # items of a list; manifests are written by hand
_MOST_PROBLEMS = 100
_SECRET = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text of at least one character; of a form of ``formats.FORMATS``, or one of a few words."""

    format: str = ""
    choices: tuple[str, ...] = ()
    longest: int = 2000
    word = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number from ``lowest`` on; a whole one unless ``fraction``."""

    lowest: float | None = None
    fraction: bool = False
    word = "number"


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """True or false, or only true."""

    only: bool | None = None
    word = "true or false"


@dataclass(frozen=True, kw_only=True, slots=True)
class Anything:
    """Whatever the tool that reads it understands."""

    word = "anything"


@dataclass(frozen=True, kw_only=True, slots=True)
class Items:
    """A list of at least ``fewest`` values of one shape, and never of more than MOST."""

    of: Shape
    fewest: int = 0
    word = "list"


@dataclass(frozen=True, kw_only=True, slots=True)
class Either:
    """A value of one of these shapes; they differ in type."""

    of: tuple[Shape, ...]

    @property
    def word(self) -> str:
        return " or ".join(one.word for one in self.of)


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One key of a mapping."""

    shape: Shape
    doc: str
    required: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A mapping with these keys; others are refused unless ``open``."""

    fields: Mapping[str, Field] = field(default_factory=dict)
    open: bool = False
    word = "mapping"


Shape = Text | Number | Flag | Anything | Items | Either | Table
_WORDS = {"yes": "true", "on": "true", "y": "true", "true": "true", "no": "false", "off": "false", "n": "false", "false": "false"}
_TYPES: dict[type, type | tuple[type, ...]] = {Text: str, Number: (int, float), Flag: bool, Items: list, Table: dict}


def check(value: Any, shape: Shape, file: str, at: Path = ()) -> list[Problem]:
    """Every way in which *value* is not of *shape*, with its path; at most a hundred, then one that says so."""
    if _test_of(shape)(value):
        return []
    found: list[Problem] = []
    for problem in _check(value, shape, file, at):
        if len(found) == _MOST_PROBLEMS:
            found.append(Problem(file, f"more than {_MOST_PROBLEMS} problems in this file; the rest is not listed", code=VALUE))
            break
        found.append(problem)
    return found


_Test = Callable[[Any], bool]
_TESTS: dict[int, tuple[Shape, _Test]] = {}  # by identity; the shape is kept so that its identity stays its own


def _test_of(shape: Shape) -> _Test:
    """A yes-or-no test of this shape, made once: most manifests are right, and a registry has thousands."""
    known = _TESTS.get(id(shape))
    if known is None:
        known = _TESTS[id(shape)] = (shape, _make_test(shape))
    return known[1]


def _make_test(shape: Shape) -> _Test:
    if isinstance(shape, Table) and not shape.open:
        tests = {name: _test_of(one.shape) for name, one in shape.fields.items()}
        required = frozenset(name for name, one in shape.fields.items() if one.required)

        def test_table(value: Any) -> bool:
            if type(value) is not dict or not required <= value.keys():
                return False
            for key, item in value.items():
                test = tests.get(key)
                if test is None or not test(item):
                    return False
            return True

        return test_table
    if isinstance(shape, Items):
        test_item, fewest = _test_of(shape.of), shape.fewest
        return lambda value: type(value) is list and fewest <= len(value) <= MOST and all(map(test_item, value))
    if isinstance(shape, Text):
        return _text_test(shape)
    return lambda value: next(_check(value, shape, "", ()), None) is None


def _text_test(shape: Text) -> _Test:
    longest, choices = shape.longest, frozenset(shape.choices)
    refuse = FORMATS[shape.format].refuse if shape.format else None

    def test_text(value: Any) -> bool:
        if type(value) is not str or not value.strip() or len(value) > longest or (choices and value not in choices):
            return False
        return refuse is None or not refuse(value)

    return test_text


def fits(value: Any, shape: Shape) -> bool:
    """Whether the value is of the shape's type, whatever is in it."""
    if isinstance(shape, Anything):
        return True
    if isinstance(shape, Either):
        return any(fits(value, one) for one in shape.of)
    return isinstance(value, _TYPES[type(shape)]) and not (isinstance(shape, Number) and isinstance(value, bool))


def _check(value: Any, shape: Shape, file: str, at: Path) -> Iterator[Problem]:
    if not fits(value, shape):
        yield Problem(
            file, f"{_name(at)} is {_described(value)} where a {shape.word} is meant", at, _quote_hint(value, shape), code=TYPE
        )
    elif isinstance(shape, Table):
        yield from _check_table(value, shape, file, at)
    elif isinstance(shape, Items):
        if len(value) < shape.fewest:
            yield Problem(file, f"{_name(at)} is empty; it needs at least {shape.fewest}", at, code=VALUE)
        if len(value) > MOST:
            yield Problem(file, f"{_name(at)} has {len(value)} items; at most {MOST} are read", at, code=VALUE)
        for index, item in enumerate(value[:MOST]):
            yield from _check(item, shape.of, file, (*at, index))
    elif isinstance(shape, Either):
        yield from _check(value, next(one for one in shape.of if fits(value, one)), file, at)
    elif isinstance(shape, Text):
        yield from _check_text(value, shape, file, at)
    elif isinstance(shape, Number):
        if not shape.fraction and isinstance(value, float):
            yield Problem(file, f"{_name(at)} is {shown(value)} where a whole number is meant", at, code=VALUE)
        elif shape.lowest is not None and not value >= shape.lowest:
            yield Problem(file, f"{_name(at)} is {shown(value)}; the lowest allowed is {shape.lowest}", at, code=VALUE)
    elif isinstance(shape, Flag) and shape.only is not None and value is not shape.only:
        only = str(shape.only).lower()
        yield Problem(file, f"{_name(at)} can only be `{only}`", at, f"write `{only}`, or leave the section out", code=VALUE)


def _check_table(value: dict[Any, Any], shape: Table, file: str, at: Path) -> Iterator[Problem]:
    fields = shape.fields
    for key, item in value.items():
        one = fields.get(key)
        if one is not None and item is None and not one.required:
            yield Problem(file, f"the field {shown(path_text((*at, key)))} has no value", (*at, key), code=EMPTY)
        elif one is not None:
            yield from _check(item, one.shape, file, (*at, key))
        elif not shape.open:
            text = "null" if key is None else str(key).lower() if isinstance(key, bool) else str(key)
            yield Problem(
                file, f"the field {shown(text)} is not known{_inside(at)}", (*at, key), _unknown_hint(text, fields), code=UNKNOWN
            )
    for name, one in fields.items():
        if one.required and name not in value:
            yield Problem(file, f"the field `{name}` is missing{_inside(at)}", at, f"add `{name}:` — {one.doc}", code=MISSING)


def _unknown_hint(key: str, fields: Mapping[str, Field]) -> str:
    if key == "<<":
        return "merge keys are not read; write the fields out"
    if key.startswith("!"):
        return "tags mean nothing here; remove it"
    below = next((name for name, one in fields.items() if isinstance(one.shape, Table) and key in one.shape.fields), "")
    if below:
        return f"it belongs below `{below}:`, indented"
    close = rulebook.suggestion(key, fields)
    return f"did you mean `{close}`?" if close else f"known here: {', '.join(f'`{name}`' for name in fields)}"


def _check_text(value: str, shape: Text, file: str, at: Path) -> Iterator[Problem]:
    if not value.strip():
        yield Problem(file, f"{_name(at)} is empty", at, code=VALUE)
    elif len(value) > shape.longest:
        yield Problem(file, f"{_name(at)} has {len(value)} characters; at most {shape.longest} are accepted", at, code=VALUE)
    elif shape.choices and value not in shape.choices:
        close = rulebook.suggestion(value, shape.choices)
        hint = f"did you mean `{close}`?" if close else f"one of {', '.join(f'`{word}`' for word in shape.choices)}"
        yield Problem(file, f"{_name(at)} cannot be {shown(value)}", at, hint, code=VALUE)
    elif shape.format:
        reason = FORMATS[shape.format].refuse(value)
        if reason:
            told = _SECRET.sub("***@", value)
            yield Problem(file, f"{_name(at)} cannot be {shown(told)}: {reason}", at, code=FORMATS[shape.format].code)


def path_text(at: Path) -> str:
    """``models[0].id``: a path as people write it."""
    text = ""
    for step in at:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _name(at: Path) -> str:
    return shown(path_text(at)) if at else "the document"


def _inside(at: Path) -> str:
    return f" in {shown(path_text(at))}" if at else ""


def _described(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"the number {shown(value)}" if isinstance(value, (int, float)) else f"the text {shown(value)}"


def _quote_hint(value: Any, shape: Shape) -> str:
    if isinstance(shape, Text) and isinstance(value, bool):
        return f'write it in quotes: "{str(value).lower()}"'
    if isinstance(shape, Text) and isinstance(value, (int, float)):
        return "write it in quotes, so that YAML reads a text"
    if isinstance(shape, Flag) and isinstance(value, str) and value.lower() in _WORDS:
        return f"write `{_WORDS[value.lower()]}`; that is a text in YAML 1.2"
    if isinstance(shape, Number) and isinstance(value, str) and value.strip().isdecimal():
        return "write the number without quotes"
    if isinstance(shape, Items) and isinstance(value, str):
        return f"write it as a list: `[{value[:40]}]`"
    return ""
