"""What a rule is, and the book of all of them.

A rule is a small function with a stable code, found by :func:`rule`; its docstring is its section in
``docs/reference/rules.md``. Codes raised by the reader of shapes have no function: they are entered with :func:`enter`.
Severities of a registry (``[tool.nexus.rules]``) are looked up here by code or by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from nexus.kernel.documents import Finding, Path

SEVERITIES = ("error", "warning", "off")
Scope = str  # document | package | model | registry


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One thing that is checked: ``text`` says why, ``hint`` what to do; ``severity`` holds until a registry says otherwise."""

    code: str
    name: str
    title: str
    text: str
    hint: str
    severity: str
    scope: Scope
    check: Callable[..., Iterator[Problem]] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What a rule found: the file, what is wrong, the part of the file, and a hint that fits better than the rule's."""

    file: str
    message: str
    at: Path = ()
    hint: str = ""
    line: int = 0
    column: int = 0
    code: str = ""


RULES: dict[str, Rule] = {}
_Check = TypeVar("_Check", bound=Callable[..., Iterator[Problem]])


def rule(code: str, name: str, title: str, *, hint: str, scope: Scope, severity: str = "error") -> Callable[[_Check], _Check]:
    """Enters the decorated function as a rule."""

    def enter_check(check: _Check) -> _Check:
        enter(code, name, title, text=check.__doc__ or "", hint=hint, scope=scope, severity=severity, check=check)
        return check

    return enter_check


def enter(
    code: str,
    name: str,
    title: str,
    *,
    text: str,
    hint: str,
    scope: Scope = "document",
    severity: str = "error",
    check: Callable[..., Iterator[Problem]] | None = None,
) -> str:
    """Enters a rule; the code given back is what its findings carry."""
    if code in RULES:
        raise ValueError(f"the code {code} is taken by {RULES[code].name}")
    RULES[code] = Rule(code=code, name=name, title=title, text=text, hint=hint, severity=severity, scope=scope, check=check)
    return code


def of_scope(scope: Scope) -> list[Rule]:
    """The rules that run over one kind of subject, by code."""
    return sorted((one for one in RULES.values() if one.scope == scope and one.check is not None), key=lambda one: one.code)


def find(word: str) -> Rule | None:
    """The rule of this code or name."""
    return RULES.get(word) or next((one for one in RULES.values() if one.name == word), None)


def severity_of(code: str, severities: Mapping[str, str], default: str = "error") -> str:
    """The severity a registry gives this code (by code or name), or the rule's own; ``off`` drops its findings."""
    one = RULES.get(code)
    name = one.name if one is not None else code
    return severities.get(code) or severities.get(name) or (one.severity if one is not None else default)


def finding(one: Rule, problem: Problem, severities: Mapping[str, str]) -> Finding | None:
    """The problem as a finding of this registry; None when the rule is off here."""
    code = problem.code or one.code
    severity = severity_of(code, severities)
    if severity == "off":
        return None
    return Finding(
        code=code,
        message=problem.message,
        hint=problem.hint or one.hint,
        file=problem.file,
        line=problem.line,
        column=problem.column,
        at=problem.at,
        severity=severity,
    )


def graded(one: Finding, severities: Mapping[str, str]) -> Finding | None:
    """A finding of the reader with the severity this registry gives its code; None when it is off here."""
    from dataclasses import replace

    severity = severity_of(one.code, severities, one.severity)
    if severity == "off":
        return None
    return one if severity == one.severity else replace(one, severity=severity)


def suggestion(word: str, known: Any) -> str:
    """The known word a mistyped one is closest to; empty when none is close.

    Looks at fifty words at most, of the same first letter and about the same length: a hostile file asks this thousands of times.
    """
    from difflib import get_close_matches

    likely = (one for one in known if one[:1].lower() == word[:1].lower() and abs(len(one) - len(word)) <= 3)
    close = get_close_matches(word[:200], list(islice(likely, 50)), n=1, cutoff=0.6)
    return close[0] if close else ""
