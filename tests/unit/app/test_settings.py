"""Settings: precedence, origins, refusals."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from nexus.app.settings import check_platform, misspelt, resolve
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


def test_what_is_shown_of_a_setting_can_be_given() -> None:
    """Sizes and times are read in the words `nexus settings` and the page of settings have for them; days are known."""
    settings, _ = resolve(
        {}, {"NEXUS__MAX_PAYLOAD": "500.0 MiB", "NEXUS__KEEP_LOGS": "7 d 0 h", "NEXUS__RETRY_PAUSE_CEILING": "6 min 00 s"}
    )
    assert (settings.max_payload, settings.keep_logs) == (500 * 2**20, timedelta(days=7))
    assert settings.retry_pause_ceiling == timedelta(minutes=6)
    assert resolve({}, {"NEXUS__KEEP_LOGS": "14d"})[0].keep_logs == timedelta(days=14)


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


def test_every_wrong_setting_is_told_at_once() -> None:
    """Two mistakes are found in one start, not in two."""
    with pytest.raises(InvalidSetting) as caught:
        resolve({"port": "x"}, {"NEXUS__MAX_PAYLOAD": "lots"})
    assert "`port` (from flag --port)" in caught.value.message
    assert "`max_payload` (from environment NEXUS__MAX_PAYLOAD)" in caught.value.message


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


def test_a_file_in_the_data_folder_is_read(tmp_path: Path) -> None:
    """``nexus.toml`` in the data folder counts as the file, unless another one is named; it cannot name another folder."""
    (tmp_path / "nexus.toml").write_text("port = 1234\n")
    settings, origins = resolve({"data_dir": str(tmp_path)}, {})
    assert settings.port == 1234
    assert {origin.name: origin.origin for origin in origins}["port"] == f"file {tmp_path / 'nexus.toml'}"
    assert resolve({}, {"NEXUS__DATA_DIR": str(tmp_path)})[0].port == 1234
    other = tmp_path / "other.toml"
    other.write_text("max_runs = 3\n")
    assert resolve({"data_dir": str(tmp_path)}, {}, str(other))[0].port == 8080
    (tmp_path / "nexus.toml").write_text('data_dir = "/elsewhere"\n')
    with pytest.raises(InvalidSetting, match="data_dir"):
        resolve({"data_dir": str(tmp_path)}, {})


def test_a_misspelt_variable_is_named_with_what_was_meant() -> None:
    """Names that clients and algorithms use, and those with sections, are none of our business."""
    environ = dict.fromkeys(
        ["NEXUS__MAX_RUN", "NEXUS__prot", "NEXUS__PORT", "NEXUS__SERVER", "NEXUS__TOKEN", "NEXUS__ALGORITHM_NAME",
         "NEXUS__CLIENT__RECEIVER", "NEXUS__RESULT__OUTPUT_PATH", "NEXUS__RUN_TOKEN", "HOME"],
        "1",
    )  # fmt: skip
    assert misspelt(environ) == [
        "`NEXUS__MAX_RUN` is no setting: did you mean `NEXUS__MAX_RUNS`?",
        "`NEXUS__prot` is no setting: did you mean `NEXUS__PORT`?",
    ]


def test_windows_is_refused_with_a_word() -> None:
    """The message says what is missing and where to go."""
    with pytest.raises(InvalidSetting, match="Windows") as caught:
        check_platform("win32")
    assert "WSL" in caught.value.hint
    check_platform("linux")


@pytest.mark.parametrize("name", ["MAX_RUNS", "CPU_MILLICORES"])
def test_a_negative_amount_is_refused(name: str) -> None:
    """It would be a service that starts nothing, without a word."""
    with pytest.raises(InvalidSetting, match=name.lower()):
        resolve({}, {f"NEXUS__{name}": "-1"})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("port = inf", "not a whole number"),
        ("port = 80.7", "not a whole number"),
        ("algorithms = 5", "not a list of texts"),
        ("algorithms = [1]", "not a list of texts"),
        ('max_payload = "0"', "is not from 1 B"),
        ('inline_payload = "10Gi"', "to 16.0 MiB"),
        ('memory = "1e30"', "larger than any machine"),
    ],
)
def test_no_value_of_a_file_is_a_traceback(tmp_path: Path, line: str, says: str) -> None:
    """Whatever TOML can hold is taken or refused with its place, never rounded in silence."""
    file = tmp_path / "nexus.toml"
    file.write_text(f"# mine\n{line}\n")
    with pytest.raises(InvalidSetting, match=f"nexus.toml:2\\).*{says}"):
        resolve({}, {}, str(file))


def test_unknown_names_and_wrong_values_are_told_together(tmp_path: Path) -> None:
    """One start finds all of a file's mistakes, each with its line, and what was meant."""
    file = tmp_path / "nexus.toml"
    file.write_text('max-waitin = 1\nport = "x"\n[scheduler]\nreplicas = 3\n')
    with pytest.raises(InvalidSetting) as caught:
        resolve({}, {"NEXUS__DISPATCH": "off"}, str(file))
    lines = caught.value.message.splitlines()
    assert len(lines) == 4
    assert f"`max_waitin` (from file {file}:1) is unknown: did you mean `max_waiting`?" in lines[0]
    assert f"`scheduler` (from file {file}:3) is unknown" in lines[1]
    assert f"`port` (from file {file}:2)" in lines[2]


def test_a_choice_is_read_in_any_case() -> None:
    """Configurations of other services write `INFO`."""
    assert resolve({}, {"NEXUS__LOG_LEVEL": "INFO"})[0].log_level == "info"


def test_one_port_has_all_routes() -> None:
    """A receiver's port that is the scheduler's is a mistake told in words, not an address that is in use."""
    with pytest.raises(InvalidSetting, match="both `8080`"):
        resolve({"receiver_port": 8080}, {})
    assert resolve({"receiver_port": 0, "port": 0}, {})[0].receiver_port == 0


@pytest.mark.parametrize("text", ["port = " + "1" * 5000, "x = " + "[" * 3000 + "]" * 3000, "port = \xff", "port = 1\nport = 2"])
def test_no_file_is_a_traceback(tmp_path: Path, text: str) -> None:
    """Whatever a file holds, the answer names it."""
    file = tmp_path / "nexus.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidSetting, match="is not valid TOML"):
        resolve({}, {}, str(file))
