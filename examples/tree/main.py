"""Finds the best parameter of a classifier: a parent whose children each judge one value on one part of the data.

Every child is a run of the algorithm `digits` beside this one. The parent spawns one for each value and fold, waits for all,
and averages their results.
"""

import statistics
from typing import Any, Literal

import msgspec

from nexus.sdk import Context, FatalError, algorithm


class Search(msgspec.Struct):
    """``parameter`` of ``model`` is tried at each of ``values``, on each of ``folds`` parts of the data."""

    model: Literal["forest", "svm", "neighbours", "logistic"]
    parameter: str
    values: list[Any]
    folds: int = 2
    seed: int = 0


class Reading(msgspec.Struct):
    """What this algorithm needs of a child's result."""

    accuracy: float


class Point(msgspec.Struct):
    value: Any
    accuracy: float
    lowest: float
    highest: float


class Found(msgspec.Struct):
    best: Any
    accuracy: float
    points: list[Point]
    children: int


@algorithm
def tune(search: Search, ctx: Context) -> Found:
    if not search.values or search.folds < 2:
        raise FatalError("a search needs at least one value and two folds")
    tasks = [(value, fold) for value in search.values for fold in range(search.folds)]
    ctx.log.info("trying %d values of %s on %d folds", len(search.values), search.parameter, search.folds)
    children = [
        ctx.spawn(
            "digits",
            {
                "model": search.model,
                "parameters": {search.parameter: value},
                "fold": fold,
                "folds": search.folds,
                "seed": search.seed,
            },
            key=f"{value}-{fold}",
        )
        for value, fold in tasks
    ]
    readings = ctx.gather(children, Reading)
    points = []
    for value in search.values:
        found = [reading.accuracy for (tried, _), reading in zip(tasks, readings, strict=True) if tried == value]
        points.append(Point(value, statistics.fmean(found), min(found), max(found)))
    best = max(points, key=lambda point: point.accuracy)
    ctx.log.info("best: %s = %s reads %.1f %% right", search.parameter, best.value, 100 * best.accuracy)
    return Found(best=best.value, accuracy=best.accuracy, points=points, children=len(children))


if __name__ == "__main__":
    tune.main()
