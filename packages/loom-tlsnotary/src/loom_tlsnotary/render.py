"""A verdict for people, with blocks where something is withheld, and as JSON."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from loom.ports import AuthenticatedBytes, HttpMessage, TLSNotaryVerdict

__all__ = ["as_json", "as_text"]

_BLOCK = "█"


def as_text(verdict: TLSNotaryVerdict) -> str:
    """Several lines. Control characters of what was said are shown as escapes: nothing reaches the terminal raw."""
    at = dt.datetime.fromtimestamp(verdict.time, dt.UTC)
    lines = [
        f"verified: {verdict.server_name} said this on {at:%Y-%m-%d at %H:%M:%S} UTC"
        if verdict.mode == "wasm"
        else "MOCK: nothing was verified",
        f"notary:   {verdict.notary_key}",
        f"proof:    sha256:{verdict.proof_hash}",
    ]
    for name, value in verdict.fields.items():
        lines.append(f"proven:   {name} = {msgspec.json.encode(value).decode()}")
    for title, part in (("sent", verdict.sent), ("received", verdict.received)):
        hidden = sum(end - start for start, end in part.redacted)
        lines += ["", f"--- {title}: {len(part.data)} bytes, {hidden} of them redacted ({_BLOCK})", _shown(part)]
    return "\n".join(lines)


def as_json(verdict: TLSNotaryVerdict) -> str:
    """One JSON document; bytes as base64."""
    plain: dict[str, Any] = {
        "verified": verdict.verified,
        "mode": verdict.mode,
        "server_name": verdict.server_name,
        "time": verdict.time,
        "notary_key": str(verdict.notary_key),
        "proof_hash": verdict.proof_hash,
        "fields": verdict.fields,
        "request": _message(verdict.request),
        "response": _message(verdict.response),
        "sent": verdict.sent,
        "received": verdict.received,
        "redacted_ranges": verdict.redacted_ranges,
    }
    return msgspec.json.encode(plain).decode()


def _message(message: HttpMessage | None) -> Any:
    return None if message is None else msgspec.structs.asdict(message)


def _shown(part: AuthenticatedBytes) -> str:
    pieces = []
    position = 0
    for start, end in (*part.redacted, (len(part.data), len(part.data))):
        text = part.data[position:start].decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        pieces.append("".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text))
        pieces.append(_BLOCK * min(end - start, 200))
        position = end
    return "".join(pieces)
