"""``loom conformance`` on a container, as anybody would run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loom_azure.testing import AzuriteServer

pytestmark = pytest.mark.slow


def test_loom_conformance(azurite: AzuriteServer, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "loom.cli", "conformance", azurite.url("conformance"), "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    [url] = json.loads(report.read_text())["urls"]
    [port] = url["ports"]
    assert (port["port"], port["adapter"]) == ("blobs", "loom_azure.blobs:AzureBlobStore")
    facts = {fact["name"]: fact["status"] for fact in port["facts"]}
    assert facts == dict.fromkeys(("contract", "durability REPLICATED", "reach NETWORK"), "proven")
