"""Runs: accept, keep, start, follow, end. Decisions are pure; effects go through the ports; wiring chooses the adapters."""
