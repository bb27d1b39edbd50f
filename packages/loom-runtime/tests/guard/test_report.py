"""What becomes of findings: a refusal with all of them, warnings, a sentence, a matrix, a document."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loom.errors import EphemeralAdapterWarning, ProductionGuardError
from loom.guard import (
    Finding,
    GuardConfig,
    GuardRule,
    GuardWarning,
    builtin_rules,
    check_production_config,
    collect_rules,
    enforce,
    readiness,
    validate_production_config,
    weakest_port_sentence,
)
from loom.guard.docs import main, render
from loom.guard.readiness import SURVIVES
from loom.plugins import Durability, PluginLoader, hookimpl
from loom.settings import Settings, load_settings

Configure = Callable[..., GuardConfig]


def settings(env: str | None = "production", guard: str | None = None) -> Settings:
    return load_settings(env=env, guard=guard, environ={})


def test_production_refuses_with_every_offender_at_once(configure: Configure) -> None:
    findings = validate_production_config(configure("memory://"))
    with pytest.raises(ProductionGuardError) as caught:
        enforce(findings, settings())
    assert caught.value.findings == tuple(finding for finding in findings if finding.severity == "refuse")
    for port in ("journal", "queue", "locks", "documents", "blobs", "state", "idempotency", "coordination", "secrets"):
        assert f"  {port} [ephemeral]: memory://" in str(caught.value)
    assert "argument env says so" in str(caught.value)
    assert "LOOM_GUARD=warn" in str(caught.value)


def test_guard_warn_tells_the_same_text_as_warnings(configure: Configure) -> None:
    findings = validate_production_config(configure("memory://"))
    with pytest.warns(EphemeralAdapterWarning) as told:
        assert enforce(findings, settings(guard="warn")) == findings
    assert [str(warning.message) for warning in told] == [str(finding) for finding in findings]


def test_guard_warn_does_not_soften_journal_and_queue_of_a_host_that_is_not_alone(configure: Configure) -> None:
    findings = validate_production_config(configure("memory://", hosts=2))
    with pytest.raises(ProductionGuardError) as caught:
        enforce(findings, settings(guard="warn"))
    assert {finding.port for finding in caught.value.findings} == {"journal", "queue"}


def test_guard_warn_does_not_soften_what_belongs_in_tests(configure: Configure) -> None:
    findings = validate_production_config(configure(environ={"LOOM_CRASH_AT": "x"}))
    with pytest.raises(ProductionGuardError, match="crash-point"):
        enforce(findings, settings(guard="warn"))


def test_a_warning_alone_does_not_stop_production(configure: Configure) -> None:
    findings = validate_production_config(configure("sqlite:///x.db?synchronous=NORMAL"))
    with pytest.warns(GuardWarning, match="synchronous=NORMAL"):
        enforce(findings, settings())


@pytest.mark.parametrize("env", ["development", "test"])
def test_outside_production_only_mixtures_are_told(configure: Configure, env: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert enforce(validate_production_config(configure("memory://", hosts=2)), settings(env)) == []
    with pytest.warns(EphemeralAdapterWarning, match="mixed-durability"):
        enforce(validate_production_config(configure(urls={"queue": "memory://"})), settings(env))


def test_a_detected_production_says_how_to_say_that_it_is_none(configure: Configure) -> None:
    detected = load_settings(environ={"KUBERNETES_SERVICE_HOST": "1"})
    with pytest.raises(ProductionGuardError, match=r"(?s)KUBERNETES_SERVICE_HOST.*LOOM_ENV=development"):
        enforce(validate_production_config(configure("memory://")), detected)


def test_credentials_are_nowhere(configure: Configure) -> None:
    config = configure(urls={"journal": "redis://me:hunter2@far.example/0"})
    findings = validate_production_config(config)
    table = readiness(config, findings)
    with pytest.raises(ProductionGuardError) as caught:
        enforce(findings, settings())
    for text in (repr(config), repr(findings), str(caught.value), repr(table), msgspec.json.encode(table).decode()):
        assert "hunter2" not in text


@pytest.mark.parametrize(
    ("url", "urls", "sentence"),
    [
        ("sqlite:///x.db", {}, "MACHINE: every port alike."),
        ("sqlite:///x.db", {"queue": "memory://"}, "NONE: the queue (memory://) decides."),
        ("memory://", {"queue": "sqlite:///x.db"}, "NONE: the journal (memory://) decides, and 7 more like it."),
        ("sqlite:///x.db?synchronous=NORMAL", {},
         "PROCESS: the journal (sqlite:///x.db?synchronous=NORMAL) decides."),
    ],
)  # fmt: skip
def test_the_weakest_port_speaks(configure: Configure, url: str, urls: dict[str, str], sentence: str) -> None:
    config = configure(url, urls)
    level, _, who = sentence.partition(":")
    expected = f"An acknowledged call {SURVIVES[Durability[level]]}:{who}"
    assert weakest_port_sentence(config, validate_production_config(config)) == expected


def test_the_matrix(configure: Configure) -> None:
    config = configure(urls={"journal": "memory://", "blobs": "azblob://localhost"})
    table = readiness(config, validate_production_config(config))
    rows = {row.port: row for row in table.ports}
    assert not table.ready
    assert table.ordered
    assert (rows["journal"].verdict, rows["journal"].codes) == ("refused", ("ephemeral",))
    assert (rows["queue"].verdict, rows["queue"].durability, rows["queue"].reach) == ("ready", "MACHINE", "HOST")
    assert rows["blobs"].verdict == "not served"
    assert json.loads(msgspec.json.encode(table))["ports"][0]["adapter"] == "memory://"


async def test_rules_of_plugins_ask_the_opened_adapters(configure: Configure) -> None:
    class Asks(GuardRule):
        code = "asks"

        async def check(self, config: GuardConfig) -> Iterable[Finding]:
            return [
                Finding(code="asks", severity="warn", port=port, reason=type(adapter).__name__, remedy="none")
                for port, adapter in config.adapters.items()
            ]

    class Plugin:
        @hookimpl
        def loom_guard_rules(self) -> list[Any]:
            return [Asks(), "not a rule"]

    loader = PluginLoader(find=list)
    loader.register(Plugin(), name="asks")
    rules = collect_rules(loader)
    assert [rule.code for rule in rules] == [*(rule.code for rule in builtin_rules()), "asks"]
    from loom.adapters.memory.queue import InMemoryMessageQueue

    config = configure(adapters={"queue": InMemoryMessageQueue()})
    findings = await check_production_config(config, rules)
    assert [(finding.code, finding.reason) for finding in findings] == [("asks", "InMemoryMessageQueue")]
    assert validate_production_config(config, rules) == []


def test_the_document_is_what_the_specs_and_rules_say() -> None:
    root = next(folder for folder in Path(__file__).resolve().parents if (folder / "docs" / "adr").is_dir())
    committed = (root / "docs" / "PRODUCTION_READINESS.md").read_text(encoding="utf-8")
    assert committed == render(), "run: python -m loom.guard.docs"


def test_the_document_names_every_rule_with_its_words() -> None:
    text = render()
    codes = [rule.code for rule in builtin_rules()]
    assert len(set(codes)) == len(codes)
    assert [rule.code for rule in builtin_rules() if f"| `{rule.code}` |" not in text] == []


def test_the_command_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "READY.md"
    assert main([str(path), "--check"]) == 1
    assert main([str(path)]) == 0
    assert main([str(path), "--check"]) == 0
    path.write_text("old", encoding="utf-8")
    assert main([str(path), "--check"]) == 1
    assert "python -m loom.guard.docs" in capsys.readouterr().err
    assert main(["--nonsense"]) == 2
