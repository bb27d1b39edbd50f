"""What a failed command means: it did not run, it may have run, or it can never run."""

from __future__ import annotations

import enum
import re

from loom.errors import StoreUnavailableError

__all__ = ["Disconnected", "Meaning", "ReplyError", "meaning_of", "unavailable"]

_IN_A_SCRIPT = re.compile(r"ERR Error (?:running|compiling) script.*?: -([A-Z]+) ", re.DOTALL)


class ReplyError(Exception):
    """An error that the server answered. ``code`` is its first word, such as ``LOADING`` or ``ERR``.

    Of what a script met (before Redis 7 an ``ERR`` around the error proper) it is the word of that.
    """

    def __init__(self, text: str) -> None:
        # Servers repeat the arguments of a command that they do not know, and those of HELLO hold a password.
        text = text.partition(", with args beginning with")[0]
        super().__init__(text)
        self.code = text.partition(" ")[0]
        if self.code == "ERR":
            if found := _IN_A_SCRIPT.match(text):
                self.code = found[1]
            elif text.startswith("ERR max number of clients"):
                self.code = "MAXCLIENTS"


class Disconnected(Exception):
    """There is no connection (any more). ``sent`` is True when the command had left, so that it may have run.

    ``final`` says that trying again is of no use: a certificate that is not trusted, a server that is too old.
    """

    def __init__(self, reason: str, *, sent: bool, final: bool = False) -> None:
        super().__init__(reason)
        self.sent = sent
        self.final = final


class Meaning(enum.Enum):
    """What to do about a failure."""

    TRY_AGAIN = "it did not run, and may later"
    TRY_ELSEWHERE = "it did not run; another connection or server is the one to ask"
    UNKNOWN = "it may have run"
    REFUSED = "it did not run, and will not while the server stays as it is"


# The server answers with these before it runs anything.
_AGAIN = frozenset({"LOADING", "BUSY", "TRYAGAIN", "NOREPLICAS", "MAXCLIENTS"})
_ELSEWHERE = frozenset({"READONLY", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN"})


def meaning_of(error: Disconnected | ReplyError) -> Meaning:
    """Classify what a channel raised for one command."""
    if isinstance(error, Disconnected):
        if error.final:
            return Meaning.REFUSED
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
    "MOVED": "it is one node of a cluster; write redis+cluster://host:port",
    "ASK": "it is one node of a cluster; write redis+cluster://host:port",
    "CROSSSLOT": "the keys of one command lie in several slots of the cluster, which is a fault of the adapter",
    "MAXCLIENTS": "it has as many clients as it may (maxclients); raise that, or stop some",
    "BUSY": "a script keeps it busy; see SLOWLOG, and end it with SCRIPT KILL",
    "LOADING": "it still loads its data; give it more time with ?retry_for=",
    "READONLY": "it is a replica and takes no writes; name the master, or use redis+sentinel://",
    "NOREPLICAS": "it has fewer good replicas than min-replicas-to-write asks for, and nothing was written",
    "WRONGTYPE": "a key under this namespace is not Loom's; choose another with ?namespace=",
}


def unavailable(error: Exception, where: str, *, unknown: bool = False) -> StoreUnavailableError:
    """The error to raise for a command that has failed for good. ``where`` names the server, without credentials."""
    code = error.code if isinstance(error, ReplyError) else ""
    remedy = _REMEDIES.get(code)
    text = f"{remedy} ({error})" if remedy else str(error)
    return StoreUnavailableError(f"Redis at {where}: {text}", unknown=unknown)
