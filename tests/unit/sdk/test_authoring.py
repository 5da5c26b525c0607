"""Algorithms in an author's own unit test: no service, no process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pytest

from nexus.kernel.errors import InvalidInput
from nexus.sdk import ChildFailed, Context, FatalError, LocalContext, Result, algorithm


@dataclass
class Problem:
    n: int
    name: str = "x"


class Solution(msgspec.Struct):
    total: int


class Shape(TypedDict):
    side: int


@algorithm
def square(payload: Shape) -> int:
    """Squares."""
    return payload["side"] ** 2


@algorithm
def total(payload: Problem, ctx: Context) -> Solution:
    children = [ctx.spawn("square", {"side": n}, tag="part") for n in range(payload.n)]
    return Solution(sum(ctx.gather(children, int)))


def test_an_algorithm_is_still_its_function() -> None:
    """Calling it calls the function, with nothing in between; name and docstring stay."""
    assert square({"side": 3}) == 9
    assert (square.__name__, square.__doc__) == ("square", "Squares.")


def test_a_test_decodes_as_a_run_does() -> None:
    """Plain values become the annotated type; what does not fit names the field."""
    assert square.test({"side": 4}) == 16
    assert total.test({"n": 0}) == Solution(0)
    with pytest.raises(InvalidInput, match=r"Expected `int`, got `str` - at `\$\.n`"):
        total.test({"n": "three"})


def test_children_stand_in_for_algorithms() -> None:
    """A function, a value, or the other algorithm itself can be the child; what was asked for can be looked at."""
    assert total.test({"n": 3}, children={"square": lambda payload: payload["side"] * 10}) == Solution(30)
    assert total.test({"n": 3}, children={"square": 1}) == Solution(3)
    assert total.test({"n": 4}, children={"square": square}) == Solution(14)
    context = LocalContext("total", {"square": 1})
    total.test({"n": 2}, context=context)
    assert context.spawned == [("square", {"side": 0}, "part"), ("square", {"side": 1}, "part")]


def test_a_child_that_raises_is_a_failed_child() -> None:
    """The parent sees what it would see of a failed run."""

    def broken(_: Any) -> int:
        raise ZeroDivisionError("by zero")

    with pytest.raises(ChildFailed, match="FAILED: ZeroDivisionError: by zero"):
        total.test({"n": 1}, children={"square": broken})
    with pytest.raises(InvalidInput, match="nothing stands in for algorithm `square`"):
        total.test({"n": 1})


def test_results_must_be_storable(tmp_path: Path) -> None:
    """NaN, objects without a JSON form and missing files fail in the author's test, not in production."""

    @algorithm
    def give(payload: dict[str, Any]) -> Any:
        return {"nan": float("nan"), "object": object(), "file": tmp_path / "none", "bytes": b"\x00", "set": {1},
                "png": Result(b"\x89PNG", "image/png")}[payload["what"]]  # fmt: skip

    for what in ("nan", "object"):
        with pytest.raises(InvalidInput, match="cannot be written as JSON"):
            give.test({"what": what})
    with pytest.raises(FileNotFoundError):
        give.test({"what": "file"})
    for what in ("bytes", "set", "png"):
        give.test({"what": what})


def test_signatures_are_checked_when_decorated() -> None:
    """A function that cannot be an algorithm is refused where it is written."""

    async def later(payload: dict[str, Any]) -> None: ...

    def nothing() -> None: ...

    def three(a: int, b: int, c: int) -> None: ...

    for function in (later, nothing, three):
        with pytest.raises(TypeError):
            algorithm(function)  # type: ignore[arg-type]


def test_a_second_parameter_with_a_default_is_no_context() -> None:
    """An option of the author's stays an option; `ctx` is filled whether it has a default or not."""

    @algorithm
    def option(payload: dict[str, int], scale: int = 2) -> int:
        return payload["n"] * scale

    @algorithm
    def optional(payload: dict[str, int], ctx: Context | None = None) -> bool:
        return ctx is not None

    assert option.test({"n": 3}) == 6
    assert optional.test({}) is True
    assert optional({}) is False


def test_fatal_errors_come_through() -> None:
    """An author's test sees the exception itself."""

    @algorithm
    def fail(payload: dict[str, Any]) -> None:
        raise FatalError("infeasible")

    with pytest.raises(FatalError, match="infeasible"):
        fail.test({})


def test_importing_the_sdk_loads_no_http_stack() -> None:
    """`import nexus.sdk` loads neither aiohttp nor msgspec; the algorithm side never loads aiohttp or asyncio."""
    program = (
        "import sys, nexus.sdk; first = {'aiohttp', 'msgspec', 'asyncio'} & set(sys.modules)\n"
        "from nexus.sdk import algorithm, Context; print(first, {'aiohttp', 'asyncio', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set() set()\n"
