"""Who brings what, and what changed why."""

from __future__ import annotations

from nexus.variants import graph, model
from nexus.variants.graph import Change
from nexus.variants.model import Asked
from nexus.variants.pins import Pin


def pin(name: str, version: str, *via: str) -> Pin:
    return Pin(name=name, version=version, via=via)


HELD = [
    pin("rich", "14.0", "registry"),
    pin("markdown-it-py", "3.0", "registry", "rich"),
    pin("mdurl", "0.1", "markdown-it-py"),
    pin("pygments", "2.0", "rich"),
]


def test_every_chain_is_found_shortest_first() -> None:
    """A package comes in by each simple path from what the registry asks for."""
    found = graph.chains(HELD, "mdurl")
    assert [chain.packages for chain in found.chains] == [("markdown-it-py", "mdurl"), ("rich", "markdown-it-py", "mdurl")]
    assert found.complete


def test_a_package_nobody_has_has_no_chain() -> None:
    """An unknown package gives nothing."""
    assert graph.chains(HELD, "numpy").chains == ()


def test_circles_and_crowds_end() -> None:
    """A circle of packages is walked once; more chains than are counted are said to be more."""
    circle = [pin("a", "1", "registry", "b"), pin("b", "1", "a")]
    assert [chain.packages for chain in graph.chains(circle, "b").chains] == [("a", "b")]
    layers = [
        pin(f"p{row}-{column}", "1", *([f"p{row - 1}-{above}" for above in range(4)] if row else ["registry"]))
        for row in range(8)
        for column in range(4)
    ]
    crowd = graph.chains(layers, "p7-0")
    assert len(crowd.chains) <= graph.MAX_CHAINS
    assert not crowd.complete


def asked(*texts: str) -> tuple[Asked, ...]:
    listed = ", ".join(f'"{text}"' for text in texts)
    return model.read(f"[project.optional-dependencies]\necosystem = [{listed}]\n").variants["ecosystem"].requirements


def test_a_change_names_the_requirement_that_caused_it() -> None:
    """What an edited requirement brings, takes away and moves is traced back to it."""
    after = [
        pin("rich", "13.1", "registry"),
        pin("markdown-it-py", "3.0", "registry"),
        pin("mdurl", "0.1", "markdown-it-py"),
        pin("commonmark", "0.9", "rich"),
    ]
    changes = graph.compare(HELD, after, asked("rich>=14", "markdown-it-py"), asked("rich<13.2", "markdown-it-py"))
    cause = ("`rich>=14` became `rich<13.2`",)
    assert changes == (
        Change(package="commonmark", kind="added", after="0.9", causes=cause),
        Change(package="pygments", kind="removed", before="2.0", causes=cause),
        Change(package="rich", kind="down", before="14.0", after="13.1", causes=cause),
    )


def test_a_new_release_is_the_cause_where_nothing_was_edited() -> None:
    """An upgrade within the bounds is called another release, for itself and for what it brings."""
    after = [pin("rich", "15.0", "registry"), *HELD[1:3], pin("pygments", "2.1", "rich")]
    changes = graph.compare(HELD, after, asked("rich"), asked("rich"))
    assert [(change.package, change.kind, change.causes) for change in changes] == [
        ("pygments", "up", ("another release of `rich`",)),
        ("rich", "up", ("another release of `rich`",)),
    ]


def test_a_git_source_that_moves_is_changed() -> None:
    """Commits have no order: a moved source is neither up nor down."""
    old, new = (Pin(name="x", url=f"git+https://host/x@{digit * 40}", via=("registry",)) for digit in "ab")
    assert graph.compare([old], [new])[0].kind == "changed"
