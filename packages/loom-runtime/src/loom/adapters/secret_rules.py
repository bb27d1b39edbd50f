"""What every secrets store decides in the same way: names, values, which version is current, what may be used."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import (
    InvalidKeyError,
    SecretDeletedError,
    SecretDisabledError,
    SecretError,
    SecretExpiredError,
    SecretNotFoundError,
    SecretNotYetValidError,
    TooLargeError,
)
from ..ports.secrets import MAX_SECRET_BYTES, SecretValue, SecretVersion

__all__ = [
    "check_bounds",
    "check_limit",
    "check_name",
    "check_prefix",
    "check_usable",
    "check_value",
    "current",
    "deleted",
    "missing",
    "named",
]

_NAME = re.compile(r"[a-z0-9-]{1,90}")


def check_name(name: str) -> None:
    """Raise InvalidKeyError, with a name that would do, unless ``name`` is one that every backend can hold."""
    if not _NAME.fullmatch(name):
        near = re.sub(r"[^a-z0-9]+", "-", name[:90].lower()).strip("-")
        hint = f", for example {near!r}" if near else ""
        raise InvalidKeyError(
            f"{name[:130]!r} is no secret's name: it is 1 to 90 of a-z, 0-9 and -{hint}", what="secret"
        )


def check_prefix(prefix: str) -> None:
    """Raise InvalidKeyError unless names can begin with ``prefix``; the empty one fits all."""
    if prefix:
        check_name(prefix)


def check_value(name: str, value: SecretValue | str) -> SecretValue:
    """The value as a SecretValue. Raises ValueError or TooLargeError, which don't show it."""
    text = SecretValue.of(value)
    try:
        size = len(text.reveal().encode())
    except UnicodeEncodeError:
        # Not chained: the cause holds the value.
        raise ValueError(f"the value for secret {name!r} holds a lone surrogate and is not text") from None
    if not size:
        raise ValueError(f"the value for secret {name!r} is empty; delete or disable the secret instead")
    if size > MAX_SECRET_BYTES:
        raise TooLargeError(
            f"the value for secret {name!r} has {size} bytes, and {MAX_SECRET_BYTES} is the most; keep large data in "
            "blobs, and its key here",
            name=name,
            size=size,
        )
    return text


def check_bounds(name: str, not_before: float | None, expires_at: float | None) -> None:
    """Raise ValueError for a life that ends before it begins."""
    if not_before is not None and expires_at is not None and expires_at <= not_before:
        raise ValueError(f"secret {name!r}: expires_at={expires_at} is not after not_before={not_before}")


def check_limit(limit: int) -> None:
    """Raise ValueError unless a page may hold at least one secret."""
    if limit < 1:
        raise ValueError(f"limit={limit}: a page holds at least one secret")


def current(versions: Sequence[SecretVersion], now: float) -> SecretVersion:
    """The current one of versions that are given newest first: the first whose time has come.

    Raises SecretNotYetValidError when none's has.
    """
    for version in versions:
        if version.not_before is None or version.not_before <= now:
            return version
    raise _unusable(versions[-1], SecretNotYetValidError, f"is valid from {versions[-1].not_before:.0f} (Unix time) on")


def named(name: str, versions: Sequence[SecretVersion], version: str) -> SecretVersion:
    """The version of that id. Raises SecretNotFoundError."""
    for about in versions:
        if about.version == version:
            return about
    raise SecretNotFoundError(
        f"secret {name!r} has no version {version[:80]!r}; loom secrets versions {name} lists them", name=name
    )


def check_usable(about: SecretVersion, now: float) -> None:
    """Raise what is in the way of using the version now."""
    if not about.enabled:
        raise _unusable(about, SecretDisabledError, "is disabled")
    if about.not_before is not None and now < about.not_before:
        raise _unusable(about, SecretNotYetValidError, f"is valid from {about.not_before:.0f} (Unix time) on")
    if about.expires_at is not None and about.expires_at <= now:
        raise _unusable(about, SecretExpiredError, f"expired at {about.expires_at:.0f} (Unix time); set a new version")


def missing(name: str) -> SecretNotFoundError:
    """The error for a secret that does not exist."""
    return SecretNotFoundError(f"there is no secret {name!r}; make it with loom secrets set {name}", name=name)


def deleted(name: str) -> SecretDeletedError:
    """The error for writing under the name of a deleted secret."""
    return SecretDeletedError(
        f"secret {name!r} is deleted and can be recovered; loom secrets recover {name}, or loom secrets purge {name} "
        "and then set it anew",
        name=name,
    )


def _unusable(about: SecretVersion, kind: type[SecretError], why: str) -> SecretError:
    return kind(f"secret {about.name!r}, version {about.version}, {why}", name=about.name, version=about.version)
