"""Nexus: bring machine-learning and optimisation algorithms, prove them, and let others run them at scale."""

__version__ = "0.1.0"
