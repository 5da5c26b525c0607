"""Forms of names and addresses, at their limits."""

from __future__ import annotations

import pytest

from nexus.catalog import formats

RIGHT_MODELS = ["ab/cd", "a1/b1", "a" * 42 + "/bb", "aa/" + "b" * 96, "a.b_c-d/e.f_g-h"]
WRONG_MODELS = [
    *("a/bc", "ab/c", "a" * 43 + "/bb", "aa/" + "b" * 97, "12/ab", "ab/12", "a--b/cd", "ab/c--d", "-ab/cd", "ab./cd"),
    *("ab/cd/ef", "ab", "ab/", "ab/c d", "ab/cd\n", "\u0430b/cd"),
]
RIGHT_HANDLES = ["a", "1", "a-b", "a" * 39]
WRONG_HANDLES = ["", "a" * 40, "-a", "a-", "a--b", "a_b", "@a", "org/team", "a\n", "\u0430"]
RIGHT_REQUIREMENTS = [
    *("a", "a>=1", 'a[x]>=1; python_version < "3.12"', "a @ https://x.org/y.whl", "https://x.org/y", "git+https://x.org/y@main"),
    *("git+ssh://git@x.org/y", "./packages/a/benchmark_packages/b"),
]
WRONG_REQUIREMENTS = [
    *("", "a>=", "-e .", "--index-url=x", "/etc", "~/x", "../x", "http://x.org", "file:///etc", "a @ file:///etc", "https://"),
    *("https://me@x.org/y", "git+ssh://git:p@x.org/y", "a\n--pre", "https://x.org/\u202ey", "$(x)"),
]


def judged(right: list[str], wrong: list[str]) -> list[tuple[str, bool]]:
    """Each text with whether it is of the form."""
    return [*((text, True) for text in right), *((text, False) for text in wrong)]


@pytest.mark.parametrize(("text", "right"), judged(RIGHT_MODELS, WRONG_MODELS))
def test_a_model_is_a_repository_of_hugging_face(text: str, right: bool) -> None:
    """Two parts of 2 to 42 and 2 to 96 characters, a letter on each side, no double hyphen, no look-alikes."""
    assert (not formats.refuse_model_id(text)) is right


@pytest.mark.parametrize(("text", "right"), judged(RIGHT_HANDLES, WRONG_HANDLES))
def test_an_owner_is_a_user_of_github(text: str, right: bool) -> None:
    """At most 39 letters and digits with single hyphens between them."""
    assert (not formats.refuse_handle(text)) is right


@pytest.mark.parametrize(("text", "right"), judged(RIGHT_REQUIREMENTS, WRONG_REQUIREMENTS))
def test_a_registration_names_what_an_installer_takes(text: str, right: bool) -> None:
    """A requirement, an address without credentials over https or ssh, or a folder below `./packages/`; never an option."""
    assert (not formats.refuse_requirement(text)) is right
