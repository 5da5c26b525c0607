from itertools import combinations

from main import distance_km, place, read_cities


def test_no_other_choice_of_depots_is_nearer() -> None:
    """On twelve cities every choice of three can be tried."""
    plan = place.test({"country": "FR", "depots": 3, "cities": 12})
    cities = read_cities("FR")[:12]
    people = sum(city.population for city in cities)

    def mean_km(depots: tuple[int, ...]) -> float:
        return sum(city.population * min(distance_km(city, cities[j]) for j in depots) for city in cities) / people

    best = min(combinations(range(12), 3), key=mean_km)
    assert plan.gap == 0
    assert sorted(set(plan.serves)) == list(best)
    assert abs(plan.mean_km - mean_km(best)) < 0.001


def test_a_distance_that_can_be_looked_up() -> None:
    """Berlin to Hamburg is 255 km as the crow flies."""
    berlin, hamburg = read_cities("DE")[:2]
    assert (berlin.name, hamburg.name) == ("Berlin", "Hamburg")
    assert 250 < distance_km(berlin, hamburg) < 260
