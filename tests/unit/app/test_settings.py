"""Settings: precedence, origins, refusals."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from nexus.app.settings import resolve
from nexus.kernel.errors import InvalidSetting


def test_flags_beat_environment_beats_file_beats_defaults(tmp_path: Path) -> None:
    """Each value is taken from the strongest source, and says which that was."""
    file = tmp_path / "nexus.toml"
    file.write_text('port = 1\nmax_runs = 2\nlog-format = "json"\n')
    settings, origins = resolve({"port": 3}, {"NEXUS__PORT": "2", "NEXUS__MAX_RUNS": "5"}, str(file))
    assert (settings.port, settings.max_runs, settings.log_format, settings.host) == (3, 5, "json", "127.0.0.1")
    told = {origin.name: origin.origin for origin in origins}
    assert told["port"] == "flag --port"
    assert told["max_runs"] == "environment NEXUS__MAX_RUNS"
    assert told["log_format"] == f"file {file}"
    assert told["host"] == "default"


def test_units_are_read_as_people_write_them() -> None:
    """Sizes are quantities, times are durations, lists are separated by commas."""
    settings, _ = resolve({}, {"NEXUS__MAX_PAYLOAD": "1Gi", "NEXUS__KEEP_LOGS": "36h", "NEXUS__ALGORITHMS": "a, b"})
    assert settings.max_payload == 2**30
    assert settings.keep_logs == timedelta(hours=36)
    assert settings.algorithms == ("a", "b")


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "99999"), ("PORT", "x"), ("MAX_PAYLOAD", "lots"), ("KEEP_LOGS", "soon"), ("REQUIRE_TOKEN", "maybe"),
     ("DISPATCH", "off"), ("STARTS_PER_S", "0"), ("ROLES", "receiver")],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    """The message names the setting and the value."""
    with pytest.raises(InvalidSetting) as caught:
        resolve({}, {f"NEXUS__{name}": value})
    assert name.lower() in caught.value.message
    assert value in caught.value.message


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    """A misspelt name in the file is an error, not silence."""
    file = tmp_path / "nexus.toml"
    file.write_text("prot = 1\n")
    with pytest.raises(InvalidSetting, match="prot"):
        resolve({}, {}, str(file))


def test_tls_needs_both_files() -> None:
    """A certificate without its key is refused before anything starts."""
    with pytest.raises(InvalidSetting, match="tls_key"):
        resolve({"tls_cert": "c"}, {})
