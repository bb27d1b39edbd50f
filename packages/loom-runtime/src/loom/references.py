"""References to actors: typed as the actor's class, exposing its handlers and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable
from hashlib import blake2b
from typing import Any, Protocol

from .actor import ActorType, Handler
from .errors import CallError, InvalidKeyError

__all__ = ["ActorMethod", "ActorRef", "Caller"]


class Caller(Protocol):
    """Whoever can carry out a call: an app, a client, a turn, a workflow."""

    def call_actor(self, method: ActorMethod, args: bytes) -> Awaitable[Any]:
        """Carry out the call and give its result."""


class ActorRef:
    """A reference to one actor. Making one does no I/O and needs no such actor to exist."""

    __slots__ = ("_caller", "_idempotency_key", "_key", "_kind", "_used")

    def __init__(self, caller: Caller, kind: ActorType, key: str, idempotency_key: str | None = None) -> None:
        if not isinstance(key, str):
            raise InvalidKeyError(f"the key of {kind.name} is {key!r}; keys are text, so pass str(…)")
        if idempotency_key is not None and (not isinstance(idempotency_key, str) or not idempotency_key):
            raise InvalidKeyError(f"the idempotency key of {kind.name} {key!r} is {idempotency_key!r}: give text")
        self._caller = caller
        self._kind = kind
        self._key = key
        self._idempotency_key = idempotency_key
        self._used = False

    def __getattr__(self, name: str) -> ActorMethod:
        handler = self._kind.handlers.get(name)
        if handler is None:
            raise AttributeError(
                f"{self._kind.name} {self._key!r} has no handler {name!r}; "
                f"a reference exposes public async defs only: {', '.join(self._kind.handlers) or 'there are none'}"
            )
        return ActorMethod(self, handler)

    def __repr__(self) -> str:
        return f"<reference to {self._kind.name} {self._key!r}>"


class ActorMethod:
    """A handler of a referenced actor: call it, or hand it to ``send``, ``remind`` or ``add_compensation``."""

    __slots__ = ("handler", "ref")

    def __init__(self, ref: ActorRef, handler: Handler) -> None:
        self.ref = ref
        self.handler = handler

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        encoded = self.handler.signature.encode(args, kwargs)
        ref = self.ref
        if ref._idempotency_key is not None:
            if ref._used:
                raise CallError(
                    f"{ref!r} with idempotency_key={ref._idempotency_key!r} was used already; "
                    "a key belongs to one call, so make a new reference"
                )
            ref._used = True
        return ref._caller.call_actor(self, encoded)

    @property
    def actor_type(self) -> str:
        """The name of the actor's class."""
        return self.ref._kind.name

    @property
    def key(self) -> str:
        """The actor's key."""
        return self.ref._key

    @property
    def idempotency_key(self) -> str | None:
        """The key that the caller gave, or None."""
        return self.ref._idempotency_key

    def __repr__(self) -> str:
        return f"<{self.handler.name} of {self.ref._kind.name} {self.ref._key!r}>"


def keyed_request(method: str, idempotency_key: str, args: bytes) -> tuple[str, bytes]:
    """The request id of a call with an idempotency key, and the fingerprint of its arguments."""
    return f"key/{method}/{idempotency_key}", blake2b(args, digest_size=12).digest()
