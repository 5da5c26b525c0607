import math

from main import tune


def test_the_best_value_wins() -> None:
    """A function stands in for the children: the nearer gamma is to 0.001, the better it reads."""
    search = {"model": "svm", "parameter": "gamma", "values": [0.0001, 0.001, 0.01], "folds": 2}

    def digits(task: dict) -> dict:
        return {"accuracy": 1 - 0.1 * abs(math.log10(task["parameters"]["gamma"]) + 3)}

    found = tune.test(search, children={"digits": digits})
    assert (found.best, found.children) == (0.001, 6)
    assert found.accuracy > 0.99
