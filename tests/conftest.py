"""What every tier shares: the summary by tier at the end of a run, and the option that opens the real client's tier."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy: what Hypothesis finds counts, how fast it finds it does not.
settings.register_profile("nexus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nexus")

TIERS = ("unit", "contracts", "scenarios", "acceptance")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--client", action="store_true", help="run the tier of the real nexus-client-sdk (948 MB to install)")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The real client's tier is collected only when it is asked for: ``make accept-client``."""
    if collection_path.name == "client" and collection_path.parent.name == "acceptance" and not config.getoption("--client"):
        return True
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line a tier: what passed, failed, was skipped, and how long its tests took."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            parts = Path(getattr(report, "nodeid", "").split("::")[0]).parts
            tier = parts[1] if len(parts) > 1 and parts[1] in TIERS else "other"
            counts[tier][outcome] += 1
            seconds[tier] += getattr(report, "duration", 0.0)
    terminalreporter.section("tiers")
    for tier in (*TIERS, "other"):
        if counts[tier]:
            told = ", ".join(f"{number} {outcome}" for outcome, number in counts[tier].items())
            terminalreporter.write_line(f"{tier:11} {told} ({seconds[tier]:.0f} s of tests)")
    if not config.getoption("--client"):
        terminalreporter.write_line("real client  not part of this run: `make accept-client`")
