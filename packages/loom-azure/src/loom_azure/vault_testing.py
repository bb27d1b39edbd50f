"""A double of Key Vault's secrets for tests: no server of it, and no emulator, is to be had outside Azure.

It speaks https, challenges whoever comes without its token, and answers as the REST reference of Key Vault 7.4 says, in
the parts that AzureKeyVault uses. What a test proves on it rests on our reading of that reference; the same tests run
against a vault of yours where ``LOOM_TEST_KEYVAULT_URL`` names one.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from azure.core.credentials import AccessToken

__all__ = ["DoubleCredential", "KeyVaultDouble"]

_TENANT, _RESOURCE = "00000000-0000-0000-0000-000000000001", "https://vault.azure.net"


class _Refusal(Exception):
    def __init__(self, status: int, code: str, inner: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(code)
        self.status, self.headers = status, headers or {}
        error: dict[str, Any] = {"code": code, "message": f"the double says {inner or code}"}
        if inner:
            error["innererror"] = {"code": inner}
        self.body = {"error": error}


class KeyVaultDouble:
    """One vault on ``https://localhost``. Used as ``with KeyVaultDouble(context) as vault``; ``context`` has its
    certificate.

    ``fail`` is a list of ``(status, code, headers)`` that the next requests are answered with; ``deny`` maps a
    permission (``get``, ``set``, …) to the code of its refusal; ``seen`` has method and path of every request;
    ``lose`` counts answers to throw away after the request was carried out. ``now`` is the vault's clock.
    """

    def __init__(
        self, context: ssl.SSLContext, *, now: Callable[[], float] = time.time, soft_delete: bool = True
    ) -> None:
        self.now = now
        self.token = uuid.uuid4().hex
        self.fail: list[tuple[int, str, dict[str, str]]] = []
        self.deny: dict[str, str] = {}
        self.lose = 0
        self.seen: list[tuple[str, str]] = []
        self._level = "Recoverable+Purgeable" if soft_delete else "Purgeable"
        self._live: dict[str, list[dict[str, Any]]] = {}
        self._deleted: dict[str, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._server = _Server(self, context)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"https://localhost:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, target: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request. Raises _Refusal."""
        with self._lock:
            url = urlsplit(target)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            self.seen.append((method, url.path))
            if token != f"Bearer {self.token}":
                where = f'Bearer authorization="https://login.microsoftonline.com/{_TENANT}", resource="{_RESOURCE}"'
                raise _Refusal(401, "Unauthorized", headers={"WWW-Authenticate": where})
            if self.fail:
                status, code, headers = self.fail.pop(0)
                raise _Refusal(status, code, headers=headers)
            if "api-version" not in query:
                raise _Refusal(400, "BadParameter")
            collection, *rest = [part for part in url.path.split("/") if part]
            if collection == "secrets":
                return self._secrets(method, rest, query, body, target)
            if collection == "deletedsecrets":
                return self._deleted_secrets(method, rest, query, target)
            raise _Refusal(404, "NotFound")

    def _allow(self, permission: str) -> None:
        if permission in self.deny:
            raise _Refusal(403, "Forbidden", self.deny[permission])

    def _secrets(
        self, method: str, rest: list[str], query: dict[str, str], body: dict[str, Any], target: str
    ) -> dict[str, Any]:
        if not rest:
            self._allow("list")
            newest = [
                {**self._item(name, rows[-1]), "id": f"{self.endpoint}/secrets/{name}"}
                for name, rows in self._live.items()
            ]
            return self._page(newest, query, target)
        name = rest[0].lower()
        if method == "PUT":
            self._allow("set")
            return self._set(name, body)
        rows = self._live.get(name)
        if rows is None:
            raise _Refusal(404, "SecretNotFound")
        if method == "DELETE":
            self._allow("delete")
            del self._live[name]
            if self._level == "Purgeable":
                return self._bundle(name, rows[-1])
            self._deleted[name] = rows
            return self._deleted_item(name)
        if rest[1:] == ["versions"]:
            self._allow("list")
            return self._page([self._item(name, row) for row in rows], query, target)
        wanted = rest[1] if len(rest) > 1 else rows[-1]["version"]
        row = next((row for row in rows if row["version"] == wanted), None)
        if row is None:
            raise _Refusal(404, "SecretNotFound")
        if method == "PATCH":
            self._allow("update")
            row["attributes"] |= body.get("attributes") or {}
            return self._item(name, row)
        self._allow("get")
        if not row["attributes"]["enabled"]:
            raise _Refusal(403, "Forbidden", "SecretDisabled")
        return {**self._bundle(name, row), "value": row["value"]}

    def _set(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name in self._deleted:
            raise _Refusal(409, "Conflict", "ObjectIsDeletedButRecoverable")
        now = int(self.now())
        attributes = {
            "enabled": True,
            "created": now,
            "updated": now,
            "recoveryLevel": self._level,
            "recoverableDays": 90,
        }
        row = {
            "version": uuid.uuid4().hex,
            "value": body["value"],
            "tags": body.get("tags") or {},
            "attributes": attributes | (body.get("attributes") or {}),
        }
        self._live.setdefault(name, []).append(row)
        return {**self._bundle(name, row), "value": row["value"]}

    def _deleted_secrets(self, method: str, rest: list[str], query: dict[str, str], target: str) -> dict[str, Any]:
        if not rest:
            self._allow("list")
            return self._page([self._deleted_item(name) for name in self._deleted], query, target)
        name = rest[0].lower()
        if name not in self._deleted:
            raise _Refusal(404, "SecretNotFound")
        if method == "POST" and rest[1:] == ["recover"]:
            self._allow("recover")
            self._live[name] = self._deleted.pop(name)
            return self._bundle(name, self._live[name][-1])
        if method == "DELETE":
            self._allow("purge")
            del self._deleted[name]
            return {}
        return self._deleted_item(name)

    def _item(self, name: str, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": f"{self.endpoint}/secrets/{name}/{row['version']}",
            "attributes": row["attributes"],
            "tags": row["tags"],
        }

    _bundle = _item

    def _deleted_item(self, name: str) -> dict[str, Any]:
        now = int(self.now())
        more = {"deletedDate": now, "scheduledPurgeDate": now + 7_776_000}
        return {
            **self._item(name, self._deleted[name][-1]),
            "recoveryId": f"{self.endpoint}/deletedsecrets/{name}",
            **more,
        }

    def _page(self, items: list[dict[str, Any]], query: dict[str, str], target: str) -> dict[str, Any]:
        # The vault promises no order; this one's is that of nobody's names.
        items = sorted(items, key=lambda item: item["id"][::-1])
        skip, size = int(query.get("$skiptoken", 0)), min(25, int(query.get("maxresults", 25)))
        more = skip + size < len(items)
        after = f"{self.endpoint}{urlsplit(target).path}?api-version={query['api-version']}&$skiptoken={skip + size}"
        return {"value": items[skip : skip + size], "nextLink": after if more else None}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, double: KeyVaultDouble, context: ssl.SSLContext) -> None:
        self.double = double
        super().__init__(("127.0.0.1", 0), _Handler)
        self._context = context

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        # The handshake belongs to the connection's own thread, or a slow client would hold up all others.
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that goes away in the middle is what tests do."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was asked is in ``seen``."""

    def _handle(self) -> None:
        double = self.server.double
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        headers: dict[str, str] = {}
        try:
            status, answer = 200, double.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
        except _Refusal as refusal:
            status, answer, headers = refusal.status, refusal.body, refusal.headers
        if double.lose and status == 200:
            double.lose -= 1
            self.close_connection = True
            return
        data = json.dumps(answer).encode() if answer else b""
        self.send_response(status if data else 204)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _handle


class DoubleCredential:
    """An identity whose token is the one that the double takes at the moment."""

    def __init__(self, vault: KeyVaultDouble) -> None:
        self._vault = vault
        self.asked: list[str] = []

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked += scopes
        return AccessToken(self._vault.token, int(time.time()) + 3600)

    async def close(self) -> None:
        """Nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
