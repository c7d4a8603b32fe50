"""Settings: the order of the sources, and what is said about a wrong one."""

from pathlib import Path

import pytest

from runtime.settings import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the developer's environment nor a headrace.toml nearby takes part."""
    import os

    for name in [name for name in os.environ if name.startswith(("HEADRACE_", "ANTHROPIC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refusal(options: dict[str, object] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(options)
    return str(caught.value)


def test_nothing_set() -> None:
    """Without a file, variables and options, the settings are the defaults, and none counts as configured."""
    settings = load_settings()
    assert settings == Settings()
    assert settings.brokers == "127.0.0.1:9092"
    assert "brokers" not in settings.model_fields_set


def test_rising_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment overrides the file, an option overrides both; each leaves alone what it does not set."""
    write(tmp_path / "headrace.toml", 'brokers = "file:1"\npartitions = 3\n[model]\nin_flight = 7\nattempts = 2\n')
    monkeypatch.setenv("HEADRACE_BROKERS", "environment:2")
    monkeypatch.setenv("HEADRACE_MODEL_IN_FLIGHT", "8")
    settings = load_settings({"brokers": "option:3", "topic_prefix": None})
    assert settings.brokers == "option:3"
    assert settings.partitions == 3
    assert (settings.model.in_flight, settings.model.attempts) == (8, 2)
    assert load_settings().brokers == "environment:2"


def test_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The option names the file before the variable does, and paths in it are relative to it."""
    folder = tmp_path / "etc"
    folder.mkdir()
    write(folder / "agents.toml", "")
    a = write(folder / "a.toml", 'agents = "agents.toml"\ntools = ["mytools.web", "extra.py"]\n')
    b = write(folder / "b.toml", 'app_id = "b"\n')
    monkeypatch.setenv("HEADRACE_CONFIG", str(b))
    assert load_settings().app_id == "b"
    settings = load_settings({"config": a})
    assert settings.agents == folder / "agents.toml"
    assert settings.tools == ("mytools.web", str(folder / "extra.py"))
    assert "gone.toml" in refusal({"config": tmp_path / "gone.toml"})


def test_sdk_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own variables are read without the prefix; an empty one is none."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:8081")
    settings = load_settings()
    assert settings.anthropic_api_key is not None
    assert settings.anthropic_api_key.get_secret_value() == "sk-ant-secret"
    assert str(settings.anthropic_base_url) == "http://127.0.0.1:8081/"
    assert "sk-ant-secret" not in repr(settings) + str(settings)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    assert load_settings().anthropic_api_key is None


def test_tools_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is written with commas."""
    monkeypatch.setenv("HEADRACE_TOOLS", "mytools.web, mytools.mail")
    assert load_settings().tools == ("mytools.web", "mytools.mail")


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [
        ("HEADRACE_BROKER", "HEADRACE_BROKERS"),
        ("HEADRACE_MODEL_INFLIGHT", "HEADRACE_MODEL_IN_FLIGHT"),
        ("HEADRACE_ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY"),
        ("HEADRACE_SECURITY", "HEADRACE_SECURITY_TLS"),
    ],
)
def test_unknown_variable(monkeypatch: pytest.MonkeyPatch, variable: str, suggestion: str) -> None:
    """A variable with our prefix that sets nothing is a mistake, and its value may be a secret."""
    monkeypatch.setenv(variable, "hunter2")
    message = refusal()
    assert variable in message
    assert f"did you mean {suggestion}?" in message
    assert "hunter2" not in message


def test_unknown_key_in_the_file(tmp_path: Path) -> None:
    """The key, the file and the nearest name are in the message; groups too."""
    write(tmp_path / "headrace.toml", "partition = 3\n[model]\nattempt = 1\n")
    group, key = refusal().splitlines()
    assert key == "headrace.toml: no such setting: partition; did you mean partitions?"
    assert group == "headrace.toml: no such setting: model.attempt; did you mean model.attempts?"


def test_wrong_value_names_its_origin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every wrong setting has a line: name, origin, what was expected, what came."""
    write(tmp_path / "headrace.toml", 'store = "sqlite"\n')
    monkeypatch.setenv("HEADRACE_MODEL_ATTEMPTS", "many")
    assert sorted(refusal({"brokers": "localhost"}).splitlines()) == [
        "brokers (option --brokers): expected host:port, with commas between several, got localhost",
        (
            "model.attempts (environment variable HEADRACE_MODEL_ATTEMPTS): "
            "expected a valid integer, unable to parse string as an integer, got many"
        ),
        "store (headrace.toml): expected 'rocksdb' or 'memory', got sqlite",
    ]


def test_file_that_is_no_toml(tmp_path: Path) -> None:
    """The message says which file."""
    write(tmp_path / "headrace.toml", "brokers: x\n")
    assert refusal().startswith("headrace.toml: expected TOML")


def test_security_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half a security setting is refused, and no message holds the password."""
    monkeypatch.setenv("HEADRACE_SECURITY_SASL_PASSWORD", "hunter2")
    message = refusal()
    assert message == (
        "security (environment HEADRACE_SECURITY_…): "
        "expected sasl_mechanism, sasl_username and sasl_password together: set all, or none"
    )
    monkeypatch.setenv("HEADRACE_SECURITY_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("HEADRACE_SECURITY_SASL_USERNAME", "ann")
    assert "hunter2" not in repr(load_settings())
    ca = write(tmp_path / "ca.pem", "")
    message = refusal({"security": {"ca_file": ca}})
    assert "set security.tls" in message
    assert "hunter2" not in message


def test_password_of_a_wrong_kind(tmp_path: Path) -> None:
    """A secret that is refused is not shown either."""
    write(tmp_path / "headrace.toml", "[security]\nsasl_password = 12345\n")
    message = refusal()
    assert "security.sasl_password" in message
    assert "12345" not in message


def test_the_database_is_an_url_that_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its password is in no message, whether the URL is one or not."""
    monkeypatch.setenv("HEADRACE_POSTGRES", "mysql://ann:hunter2@db/headrace")
    assert refusal() == (
        "postgres (environment variable HEADRACE_POSTGRES): "
        "expected postgresql://user:password@host:port/database, got a value that is not shown"
    )
    monkeypatch.setenv("HEADRACE_POSTGRES", "postgresql://ann:hunter2@db/headrace?sslmode=require")
    monkeypatch.setenv("HEADRACE_PROJECTIONS_EVENTS_DAYS", "7")
    settings = load_settings()
    assert settings.projections.events_days == 7
    assert "hunter2" not in repr(settings)


def test_data_dir_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's data folder is where XDG says it is."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert load_settings().data_dir == tmp_path / "xdg" / "headrace"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert load_settings().data_dir == Path("~/.local/share/headrace").expanduser()


def test_frozen() -> None:
    """Nobody changes a setting while the process runs."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().partitions = 3
