"""What every tier shares: the summary by tier at the end of a run, and the option that opens the real client's tier."""

from __future__ import annotations

import os
import signal
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy: what Hypothesis finds counts, how fast it finds it does not. The same commit gives the same examples
# wherever it runs; `--hypothesis-profile=explore` looks for new ones.
_ANY_SPEED = [HealthCheck.too_slow]
settings.register_profile("nexus", deadline=None, suppress_health_check=_ANY_SPEED, derandomize=True)
settings.register_profile("explore", deadline=None, suppress_health_check=_ANY_SPEED, max_examples=2000, database=None)
settings.load_profile("nexus")

TIERS = ("unit", "contracts", "scenarios", "acceptance")
_OF_THE_CALLER = ("NEXUS__", "GIT_", "COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "CLICOLOR", "PYTHONUTF8", "PYTHONWARNINGS")


def _start_alike() -> None:
    """What tests start finds the same world, whoever started the tests: no settings of the caller, no signals it ignores."""
    for name in [name for name in os.environ if name.startswith(_OF_THE_CALLER)]:
        del os.environ[name]
    os.umask(0o022)
    os.environ.update(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:  # a shell's background jobs ignore them, and so would all they start
            signal.signal(number, usual)


_start_alike()


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
