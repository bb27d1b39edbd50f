"""What a failed command means: it did not run, it may have run, or it can never run."""

from __future__ import annotations

import enum

from loom.errors import StoreUnavailableError

__all__ = ["Disconnected", "Meaning", "ReplyError", "meaning_of", "unavailable"]


class ReplyError(Exception):
    """An error that the server answered. ``code`` is its first word, such as ``LOADING`` or ``ERR``."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]


class Disconnected(Exception):
    """There is no connection (any more). ``sent`` is True when the command had left, so that it may have run."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class Meaning(enum.Enum):
    """What to do about a failure."""

    TRY_AGAIN = "it did not run, and may later"
    TRY_ELSEWHERE = "it did not run; another connection or server is the one to ask"
    UNKNOWN = "it may have run"
    REFUSED = "it did not run, and will not while the server stays as it is"


# The server answers with these before it runs anything.
_AGAIN = frozenset({"LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS"})
_ELSEWHERE = frozenset({"READONLY", "MOVED", "ASK"})


def meaning_of(error: Disconnected | ReplyError) -> Meaning:
    """Classify what a channel raised for one command."""
    if isinstance(error, Disconnected):
        return Meaning.UNKNOWN if error.sent else Meaning.TRY_ELSEWHERE
    if error.code in _AGAIN:
        return Meaning.TRY_AGAIN
    if error.code in _ELSEWHERE:
        return Meaning.TRY_ELSEWHERE
    return Meaning.REFUSED


_REMEDIES = {
    "OOM": "its memory is full (maxmemory) and nothing was written; free memory or give it more",
    "MISCONF": "it refuses writes because it cannot save to disk; look at its log and its disk",
    "NOPERM": "this user may not run the command; grant it in the server's ACL",
    "NOAUTH": "it asks for a password; write redis://user:password@host",
    "WRONGPASS": "the user name or the password is wrong",
    "WRONGTYPE": "a key under this namespace is not Loom's; choose another with ?namespace=",
}


def unavailable(error: Exception, where: str, *, unknown: bool = False) -> StoreUnavailableError:
    """The error to raise for a command that has failed for good. ``where`` names the server, without credentials."""
    code = error.code if isinstance(error, ReplyError) else ""
    remedy = _REMEDIES.get(code)
    text = f"{remedy} ({error})" if remedy else str(error)
    return StoreUnavailableError(f"Redis at {where}: {text}", unknown=unknown)
