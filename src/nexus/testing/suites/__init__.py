"""Conformance suites, one a port: every adapter, and every in-memory twin, passes the suite of the port it serves."""
