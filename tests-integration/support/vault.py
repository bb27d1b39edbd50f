"""A vault of secrets for hosts in other processes, and the identity by which they sign in there."""

from __future__ import annotations

import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

from loom_azure.vault_testing import KeyVaultDouble

__all__ = ["identity_of", "vault_url", "vault_with_certificate"]


@contextmanager
def vault_with_certificate(folder: Path) -> Iterator[tuple[KeyVaultDouble, Path]]:
    """The double of loom-azure (which says why it is one) on this machine, and the file of who signed for it."""
    authority, file = trustme.CA(), folder / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with KeyVaultDouble(context) as vault:
        yield vault, file


def vault_url(vault: KeyVaultDouble, authority: Path, namespace: str) -> str:
    """Where an operator finds it."""
    return f"keyvault://shop?endpoint={vault.endpoint}&ssl_ca_certs={authority}&namespace={namespace}"


@contextmanager
def identity_of(vault: KeyVaultDouble) -> Iterator[dict[str, str]]:
    """The environment of a host with a managed identity that the vault lets in.

    A double of the endpoint that Azure App Service gives its apps, for there is none outside of Azure. It is
    DefaultAzureCredential that asks it: https://learn.microsoft.com/azure/app-service/overview-managed-identity
    """
    secret = secrets.token_hex(8)

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("X-IDENTITY-HEADER") == secret
            expires = str(int(time.time()) + 24 * 3600)
            token = {"access_token": vault.token, "expires_on": expires, "resource": "vault", "token_type": "Bearer"}
            body = json.dumps(token if known else {"message": "who are you?"}).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield {"IDENTITY_ENDPOINT": f"http://127.0.0.1:{server.server_port}/msi/token", "IDENTITY_HEADER": secret}
    finally:
        server.shutdown()
        server.server_close()
