"""Where to put depots so that people are near one: the p-median problem on real cities, solved to proven optimality.

Given a country's largest cities and a number of depots, choose the cities that get a depot so that the average way of all
people to their nearest depot is shortest. HiGHS solves the exact mixed-integer model.
"""

import csv
import math
import time
from pathlib import Path

import highspy
import msgspec

from nexus.sdk import Context, FatalError, algorithm

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG
CITIES = Path(__file__).with_name("cities.csv")


class Problem(msgspec.Struct):
    """``country``: ISO code of one in cities.csv. ``cities``: how many of its largest. ``depots``: how many to place."""

    country: str
    depots: int = 5
    cities: int = 80
    time_limit_s: float = 30.0


class City(msgspec.Struct):
    name: str
    latitude: float
    longitude: float
    population: int


class Plan(msgspec.Struct):
    """``serves[i]`` is the index of the city whose depot serves city *i*. ``gap`` 0 means proven optimal."""

    country: str
    depots: list[str]
    mean_km: float
    farthest_km: float
    gap: float
    nodes: int
    solve_s: float
    cities: list[City]
    serves: list[int]


@algorithm
def place(problem: Problem, ctx: Context) -> Plan:
    cities = read_cities(problem.country)[: problem.cities]
    if not 1 <= problem.depots < len(cities):
        raise FatalError(f"{problem.depots} depots cannot be placed in {len(cities)} cities of {problem.country!r}")
    km = [[distance_km(a, b) for b in cities] for a in cities]
    ctx.log.info("placing %d depots in %d cities of %s", problem.depots, len(cities), problem.country)
    began = time.perf_counter()
    serves, solver = solve(km, [city.population for city in cities], problem)
    solve_s = time.perf_counter() - began
    info = solver.getInfo()
    people = sum(city.population for city in cities)
    ways = [km[i][j] for i, j in enumerate(serves)]
    mean_km = sum(way * city.population for way, city in zip(ways, cities, strict=True)) / people
    ctx.log.info("on average %.1f km to the nearest depot; gap %.2g, %.2f s", mean_km, info.mip_gap, solve_s)
    return Plan(
        country=problem.country,
        depots=[cities[j].name for j in sorted(set(serves))],
        mean_km=round(mean_km, 3),
        farthest_km=round(max(ways), 3),
        gap=info.mip_gap,
        nodes=int(info.mip_node_count),
        solve_s=round(solve_s, 3),
        cities=cities,
        serves=serves,
    )


def read_cities(country: str) -> list[City]:
    """The cities of a country, largest first."""
    with CITIES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [msgspec.convert(row, City, strict=False) for row in rows if row["country"] == country]
    if not found:
        raise FatalError(f"no cities of {country!r}; there are those of {', '.join(sorted({row['country'] for row in rows}))}")
    return found


def distance_km(a: City, b: City) -> float:
    """The way over the ground between two cities (haversine formula)."""
    phi_a, phi_b = math.radians(a.latitude), math.radians(b.latitude)
    across = math.sin(math.radians(b.longitude - a.longitude) / 2) ** 2
    h = math.sin((phi_b - phi_a) / 2) ** 2 + math.cos(phi_a) * math.cos(phi_b) * across
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(h))


def solve(km: list[list[float]], people: list[int], problem: Problem) -> tuple[list[int], highspy.Highs]:
    """For each city the index of the depot that serves it, and the solver with what it found out."""
    n = len(km)
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("time_limit", problem.time_limit_s)
    solver.setOptionValue("mip_rel_gap", 0.0)
    opened = [solver.addBinary() for _ in range(n)]
    scale = 1.0 / sum(people)
    served = [[solver.addVariable(lb=0, ub=1, obj=km[i][j] * people[i] * scale) for j in range(n)] for i in range(n)]
    solver.addConstr(solver.qsum(opened) == problem.depots)
    for i in range(n):
        solver.addConstr(solver.qsum(served[i]) == 1)
        for j in range(n):
            solver.addConstr(served[i][j] <= opened[j])
    solver.minimize()
    if solver.getModelStatus() not in (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kTimeLimit):
        raise FatalError(f"the solver ended with {solver.modelStatusToString(solver.getModelStatus())}")
    if solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        raise FatalError(f"no plan was found within {problem.time_limit_s:g} s")
    depots = [j for j in range(n) if solver.val(opened[j]) > 0.5]
    return [min(depots, key=lambda j: km[i][j]) for i in range(n)], solver


if __name__ == "__main__":
    place.main()
