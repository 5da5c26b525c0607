"""uv's proofs as they are read: who needs what, and where the sides meet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexus.variants import explanation, proof
from tests.unit.variants.test_conflicts import whole

RICH = """\
Because rich>=13.9.0 depends on markdown-it-py>=2.2.0 and registry depends on markdown-it-py<2, we can conclude that
 your requirements and rich>=13.9.0 are incompatible.
"""


ONE_OF = """\
Because all of:
    aiohttp>=3.11.0b0,<=3.11.12
    aiohttp>=3.12.2,<=3.14.3
 depend on yarl>=1.17.0 and aiohttp>=3.9.0,<=3.10.11 depends on yarl>=1.0, we can conclude that
 aiohttp>=3.9.0 depends on yarl>=1.8.0.
And because registry depends on aiohttp>=3.9 and yarl<1.8, we can conclude that your requirements are unsatisfiable.
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RICH, [("rich", "markdown-it-py>=2.2.0")]),
        ("Because all versions of flask depend on werkzeug>=3 and jinja2[i18n]>=3 depends on babel>=2.7, we can conclude that no.",
         [("flask", "werkzeug>=3"), ("jinja2", "babel>=2.7")]),
        (ONE_OF, [("aiohttp", "yarl>=1.8.0")]),
        ("Because a>=1.4.0 depends on t{python_full_version < '3.13'}>=4.2, we can conclude that no.",
         [("a", "t>=4.2 ; python_full_version < '3.13'")]),
        ("Because b{sys_platform == 'win32'}==1 depends on c[x]{os_name == 'nt'}<2, we can conclude that no.",
         [("b", "c[x]<2 ; os_name == 'nt'")]),
        ("Because nosuch was not found in the package registry and registry depends on nosuch, we can conclude that no.", []),
        ("", []),
    ],
)  # fmt: skip
def test_the_edges_of_a_proof_are_read(text: str, expected: list[tuple[str, str]]) -> None:
    """uv's sentences give who depends on what; the registry itself and transitive conclusions are left out."""
    assert [(proof.name_of(edge.package), edge.needs) for edge in proof.edges(text, "registry")] == expected


def test_long_lists_and_long_proofs_are_cut_for_people() -> None:
    """A package with thirty releases in a chain, and a proof of hundreds of lines, leave the report readable; the data has all."""
    many = "|".join(f"left=={number}" for number in range(30))
    assert proof.shown(many) == "left==0, 28 others, or left==29"
    assert proof.shown("a>=1|a==3") == "a>=1 or a==3"
    one = whole()
    long = replace(one, conflict=replace(one.conflict, proof="\n".join(f"line {number}" for number in range(100))))
    text = explanation.text(long)
    assert "line 19\n  … 60 lines more (`-o json` has them all)\n  line 80\n" in text
    assert explanation.data(long)["proof"].count("\n") == 99


def test_sides_meet_at_the_first_shared_package() -> None:
    """What lies behind the meeting point is shared too, and is not it."""
    links = {"a": ["m"], "b": ["n"], "n": ["m"], "m": ["deep"]}
    assert proof.meeting_points(links, ["a", "b"]) == ("m",)
