"""The measurement itself; it needs networkx only."""

import random
from collections.abc import Callable

import networkx as nx

GRAPHS: dict[str, Callable[[], nx.Graph]] = {
    "karate_club": nx.karate_club_graph,
    "les_miserables": nx.les_miserables_graph,
    "florentine_families": nx.florentine_families_graph,
}


def divide(graph: nx.Graph, algorithm: str) -> list[set]:
    """The communities that this algorithm finds."""
    if algorithm == "greedy_modularity":
        return [set(one) for one in nx.community.greedy_modularity_communities(graph)]
    if algorithm == "label_propagation":
        return [set(one) for one in nx.community.label_propagation_communities(graph)]
    nodes = sorted(graph)
    random.Random(0).shuffle(nodes)
    return [set(nodes[::2]), set(nodes[1::2])]


def measure(graph: str, algorithm: str) -> dict[str, float]:
    """Modularity and number of the communities found."""
    network = GRAPHS[graph]()
    communities = divide(network, algorithm)
    return {"modularity": float(nx.community.modularity(network, communities)), "communities": float(len(communities))}
