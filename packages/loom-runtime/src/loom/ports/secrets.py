"""SecretsStore: named secrets in versions, with values that never show themselves."""

from __future__ import annotations

import hmac
from abc import abstractmethod
from typing import Any, NoReturn, Self

import msgspec

from ..errors import SecretNotFoundError
from .port import Port

__all__ = ["MAX_SECRET_BYTES", "MIN_VERSIONS", "Rotation", "Secret", "SecretValue", "SecretVersion", "SecretsStore"]

MAX_SECRET_BYTES = 24 * 1024
"""The most bytes of a value in UTF-8."""

MIN_VERSIONS = 80
"""So many versions of a secret every store keeps at least; it may drop those before them."""


class SecretValue:
    """Text that is shown by ``reveal()`` and by nothing else.

    ``str``, ``repr`` and ``format`` give ``***``; json, msgspec and pickle refuse it. Equal to another SecretValue of
    the same text, compared in constant time; not hashable, so that it becomes no key of a dict.
    """

    __slots__ = ("_text",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, text: str) -> None:
        """Raises TypeError, without showing it, for what is not text."""
        if not isinstance(text, str):
            raise TypeError(f"the value of a secret is text, not {type(text).__name__}")
        self._text = text

    @classmethod
    def of(cls, value: SecretValue | str) -> SecretValue:
        """``value`` itself, or text as a SecretValue."""
        return value if isinstance(value, SecretValue) else cls(value)

    def reveal(self) -> str:
        """The text. What is done with it from here on is the caller's."""
        return self._text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretValue):
            return NotImplemented
        return hmac.compare_digest(_encoded(self._text), _encoded(other._text))

    def __repr__(self) -> str:
        return "SecretValue(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a SecretValue cannot be pickled; pass the secret's name, and get the value where it is used")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class SecretVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one version of a secret, without its value. Times are Unix time.

    ``version`` is opaque. A version may be used while it is ``enabled``, from ``not_before`` on, and before
    ``expires_at``; None sets no bound.
    """

    name: str
    version: str
    created_at: float
    enabled: bool = True
    not_before: float | None = None
    expires_at: float | None = None

    def usable(self, now: float) -> bool:
        """Whether it may be used at ``now``."""
        return (
            self.enabled
            and (self.not_before is None or self.not_before <= now)
            and (self.expires_at is None or now < self.expires_at)
        )


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A value with the version that it is. Can't be encoded, as its value can't."""

    about: SecretVersion
    value: SecretValue


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """A secret's current version changed from ``old`` (None: there was none) to ``new``. Holds no value."""

    name: str
    old: SecretVersion | None
    new: SecretVersion


class SecretsStore(Port):
    """Secrets by name, each in versions.

    Names are 1 to 90 of ``a``-``z``, ``0``-``9`` and ``-``, which every backend can hold, even behind a
    namespace; others are an InvalidKeyError. Values are text of 1 to MAX_SECRET_BYTES bytes in UTF-8.

    The **current** version of a secret is the newest whose ``not_before`` has come; a version that is set for later
    leaves the one before it current until then. A current version that is disabled or has expired is *not* stepped
    over: whoever disabled it does not want an older one used.

    A backend may round times to whole seconds. Reads by name see every write reported before; lists over names may
    lag. No error, fact or record shows a value.
    """

    @abstractmethod
    async def set(
        self,
        name: str,
        value: SecretValue | str,
        *,
        not_before: float | None = None,
        expires_at: float | None = None,
    ) -> SecretVersion:
        """Add a version, which is the newest then; earlier ones stay as they are.

        Raises SecretDeletedError when the name is that of a deleted secret that can still be recovered; TooLargeError
        for a larger value; ValueError for an empty one or a life that ends before it begins.
        """

    @abstractmethod
    async def get(self, name: str, version: str | None = None) -> Secret:
        """The current version, or the one named.

        Raises SecretNotFoundError for an unknown name or version and for a deleted secret; SecretDisabledError,
        SecretExpiredError or SecretNotYetValidError for a version that may not be used now.
        """

    @abstractmethod
    async def versions(self, name: str) -> list[SecretVersion]:
        """Every version, the newest first, usable or not. Raises SecretNotFoundError."""

    @abstractmethod
    async def list(
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None
    ) -> tuple[list[SecretVersion], str | None]:
        """The newest version of each secret in the order of names, with the cursor of the next page or None.

        A page holds at most ``limit``, and may hold fewer although more follow. Never reads a value. Where telling the
        newest version's id would take a request for each secret, ``version`` is empty; ``versions`` tells it.
        """

    @abstractmethod
    async def update(
        self,
        name: str,
        version: str,
        *,
        enabled: bool | msgspec.UnsetType = msgspec.UNSET,
        not_before: float | msgspec.UnsetType | None = msgspec.UNSET,
        expires_at: float | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> SecretVersion:
        """Enable or disable a version, or move its bounds; what is not given stays. Values never change.

        Where a backend can't take a bound away, None moves it to where it bounds nothing. Raises SecretNotFoundError.
        """

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Delete a secret with all its versions; with SOFT_DELETE it can be recovered. Raises SecretNotFoundError."""

    async def rotate(self, name: str, value: SecretValue | str, *, overlap: float = 0.0) -> Rotation:
        """Add a version, and let the earlier ones end ``overlap`` seconds after it was made, unless they end before.

        Until then both open what they open, so that their users can change over one by one. Interrupted between the
        two, the earlier versions keep their ends; rotating again, or ``update``, gives them one. Raises what ``set``
        raises, and SecretNotFoundError for a secret that does not exist; ValueError for a negative overlap.
        """
        if not overlap >= 0:
            raise ValueError(f"overlap={overlap}: it is seconds, and not negative")
        earlier = await self.versions(name)
        new = await self.set(name, value)
        ends = new.created_at + overlap
        for about in earlier:
            begins = about.not_before or 0.0
            if begins < ends and (about.expires_at is None or about.expires_at > ends):
                await self.update(name, about.version, expires_at=ends)
        began = [about for about in earlier if (about.not_before or 0.0) <= new.created_at]
        return Rotation(name=name, old=began[0] if began else None, new=new)

    async def deleted(
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None
    ) -> tuple[list[str], str | None]:  # type: ignore[valid-type]  # the method above is called list
        """Names of deleted secrets that can be recovered, in their order; none without SOFT_DELETE."""
        return [], None

    async def recover(self, name: str) -> None:
        """Undo a deletion: all versions are as they were. Raises SecretNotFoundError when nothing can be recovered."""
        raise SecretNotFoundError(f"there is no deleted secret {name!r}: this store deletes for good", name=name)

    async def purge(self, name: str) -> None:
        """Forget a deleted secret for good, and free its name. Raises SecretNotFoundError when it is not deleted."""
        raise SecretNotFoundError(f"there is no deleted secret {name!r}: this store deletes for good", name=name)
