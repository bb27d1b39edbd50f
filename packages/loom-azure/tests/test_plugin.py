"""What the plugin declares, and that listing it costs no driver."""

from __future__ import annotations

import subprocess
import sys

from loom.plugins import AdapterRegistry
from loom_azure.blobs import AzureBlobStore
from loom_azure.plugin import BLOBS


def test_the_plugin_imports_no_driver() -> None:
    code = (
        "import sys, loom_azure.plugin as p; list(p.loom_register_adapters()); p.loom_guard_rules();"
        "print([name for name in sys.modules if name.split('.')[0] in ('azure', 'aiohttp', 'msal')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_entry_point_is_found() -> None:
    assert AdapterRegistry().spec("blobs", "azblob") == BLOBS
    module, _, name = BLOBS.target.partition(":")
    assert (module, name) == (AzureBlobStore.__module__, AzureBlobStore.__name__)
