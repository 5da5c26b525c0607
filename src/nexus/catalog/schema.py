"""What each manifest holds, described once: packages, models, skills, benchmark instances, logical benchmarks, waivers.

Read by ``manifests`` (checking) and by the generators of the reference pages and editor schemas. Field names are those of
registries that exist (IBM/algorithm-nexus 0.2.x) and of ado; what we add is optional.
"""

from __future__ import annotations

from nexus.catalog.shapes import Anything, Either, Field, Flag, Items, Number, Shape, Table, Text

VARIANTS = ("ecosystem", "candidate", "product")
WITH_ENGINE = ("candidate", "product")

_EXPERIMENT = Table(
    fields={
        "experimentIdentifier": Field(shape=Text(), doc="the experiment's name", required=True),
        "actuatorIdentifier": Field(
            shape=Text(), doc="the ado actuator that supplies it; `custom_experiments` for Python functions"
        ),
        "experimentVersion": Field(shape=Text(format="version"), doc="the version of the experiment"),
    }
)
_REGISTRATION = Table(
    fields={
        "requirement_specifier": Field(
            shape=Text(format="requirement"),
            required=True,
            doc="what to install: a requirement, an https or Git address, or a folder below `./packages/`",
        ),
        "experiments": Field(
            shape=Items(of=Either(of=(Text(), _EXPERIMENT)), fewest=1),
            required=True,
            doc="the experiments of that package which benchmark instances may use",
        ),
    }
)
PACKAGE = Table(
    fields={
        "package": Field(
            required=True,
            doc="one released Python package and who answers for it",
            shape=Table(
                fields={
                    "name": Field(
                        shape=Text(format="distribution"),
                        required=True,
                        doc="the name of the Python package; the folder is called the same",
                    ),
                    "owners": Field(
                        shape=Items(of=Text(format="handle"), fewest=1),
                        doc="GitHub handles; they also own every model that names no owner",
                    ),
                    "variants": Field(
                        shape=Items(of=Text(choices=VARIANTS), fewest=1),
                        doc="the variants it belongs to; must agree with `pyproject.toml`, where membership is declared",
                    ),
                    "docs": Field(shape=Text(format="link"), doc="where its documentation is"),
                    "benchmark_packages": Field(
                        shape=Items(of=_REGISTRATION), doc="benchmark packages whose experiments its benchmark instances use"
                    ),
                }
            ),
        ),
    }
)

_MACHINE = Table(
    fields={
        "cpu": Field(
            shape=Table(fields={"cores": Field(shape=Number(lowest=1), required=True, doc="processor cores")}), doc="processors"
        ),
        "memory": Field(shape=Text(format="quantity"), doc="main memory, such as `8Gi`"),
        "gpu": Field(
            doc="graphics processors",
            shape=Table(
                fields={
                    "type": Field(shape=Text(), doc="model of the card, such as `A100`"),
                    "memory": Field(shape=Text(format="quantity"), doc="memory of each card"),
                    "count": Field(shape=Number(lowest=1), required=True, doc="how many cards"),
                }
            ),
        ),
    }
)
_TESTING = Table(
    fields={
        "hardware": Field(
            required=True,
            doc="what the tests need",
            shape=Table(
                fields={
                    "minimum": Field(shape=_MACHINE, required=True, doc="below this the tests cannot run"),
                    "recommended": Field(shape=_MACHINE, doc="on this they run as intended"),
                    "cpu_only": Field(shape=Flag(), doc="whether they also run without a graphics processor"),
                }
            ),
        ),
        "commands": Field(shape=Items(of=Text(), fewest=1), required=True, doc="what to run, in order, in the model's folder"),
        "fixtures": Field(shape=Text(format="module"), doc="the Python module with set-up, configuration and tear-down"),
        "data": Field(shape=Items(of=Text(format="path")), doc="test data that is shipped beside the tests"),
        "scenarios": Field(
            required=True,
            doc="what is shown; at least one inference on a single input whose output is checked",
            shape=Items(
                fewest=1,
                of=Table(
                    fields={
                        "name": Field(shape=Text(), required=True, doc="what it is called in reports"),
                        "kind": Field(
                            shape=Text(choices=("inference", "vllm")),
                            required=True,
                            doc="`inference`, or `vllm` for loading and inference with vLLM",
                        ),
                        "input": Field(shape=Text(format="path"), doc="the single input"),
                        "checks": Field(shape=Text(), required=True, doc="what of the output is checked"),
                    }
                ),
            ),
        ),
        "time_limit": Field(
            shape=Text(format="duration"), required=True, doc="the longest the commands may take together, such as `20m`"
        ),
    }
)
MODEL = Table(
    fields={
        "model": Field(
            required=True,
            doc="one Hugging Face repository and how it is served and tested",
            shape=Table(
                fields={
                    "id": Field(
                        shape=Text(format="model-id"), required=True, doc="the Hugging Face repository, `organisation/model`"
                    ),
                    "owner": Field(
                        shape=Text(format="handle"), doc="a GitHub handle; the package's owners answer when it is absent"
                    ),
                    "vllm": Field(
                        doc="only for models that vLLM serves, in packages of the candidate or product variant",
                        shape=Table(
                            fields={
                                "enabled": Field(shape=Flag(only=True), required=True, doc="always `true`"),
                                "plugins": Field(
                                    doc="vLLM plugins the model needs; its package installs them",
                                    shape=Table(
                                        fields={
                                            "general": Field(
                                                shape=Text(), doc="the plugin that makes the model's class known to vLLM"
                                            ),
                                            "io_processors": Field(
                                                shape=Items(of=Text(), fewest=1), doc="input and output processors of the model"
                                            ),
                                        }
                                    ),
                                ),
                            }
                        ),
                    ),
                    "testing": Field(shape=_TESTING, doc="how the model is tested on every variant of its package"),
                }
            ),
        ),
    }
)

