"""The measurement as an ado experiment; importing this module registers it."""

from ado.modules.actuators.custom_experiments import custom_experiment
from ado.schema.domain import PropertyDomain, VariableTypeEnum
from ado.schema.property import ConstitutiveProperty

from community_benchmarks.quality import GRAPHS, measure

_CATEGORICAL = VariableTypeEnum.CATEGORICAL_VARIABLE_TYPE
_ALGORITHMS = ["greedy_modularity", "label_propagation", "random_halves"]


@custom_experiment(
    required_properties=[
        ConstitutiveProperty(identifier="graph", propertyDomain=PropertyDomain(variableType=_CATEGORICAL, values=list(GRAPHS))),
        ConstitutiveProperty(identifier="algorithm", propertyDomain=PropertyDomain(variableType=_CATEGORICAL, values=_ALGORITHMS)),
    ],
    output_property_identifiers=["modularity", "communities"],
    version="1.0.0",
)
def community_quality(graph: str, algorithm: str) -> dict[str, float]:
    """How well an algorithm divides a known graph."""
    return measure(graph, algorithm)
