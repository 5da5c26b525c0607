"""The rules of the catalogue, a module a subject. Importing this enters all of them in the rulebook."""

from nexus.catalog.rules import benchmarks, models, packages, registry, tree

__all__ = ["benchmarks", "models", "packages", "registry", "tree"]