SKILL = Table(
    open=True,
    fields={
        "name": Field(shape=Text(format="skill-name"), required=True, doc="the name of the skill; its folder is called the same"),
        "description": Field(shape=Text(longest=1024), required=True, doc="what it does and when to use it"),
    },
)

VARIABLE_TYPES = tuple(
    f"{kind}_VARIABLE_TYPE"
    for kind in ("CONTINUOUS", "DISCRETE", "CATEGORICAL", "OPEN_CATEGORICAL", "BINARY", "UNKNOWN", "IDENTIFIER")
)
_DOMAIN = Table(
    fields={
        "values": Field(shape=Items(of=Anything(), fewest=1), doc="the values of a discrete or categorical property"),
        "interval": Field(shape=Number(fraction=True), doc="the step of a discrete property that has a range"),
        "domainRange": Field(
            shape=Items(of=Number(fraction=True), fewest=2), doc="lower bound (included) and upper bound (excluded)"
        ),
        "variableType": Field(shape=Text(choices=VARIABLE_TYPES), doc="the kind of the values; derived from them when absent"),
        "probabilityFunction": Field(shape=Table(open=True), doc="how values are drawn"),
    }
)
_PROPERTY_FIELDS = {
    "identifier": Field(shape=Text(), required=True, doc="the name of the property"),
    "metadata": Field(shape=Table(open=True), doc="what the property means"),
    "propertyDomain": Field(shape=_DOMAIN, doc="the values it may take"),
}
_PROPERTY = Table(fields=_PROPERTY_FIELDS)
_CONSTITUTIVE = Table(fields={**_PROPERTY_FIELDS, "propertyType": Field(shape=Text(), doc="ado's type of the property")})
_VALUE = Table(
    fields={
        "property": Field(
            required=True,
            doc="the property",
            shape=Table(open=True, fields={"identifier": Field(shape=Text(), required=True, doc="its name")}),
        ),
        "value": Field(shape=Anything(), required=True, doc="its value"),
    }
)
_REFERENCE_FIELDS = {
    "experimentIdentifier": Field(
        shape=Text(), required=True, doc="the experiment's name; it must be registered in a `nexus.yaml`"
    ),
    "actuatorIdentifier": Field(shape=Text(), required=True, doc="the ado actuator that supplies it"),
    "experimentVersion": Field(shape=Text(format="version"), doc="its version, where it declares one"),
    "parameterization": Field(shape=Items(of=_VALUE), doc="values of the experiment's optional properties"),
}
SPACE = Table(
    fields={
        "sampleStoreIdentifier": Field(shape=Either(of=(Text(), Number())), doc="the sample store; ado's default when absent"),
        "entitySpace": Field(shape=Items(of=_CONSTITUTIVE), doc="the properties that vary, with the values they take"),
        "experiments": Field(shape=Items(of=Table(fields=_REFERENCE_FIELDS), fewest=1), required=True, doc="what is measured"),
        "metadata": Field(shape=Table(open=True), doc="name, description and labels"),
    }
)

