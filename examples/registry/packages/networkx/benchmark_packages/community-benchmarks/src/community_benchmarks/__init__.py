"""Experiments on communities of graphs."""
