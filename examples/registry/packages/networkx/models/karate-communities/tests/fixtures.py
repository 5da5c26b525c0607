"""What the tests of this model share: the graph they divide."""

from pathlib import Path

import networkx as nx

DATA = Path(__file__).parent / "data"


def karate() -> nx.Graph:
    """The karate club, read from the data shipped with the test."""
    return nx.read_edgelist(DATA / "karate.edges", nodetype=int)
