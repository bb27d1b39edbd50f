"""Settings: who wins, what a wrong value says, and when unset means production."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loom.environment import MARKERS, is_loopback
from loom.errors import ConfigurationError
from loom.options import OPTION_TYPES
from loom.plugins import LoomURL
from loom.settings import RuntimeOptions, Settings, load_settings


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(environ: dict[str, str] | None = None, **arguments: Any) -> Settings:
    return load_settings(environ=environ or {}, **arguments)


def toml(text: str) -> None:
    Path("loom.toml").write_text(text, encoding="utf-8")


def where(settings: Settings, port: str) -> tuple[str, str]:
    url, source = settings.url_for(port)  # type: ignore[arg-type]
    return str(url), str(source)


def test_defaults() -> None:
    settings = load()
    assert where(settings, "journal") == ("sqlite:///loom.db", "default sqlite:///loom.db")
    assert settings.environment == "development"
    assert settings.guard == "refuse"
    assert settings.options == RuntimeOptions()
    assert settings.source_of("shards").kind == "default"


def test_arguments_go_before_the_environment_that_before_the_file() -> None:
    toml(
        '[loom]\nurl = "sqlite:///file.db"\nguard = "warn"\n'
        '[loom.urls]\nqueue = "sqlite:///q.db"\n[runtime]\nshards = 8\n'
    )
    assert where(load(), "journal") == ("sqlite:///file.db", "loom.toml [loom] url")
    assert where(load(), "queue") == ("sqlite:///q.db", "loom.toml [loom.urls] queue")
    assert load().guard == "warn"
    assert load().options.shards == 8
    environ = {"LOOM_URL": "sqlite:///env.db", "LOOM_JOURNAL_URL": "memory://", "LOOM_RUNTIME_SHARDS": "16"}
    assert where(load(environ), "journal") == ("memory://", "LOOM_JOURNAL_URL")
    assert where(load(environ), "queue") == ("sqlite:///env.db", "LOOM_URL")
    assert load(environ).options.shards == 16
    assert where(load(environ, url="sqlite:///arg.db"), "journal") == ("sqlite:///arg.db", "argument url")
    assert where(load(environ, urls={"blobs": "file:///b"}), "blobs") == ("file:///b", "argument urls['blobs']")
    settings = load(environ, options={"shards": 4})
    assert (settings.options.shards, str(settings.source_of("shards"))) == (4, "argument options.shards")
    assert load(environ, options=RuntimeOptions(shards=2)).options.shards == 2


def test_empty_variables_are_unset() -> None:
    assert load({"LOOM_URL": "", "LOOM_ENV": "", "KUBERNETES_SERVICE_HOST": ""}) == load()


@pytest.mark.parametrize("marker", MARKERS)
def test_a_platform_makes_unset_mean_production(marker: str) -> None:
    settings = load({marker: "something"})
    assert settings.environment == "production"
    assert marker in settings.environment_reason


@pytest.mark.parametrize(
    ("url", "environment"),
    [
        ("redis://cache.example.com:6379/0", "production"),
        ("redis://:hunter2@10.0.0.4", "production"),
        ("redis://cache", "production"),
        ("redis://[2001:db8::1]:6379", "production"),
        ("redis://localhost:6379", "development"),
        ("redis://127.0.0.1", "development"),
        ("redis://127.9.9.9", "development"),
        ("redis://[::1]:6379", "development"),
        ("redis://[::ffff:127.0.0.1]", "development"),
        ("unix:///run/redis.sock", "development"),
        ("sqlite:////var/lib/loom.db", "development"),
        ("memory://name", "development"),
    ],
)
def test_a_url_off_loopback_makes_unset_mean_production(url: str, environment: str) -> None:
    settings = load({"LOOM_QUEUE_URL": url})
    assert settings.environment == environment
    assert "hunter2" not in settings.environment_reason


def test_localhost_is_not_any_name_that_begins_so() -> None:
    assert is_loopback(LoomURL.parse("http://app.localhost/"))
    assert not is_loopback(LoomURL.parse("http://localhost.example.com/"))


@pytest.mark.parametrize("declared", ["development", "test", "production"])
def test_what_is_declared_wins(declared: str) -> None:
    settings = load({"LOOM_ENV": declared, "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert settings.environment == declared
    assert "LOOM_ENV" in settings.environment_reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[loom]\nurl = "a://"\nulr = "b://"', ["line 3", "loom.ulr", "did you mean 'url'"]),
        ('[lom]\nurl = "a://"', ["line 1", "lom", "did you mean 'loom'"]),
        ('[loom.urls]\njurnal = "memory://"', ["line 2", "did you mean 'journal'"]),
        ("[loom]\nurls.jurnal = 'memory://'", ["line 2", "did you mean 'journal'"]),
        ("[runtime]\n\nshard = 4", ["line 3", "did you mean 'shards'"]),
        ("[runtime]\nshards = 'many'", ["line 2", "runtime.shards", "a whole number", "not text"]),
        ("[runtime]\nshards = 2.5", ["line 2", "a whole number"]),
        ("[runtime]\nshards = true", ["line 2", "not true or false"]),
        ("[runtime]\nturn_deadline = []", ["line 2", "a number", "not a list"]),
        ("[runtime]\nshards = 0", ["shards", "greater than zero", "loom.toml [runtime] shards"]),
        ("[runtime]\nturn_deadline = inf", ["turn_deadline", "finite"]),
        ("[loom]\nurl = 5", ["line 2", "loom.url", "text in quotes"]),
        ("loom = 5", ["line 1", "a table"]),
        ("[loom]\nenv = 'prod'", ["loom.toml [loom] env", "did you mean 'production'"]),
        ("[loom]\nguard = 'off'", ["refuse or warn"]),
        ("[loom]\nurl = 'loom.db'", ["loom.toml [loom] url", "scheme://"]),
        ("[loom\nurl = 1", ["not valid TOML", "line 1"]),
    ],
)
def test_a_wrong_file_is_told_with_its_place(text: str, words: list[str]) -> None:
    toml(text)
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert [word for word in [*words, "loom.toml"] if word not in str(caught.value)] == []


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"other\.toml cannot be read"):
        load(toml_path="other.toml")
    Path("loom.toml").write_bytes(b"[loom]\nurl = '\xff'")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load()
    Path("loom.toml").unlink()
    Path("loom.toml").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load()


def test_a_file_with_a_byte_order_mark_is_read() -> None:
    Path("loom.toml").write_text("[runtime]\nshards = 3\n", encoding="utf-8-sig")
    assert load().options.shards == 3


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"LOOM_JORNAL_URL": "memory://"}, "did you mean LOOM_JOURNAL_URL"),
        ({"LOOM_LOCK_URL": "memory://"}, "did you mean LOOM_LOCKS_URL"),
        ({"LOOM_RUNTIME_SHARD": "4"}, "did you mean LOOM_RUNTIME_SHARDS"),
        ({"LOOM_RUNTIME_SHARDS": "four"}, "LOOM_RUNTIME_SHARDS must be a whole number"),
        ({"LOOM_RUNTIME_TURN_DEADLINE": "-1"}, "LOOM_RUNTIME_TURN_DEADLINE"),
        ({"LOOM_RUNTIME_TURN_DEADLINE": "nan"}, "finite"),
        ({"LOOM_ENV": "prod"}, "did you mean 'production'"),
        ({"LOOM_GUARD": "wran"}, "did you mean 'warn'"),
        ({"LOOM_URL": "loom.db"}, "LOOM_URL"),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    assert words in str(caught.value)


def test_variables_of_a_kubernetes_service_called_loom_are_left_alone() -> None:
    load({"LOOM_SERVICE_HOST": "10.0.0.1", "LOOM_PORT": "tcp://10.0.0.1:80", "LOOM_RUNTIME_PORT_80_TCP": "x"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"urls": {"jurnal": "memory://"}}, "did you mean 'journal'"),
        ({"options": {"shard": 1}}, "did you mean 'shards'"),
        ({"options": {"shards": "1"}}, "whole number"),
        ({"env": "staging"}, "argument env"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(**arguments)
    assert words in str(caught.value)


def test_url_for_a_port_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'journal'"):
        load().url_for("journals")  # type: ignore[arg-type]


def test_credentials_are_in_no_repr_and_no_error() -> None:
    settings = load({"LOOM_URL": "redis://me:hunter2@host/0?password=t0psecret"})
    assert "hunter2" not in repr(settings)
    assert "t0psecret" not in repr(settings)
    assert settings.url_for("journal")[0].password == "hunter2"
    toml("[loom]\nurl = 'redis://me:hunter2@host:port'")
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert "hunter2" not in f"{caught.value} {caught.value.context} {caught.value.__cause__}"


@pytest.mark.parametrize("name", OPTION_TYPES)
def test_every_option_is_positive_and_can_be_set_by_a_variable(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        RuntimeOptions(**{name: -1})
    with pytest.raises(ConfigurationError, match=name):
        RuntimeOptions(**{name: True})
    value = getattr(RuntimeOptions(), name) + 1
    lower = {"LOOM_RUNTIME_MESSAGE_LIFE": "1"} if name != "message_life" else {"LOOM_RUNTIME_IDEMPOTENCY_WINDOW": "1e6"}
    settings = load({**lower, f"LOOM_RUNTIME_{name.upper()}": str(value)})
    assert getattr(settings.options, name) == value
    assert str(settings.source_of(name)) == f"LOOM_RUNTIME_{name.upper()}"


def test_a_request_id_is_remembered_as_long_as_its_message_lives() -> None:
    with pytest.raises(ConfigurationError, match="at least message_life"):
        RuntimeOptions(message_life=10, idempotency_window=5)
    assert RuntimeOptions(drain_seconds=0).drain_seconds == 0
    assert isinstance(RuntimeOptions(call_timeout=5).call_timeout, float)
