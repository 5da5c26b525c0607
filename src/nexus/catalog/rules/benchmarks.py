"""Rules about benchmarks: registrations, instances, logical benchmarks and their bindings, as far as no experiment is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nexus.catalog import files as places
from nexus.catalog import shapes
from nexus.catalog.manifests import Experiment, LogicalBenchmark
from nexus.catalog.rulebook import Problem, rule, suggestion
from nexus.catalog.snapshot import LOCAL_PACKAGES, Instance, Package, Snapshot
from nexus.kernel.documents import shown


def registered(packages: Iterator[Package]) -> dict[str, list[tuple[str, Experiment]]]:
    """Experiment name → who registers it, over all packages given."""
    found: dict[str, list[tuple[str, Experiment]]] = {}
    for package in packages:
        for registration in package.manifest.registrations if package.manifest is not None else ():
            for experiment in registration.experiments:
                found.setdefault(experiment.name, []).append((package.folder, experiment))
    return found


@rule(
    "NX-C012",
    "instance-manifest",
    "A benchmark instance has no space.yaml",
    scope="package",
    hint="add `space.yaml`, a complete ado discovery space, or remove the folder",
)
def manifest_missing(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Each folder below `benchmark_instances/` is one benchmark instance, and `space.yaml` is what is run."""
    for instance in package.every_instance():
        file = f"{instance.path}/{places.SPACE_FILE}"
        if instance.space is None and not any(trouble.path == file for trouble in snapshot.files.troubles):
            yield Problem(file, f"the benchmark instance {shown(instance.name)} has no `space.yaml`")


