"""What the module makes of a presentation: proven by the notary's signature, and not yet judged."""

from __future__ import annotations

from typing import Any

import msgspec

from loom.errors import PresentationInvalidError
from loom.ports import AuthenticatedBytes, NotaryKey

__all__ = ["Opened", "opened_from_output"]

_ALGORITHMS = {1: "secp256k1", 2: "secp256r1"}


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """``time`` is Unix time in whole seconds. ``server_name``, ``sent`` and ``received`` may be left out by a prover.

    The name is one that the server's certificate covers, chosen by the prover among those: see ``checks``.
    """

    notary_key: NotaryKey
    time: int
    server_name: str | None = None
    sent: AuthenticatedBytes | None = None
    received: AuthenticatedBytes | None = None


def opened_from_output(key: Any, output: Any) -> Opened:
    """From the two objects that the module returns, ``verifying_key()`` and ``verify()``.

    Raises PresentationInvalidError for whatever does not have the form that they are known to have.
    """
    try:
        info = output["connection_info"]
        transcript = output.get("transcript")
        name = output.get("server_name")
        sent = received = None
        if isinstance(transcript, dict):
            sent = _direction(transcript, "sent")
            received = _direction(transcript, "recv")
        return Opened(
            notary_key=NotaryKey(_ALGORITHMS[int(key["alg"])], bytes(map(int, key["data"]))),  # type: ignore[arg-type]
            time=int(info["time"]),
            server_name=name if isinstance(name, str) else None,
            sent=sent,
            received=received,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise PresentationInvalidError(
            f"the module verified the presentation and returned what it never did before ({type(error).__name__})"
        ) from error


def _direction(transcript: dict[str, Any], name: str) -> AuthenticatedBytes:
    ranges = tuple((int(one["start"]), int(one["end"])) for one in transcript[f"{name}_authed"])
    return AuthenticatedBytes(bytes(map(int, transcript[name])), ranges)
