"""The test kit, shipped for authors of adapters: in-memory twins, conformance suites, strategies, the kill tool."""
