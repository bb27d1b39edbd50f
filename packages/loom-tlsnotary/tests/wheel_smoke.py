"""Run where only the wheel is installed: checks and mock work, and the verifier says what is missing."""

from __future__ import annotations

import asyncio
import os
import tempfile

FOLDER = tempfile.mkdtemp()
os.environ.update(LOOM_ENV="test", TLSNOTARY_ALLOW_MOCK="true", XDG_DATA_HOME=FOLDER, XDG_CACHE_HOME=FOLDER)

from loom.errors import ConfigurationError  # noqa: E402
from loom.plugins import AdapterContext, AdapterRegistry  # noqa: E402
from loom_tlsnotary import MockTLSNotaryVerifier  # noqa: E402
from loom_tlsnotary.module import load_module, make_engine  # noqa: E402


async def main() -> None:
    """Open the adapters by their URLs."""
    registry = AdapterRegistry()
    async with registry.open("tlsnotary", "tlsn+mock://", AdapterContext()) as mock:
        proof = MockTLSNotaryVerifier.present(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        assert (await mock.verify(proof, "example.test")).verified
    try:
        await registry.open("tlsnotary", f"tlsn://?notaries=02{'ab' * 32}", AdapterContext()).start()
    except ConfigurationError as error:
        assert "loom tlsnotary install" in str(error)  # noqa: PT017
    else:
        raise AssertionError("there is no module to verify with")
    load_module(make_engine(), b"\0asm\1\0\0\0", "0" * 64)
    print("loom-tlsnotary works alone")


asyncio.run(main())
