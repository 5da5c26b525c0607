"""Tests of nexus-examples/karate-communities."""

import networkx as nx

from tests.fixtures import karate


def test_karate_club() -> None:
    """The division has a modularity above 0.35 and puts the two leaders apart."""
    graph = karate()
    communities = nx.community.greedy_modularity_communities(graph)
    assert nx.community.modularity(graph, communities) > 0.35
    instructor = next(one for one in communities if 0 in one)
    assert 33 not in instructor
