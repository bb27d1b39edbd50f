"""Where passwords and sealing keys lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loom.guard import Finding, GuardConfig, validate_production_config
from loom.sealing import KEYS, KEYS_FILE

Configure = Callable[..., GuardConfig]

PLANTED = "planted-7hQ2xZ"


def found(config: GuardConfig, **environ: str) -> list[Finding]:
    findings = validate_production_config(msgspec.structs.replace(config, environ=environ))
    assert PLANTED not in str(findings)
    return [finding for finding in findings if finding.code in ("environment-secrets", "sealing-keys")]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"redis://:{PLANTED}@cache:6379/0", True),
        (f"redis://cache:6379/0?password={PLANTED}", True),
        ("redis://:${secret:redis-password}@cache:6379/0", False),
        ("redis://cache:6379/0?password=${secret:redis-password}", False),
        ("redis://user@cache:6379/0", False),
        ("sqlite:///loom.db", False),
    ],
)
def test_a_password_in_a_variable(configure: Configure, url: str, told: bool) -> None:
    findings = found(configure(environ={"LOOM_URL": url}))
    assert [finding.code for finding in findings] == ["environment-secrets"] * told
    if told:
        assert "LOOM_URL" in findings[0].reason
        assert "${secret:NAME}" in findings[0].remedy
    assert found(configure(url)) == [], "an argument is no variable"


def test_keys_in_a_variable(configure: Configure) -> None:
    [finding] = found(configure(), **{KEYS: f"k:{PLANTED}"})
    assert (finding.code, finding.port) == ("environment-secrets", "secrets")
    assert KEYS_FILE in finding.remedy


def test_keys_that_others_read_or_that_lie_beside_the_data(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "apart").mkdir()
    beside, apart = tmp_path / "keys", tmp_path / "apart" / "keys"
    for place, mode, told in ((beside, 0o600, 1), (beside, 0o644, 2), (apart, 0o644, 1), (apart, 0o600, 0)):
        place.write_text("k:x")
        place.chmod(mode)
        findings = found(configure(f"sqlite:///{tmp_path}/loom.db"), **{KEYS_FILE: str(place)})
        assert [finding.code for finding in findings] == ["sealing-keys"] * told
    assert found(configure(), **{KEYS_FILE: str(tmp_path / "nowhere")}) == []