_IDENTIFIED = Table(fields={"identifier": Field(shape=Text(), required=True, doc="its name")})
_BINDING = Table(
    fields={
        "benchmarkIdentifier": Field(shape=Text(), required=True, doc="the logical benchmark of this file"),
        "experiment": Field(
            shape=Table(fields=_REFERENCE_FIELDS), required=True, doc="the experiment; only the major version counts"
        ),
        "targetMapping": Field(shape=Text(), required=True, doc="the experiment's property that carries the target"),
        "staticFilters": Field(shape=Items(of=_VALUE), doc="values of the experiment's properties that the benchmark implies"),
        "propertyMapping": Field(
            doc="a field for a field, or predicates for one categorical value; one not listed has the same name on both sides",
            shape=Items(
                of=Table(
                    fields={
                        "benchmark": Field(shape=_PROPERTY, doc="the benchmark's property"),
                        "experiment": Field(shape=_PROPERTY, doc="the experiment's property"),
                        "categoricalValue": Field(shape=_VALUE, doc="one value of a categorical property of the benchmark"),
                        "predicate": Field(
                            shape=Items(of=_PROPERTY, fewest=1), doc="the experiment's properties that make this value"
                        ),
                    }
                )
            ),
        ),
        "metricMapping": Field(
            doc="the experiment's name of each metric; a metric not listed keeps its name",
            shape=Items(
                of=Table(
                    fields={
                        "benchmark": Field(shape=_IDENTIFIED, required=True, doc="the metric's name in the benchmark"),
                        "experiment": Field(shape=_IDENTIFIED, required=True, doc="its name in the experiment"),
                    }
                )
            ),
        ),
    }
)
LOGICAL_BENCHMARK = Table(
    fields={
        "logicalBenchmark": Field(
            required=True,
            doc="an abstract problem that several experiments measure",
            shape=Table(
                fields={
                    "benchmarkIdentifier": Field(shape=Text(), required=True, doc="its name; the file is called the same"),
                    "description": Field(shape=Text(), required=True, doc="the problem in a sentence"),
                    "target": Field(shape=_PROPERTY, required=True, doc="the property that names what is evaluated"),
                    "properties": Field(shape=Items(of=_PROPERTY, fewest=1), required=True, doc="what results are told apart by"),
                    "metrics": Field(shape=Items(of=Text(), fewest=1), doc="the canonical names of what is measured"),
                    "owner": Field(shape=Text(), doc="who answers for the definition"),
                }
            ),
        ),
        "bindings": Field(shape=Items(of=_BINDING), doc="how experiments map to it"),
    }
)

WAIVER = Table(
    fields={
        "code": Field(shape=Text(), required=True, doc="the code of the finding, such as `NX-C048`"),
        "path": Field(shape=Text(format="path"), doc="the file or folder it holds for; the whole registry when absent"),
        "owner": Field(shape=Text(format="handle"), required=True, doc="the GitHub handle of who answers for it"),
        "reason": Field(shape=Text(), required=True, doc="why it is accepted"),
        "expires": Field(shape=Text(format="date"), required=True, doc="the last day it holds"),
    }
)
ADVISORY_WAIVER = Table(
    fields={
        "advisory": Field(shape=Text(longest=128), required=True, doc="any name of the vulnerability, or `not-audited`"),
        "package": Field(shape=Text(format="distribution"), required=True, doc="the package that has it"),
        "owner": Field(shape=Text(), required=True, doc="the GitHub handle of who answers for it"),
        "reason": Field(shape=Text(), required=True, doc="why it is accepted"),
        "expires": Field(shape=Text(format="date"), required=True, doc="the last day it holds"),
    }
)
WAIVERS = Table(
    fields={
        "waivers": Field(shape=Items(of=WAIVER), doc="findings that are accepted for a time"),
        "advisories": Field(
            shape=Items(of=ADVISORY_WAIVER), doc="vulnerabilities that are accepted for a time; `nexus audit` applies them"
        ),
    }
)

DOCUMENTS: dict[str, tuple[str, Shape]] = {
    "nexus": ("`packages/<package>/nexus.yaml`: a package", PACKAGE),
    "model": ("`packages/<package>/models/<model>/model.yaml`: a model", MODEL),
    "space": ("`…/benchmark_instances/<instance>/space.yaml`: a benchmark instance", SPACE),
    "logical-benchmark": ("`benchmarks/<id>.yaml`: a logical benchmark and its bindings", LOGICAL_BENCHMARK),
    "waivers": ("`waivers.yaml`: what is accepted for a time", WAIVERS),
    "skill": ("`packages/<package>/skills/<skill>/SKILL.md`: the front matter of an agent skill", SKILL),
}