@rule(
    "NX-C051",
    "registration-folder",
    "A registered local benchmark package is not there",
    scope="package",
    hint="correct the path: `./packages/<package>/benchmark_packages/<folder>`",
)
def registration_folder(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """A local benchmark package is a Python project with a `pyproject.toml`, in a folder below `./packages/` of this registry."""
    for registration in package.manifest.registrations if package.manifest is not None else ():
        text = registration.requirement
        if not text.startswith(("./", "packages/")):
            continue
        path = text.removeprefix("./").rstrip("/")
        at = (*registration.at, "requirement_specifier")
        file = f"{package.path}/{places.PACKAGE_FILE}"
        if ".." in path.split("/") or not path.startswith(f"{places.PACKAGES}/"):
            yield Problem(file, f"{shown(text)} is not below `./packages/`", at)
        elif f"{path}/{places.PROJECT}" not in snapshot.files and _known(path, package, snapshot):
            yield Problem(file, f"{shown(path)} is no Python project: it has no `pyproject.toml`", at)


def _known(path: str, package: Package, snapshot: Snapshot) -> bool:
    """Whether the files of that folder were read at all: the check of one package reads no other."""
    owner = path.split("/")[1] if "/" in path else ""
    return owner == package.folder or len(snapshot.packages) > 1


@rule(
    "NX-C053",
    "experiment-twice",
    "An experiment is registered twice in one package",
    scope="package",
    hint="register each experiment from one benchmark package",
)
def experiment_twice(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """An instance names an experiment; registered from two benchmark packages, nobody knows which of them is run."""
    seen: set[tuple[str, str]] = set()
    for registration in package.manifest.registrations if package.manifest is not None else ():
        for experiment in registration.experiments:
            key = (experiment.name, experiment.actuator)
            if key in seen and experiment.name:
                message = f"the experiment {shown(experiment.name)} is registered twice"
                yield Problem(f"{package.path}/{places.PACKAGE_FILE}", message, experiment.at)
            seen.add(key)


@rule(
    "NX-C052",
    "local-package-unregistered",
    "A local benchmark package is not registered",
    scope="package",
    severity="warning",
    hint="register it in `benchmark_packages` of `nexus.yaml`, or remove the folder",
)
def local_package_unregistered(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """A folder below `benchmark_packages/` that no package registers is never installed and never run."""
    everyone = [package, *(one for one in snapshot.packages if one is not package)] if package.local_packages else []
    wanted = {
        registration.requirement.removeprefix("./").rstrip("/")
        for one in everyone
        for registration in (one.manifest.registrations if one.manifest is not None else ())
    }
    for name, is_project in package.local_packages.items():
        path = f"{package.path}/{LOCAL_PACKAGES}/{name}"
        if path not in wanted:
            yield Problem(
                f"{path}/{places.PROJECT}" if is_project else path, f"the local benchmark package {shown(name)} is not registered"
            )


@rule(
    "NX-C054",
    "instance-experiment",
    "A benchmark instance uses an experiment nobody registered",
    scope="registry",
    hint="register it in `benchmark_packages` of the package's `nexus.yaml`",
)
def instance_experiment(snapshot: Snapshot) -> Iterator[Problem]:
    """Only registered experiments are installed and reviewed, so only they can be run. One that another package of this registry
    registered may be used as well."""
    known = registered(iter(snapshot.packages))
    for package in snapshot.packages:
        for instance in package.every_instance():
            for experiment in instance.space.experiments if instance.space is not None else ():
                if experiment.name and not _is_registered(experiment, known):
                    close = suggestion(experiment.name, known)
                    hint = f"did you mean `{close}`?" if close else ""
                    message = f"the experiment {shown(experiment.name)} is registered by no package"
                    yield Problem(_space(instance), message, (*experiment.at, "experimentIdentifier"), hint)


def _is_registered(experiment: Experiment, known: Mapping[str, list[tuple[str, Experiment]]]) -> bool:
    return any(not one.actuator or one.actuator == experiment.actuator for _, one in known.get(experiment.name, ()))


def _space(instance: Instance) -> str:
    return f"{instance.path}/{places.SPACE_FILE}"


@rule(
    "NX-C057",
    "instance-target",
    "A baseline names no target",
    scope="registry",
    severity="warning",
    hint="add the target's property with its value to `entitySpace`",
)
def instance_target(snapshot: Snapshot) -> Iterator[Problem]:
    """Under a model the target is that model; an instance under a package says itself what it evaluates, in the property which
    the experiment's binding names as the target."""
    targets = {
        experiment.get("experimentIdentifier"): binding["targetMapping"]
        for benchmark in snapshot.benchmarks
        for binding in benchmark.bindings
        if isinstance(experiment := binding.get("experiment"), dict) and isinstance(binding.get("targetMapping"), str)
    }
    for package in snapshot.packages if targets else ():
        for instance in package.instances:
            names = {name for name, _ in instance.space.properties} if instance.space is not None else set()
            for experiment in instance.space.experiments if instance.space is not None else ():
                target = targets.get(experiment.name)
                if target is not None and target not in names:
                    yield Problem(
                        _space(instance),
                        f"`entitySpace` has no {shown(target)}, the target of {shown(experiment.name)}",
                        ("entitySpace",),
                    )


@rule(
    "NX-C058",
    "domain-contradicts",
    "A property's domain contradicts itself",
    scope="package",
    hint="give `values`, or `domainRange` (with `interval` for discrete values)",
)
def domain_contradicts(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Values and an interval at once, a range whose upper bound is not above its lower one, a step that is not positive, a discrete
    property without values: ado refuses these when the space is made, which is later and farther away."""
    for instance in package.every_instance():
        for index, (name, domain) in enumerate(instance.space.properties if instance.space is not None else ()):
            reason = _contradiction(domain)
            if reason:
                yield Problem(_space(instance), f"the domain of {shown(name)} {reason}", ("entitySpace", index, "propertyDomain"))


def _contradiction(domain: Mapping[str, Any]) -> str:
    values, interval, bounds, kind = (domain.get(key) for key in ("values", "interval", "domainRange", "variableType"))
    if values is not None and interval is not None:
        return "has `values` and an `interval`"
    if isinstance(bounds, list) and (
        len(bounds) != 2 or not all(isinstance(one, (int, float)) for one in bounds) or not bounds[0] < bounds[1]
    ):
        return "has a `domainRange` that is not `[lower, upper]`"
    if isinstance(interval, (int, float)) and not interval > 0:
        return "has an `interval` that is not above zero"
    if kind == "CATEGORICAL_VARIABLE_TYPE" and values is None:
        return "is categorical and has no `values`"
    if kind == "DISCRETE_VARIABLE_TYPE" and values is None and interval is None:
        return "is discrete and has neither `values` nor an `interval`"
    if kind == "CONTINUOUS_VARIABLE_TYPE" and bounds is None:
        return "is continuous and has no `domainRange`"
    return ""


@rule("NX-C059", "property-twice", "A property is given twice in one space", scope="package", hint="keep one of the two")
def property_twice(package: Package, snapshot: Snapshot) -> Iterator[Problem]:
    """Two entries for one property leave open which values are swept."""
    for instance in package.every_instance():
        seen: set[str] = set()
        for index, (name, _) in enumerate(instance.space.properties if instance.space is not None else ()):
            if name in seen and name:
                yield Problem(_space(instance), f"the property {shown(name)} is given twice", ("entitySpace", index, "identifier"))
            seen.add(name)


@rule(
    "NX-C060",
    "benchmark-twice",
    "Two files define the same logical benchmark",
    scope="registry",
    hint="keep one definition; bindings of both belong in its file",
)
def benchmark_twice(snapshot: Snapshot) -> Iterator[Problem]:
    """A logical benchmark is one contract; results are gathered under its identifier."""
    seen: dict[str, LogicalBenchmark] = {}
    for benchmark in snapshot.benchmarks:
        first = seen.setdefault(benchmark.id, benchmark)
        if first is not benchmark and benchmark.id:
            message = f"{shown(benchmark.id)} is defined in {shown(first.file)} already"
            yield Problem(benchmark.file, message, ("logicalBenchmark", "benchmarkIdentifier"))


@rule(
    "NX-C061",
    "benchmark-file",
    "A logical benchmark's file is not called like it",
    scope="registry",
    severity="warning",
    hint="call the file `<benchmarkIdentifier>.yaml`",
)
def benchmark_file(snapshot: Snapshot) -> Iterator[Problem]:
    """`benchmarks/<id>.yaml` is where people look for it."""
    for benchmark in snapshot.benchmarks:
        if benchmark.id and benchmark.file.rpartition("/")[2] != f"{benchmark.id}.yaml":
            yield Problem(benchmark.file, f"the file defines {shown(benchmark.id)}", ("logicalBenchmark", "benchmarkIdentifier"))


@rule(
    "NX-C069",
    "benchmark-owner-missing",
    "A logical benchmark has no owner",
    scope="registry",
    severity="warning",
    hint="add `owner` below `logicalBenchmark`",
)
def benchmark_owner(snapshot: Snapshot) -> Iterator[Problem]:
    """Somebody decides on changes of the contract; without an owner the author of the pull request that added it does."""
    for benchmark in snapshot.benchmarks:
        if benchmark.id and not benchmark.owner:
            yield Problem(benchmark.file, f"{shown(benchmark.id)} names no owner", ("logicalBenchmark",))


@rule(
    "NX-C062",
    "binding-benchmark",
    "A binding names another benchmark than its file",
    scope="registry",
    hint="move the binding to the file of its benchmark, or correct the identifier",
)
def binding_benchmark(snapshot: Snapshot) -> Iterator[Problem]:
    """Bindings stand in the file of the logical benchmark they target."""
    for benchmark in snapshot.benchmarks:
        for index, binding in enumerate(benchmark.bindings):
            named = binding.get("benchmarkIdentifier")
            if isinstance(named, str) and benchmark.id and named != benchmark.id:
                yield Problem(
                    benchmark.file,
                    f"the binding names {shown(named)}; this file defines {shown(benchmark.id)}",
                    ("bindings", index, "benchmarkIdentifier"),
                )


@rule(
    "NX-C063",
    "binding-property",
    "A binding maps a property its benchmark does not have",
    scope="registry",
    hint="use a property of this benchmark; add it there if it is missing",
)
def binding_property(snapshot: Snapshot) -> Iterator[Problem]:
    """Each mapping gives a property of the benchmark its counterpart in the experiment, field for field, or predicates for one
    categorical value. Half a mapping maps nothing."""
    for benchmark, at, mapping in _mappings(snapshot, "propertyMapping"):
        name, inside = _mapped(mapping)
        given = {key for key, value in mapping.items() if value is not None}
        if not ({"benchmark", "experiment"} <= given or {"categoricalValue", "predicate"} <= given):
            yield Problem(
                benchmark.file, "the mapping has neither `benchmark` and `experiment`, nor `categoricalValue` and `predicate`", at
            )
        elif name and name not in benchmark.properties:
            close = suggestion(name, benchmark.properties)
            hint = f"did you mean `{close}`?" if close else ""
            yield Problem(benchmark.file, f"{shown(benchmark.id)} has no property {shown(name)}", (*at, *inside), hint)


@rule(
    "NX-C065",
    "binding-value",
    "A binding maps a value outside the property's domain",
    scope="registry",
    hint="use one of the values the benchmark lists for this property",
)
def binding_value(snapshot: Snapshot) -> Iterator[Problem]:
    """A predicate for a value that the benchmark does not know is never asked for."""
    for benchmark, at, mapping in _mappings(snapshot, "propertyMapping"):
        categorical = mapping.get("categoricalValue")
        values = benchmark.properties.get(_mapped(mapping)[0])
        if isinstance(categorical, dict) and "value" in categorical and values is not None and categorical["value"] not in values:
            yield Problem(
                benchmark.file,
                f"{shown(categorical['value'])} is not among the values of {shown(_mapped(mapping)[0])}",
                (*at, "categoricalValue", "value"),
            )


@rule(
    "NX-C064",
    "binding-metric",
    "A binding maps a metric its benchmark does not have",
    scope="registry",
    hint="use a metric of this benchmark; add it to `metrics` if it is missing",
)
def binding_metric(snapshot: Snapshot) -> Iterator[Problem]:
    """Leaderboards show the canonical metrics of the benchmark; a mapping to another name shows nowhere."""
    for benchmark, at, mapping in _mappings(snapshot, "metricMapping"):
        one = mapping.get("benchmark")
        name = one.get("identifier") if isinstance(one, dict) else None
        if isinstance(name, str) and benchmark.metrics is not None and name not in benchmark.metrics:
            close = suggestion(name, benchmark.metrics)
            hint = f"did you mean `{close}`?" if close else ""
            yield Problem(
                benchmark.file, f"{shown(benchmark.id)} has no metric {shown(name)}", (*at, "benchmark", "identifier"), hint
            )


@rule(
    "NX-C067",
    "binding-twice",
    "An experiment is bound twice to one benchmark",
    scope="registry",
    hint="keep one binding for each major version of the experiment",
)
def binding_twice(snapshot: Snapshot) -> Iterator[Problem]:
    """A binding holds for one major version of an experiment; bindings of older major versions may stay beside it."""
    for benchmark in snapshot.benchmarks:
        seen: set[tuple[Any, Any, str]] = set()
        for index, binding in enumerate(benchmark.bindings):
            experiment = binding.get("experiment")
            if not isinstance(experiment, dict):
                continue
            major = str(experiment.get("experimentVersion", "")).partition(".")[0]
            key = (str(experiment.get("actuatorIdentifier")), str(experiment.get("experimentIdentifier")), major)
            if key in seen:
                message = f"the experiment {shown(key[1])}, major version {major or 'not given'}, is bound twice"
                yield Problem(benchmark.file, message, ("bindings", index, "experiment"))
            seen.add(key)


@rule(
    "NX-C068",
    "binding-unregistered",
    "A binding is for an experiment no package registers",
    scope="registry",
    severity="warning",
    hint="register the experiment in a package, or remove the binding",
)
def binding_unregistered(snapshot: Snapshot) -> Iterator[Problem]:
    """Nothing can ever be measured through it. Kept bindings of experiments that are no longer registered are harmless."""
    known = registered(iter(snapshot.packages))
    for benchmark in snapshot.benchmarks if snapshot.packages else ():
        for index, binding in enumerate(benchmark.bindings):
            experiment = binding.get("experiment")
            name = experiment.get("experimentIdentifier") if isinstance(experiment, dict) else None
            if isinstance(name, str) and name not in known:
                yield Problem(
                    benchmark.file,
                    f"no package registers the experiment {shown(name)}",
                    ("bindings", index, "experiment", "experimentIdentifier"),
                )


def _mappings(snapshot: Snapshot, key: str) -> Iterator[tuple[LogicalBenchmark, tuple[str | int, ...], Mapping[str, Any]]]:
    for benchmark in snapshot.benchmarks:
        for index, binding in enumerate(benchmark.bindings):
            entries = binding.get(key)
            for number, mapping in enumerate(entries[: shapes.MOST] if isinstance(entries, list) else []):
                if isinstance(mapping, dict):
                    yield benchmark, ("bindings", index, key, number), mapping


def _mapped(mapping: Mapping[str, Any]) -> tuple[str, tuple[str | int, ...]]:
    """The benchmark property a mapping is about, and where it stands in the mapping."""
    one, inside = mapping.get("benchmark"), ("benchmark", "identifier")
    if not isinstance(one, dict):
        categorical = mapping.get("categoricalValue")
        one = categorical.get("property") if isinstance(categorical, dict) else None
        inside = ("categoricalValue", "property", "identifier")  # type: ignore[assignment]
    name = one.get("identifier") if isinstance(one, dict) else None
    return (name if isinstance(name, str) else ""), inside
