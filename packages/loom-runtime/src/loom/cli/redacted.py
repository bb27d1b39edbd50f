"""What a command must not show: the secrets that the apps it has opened have read."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..secrets.redaction import Redactor

__all__ = ["begin", "know", "redacted"]

_known: ContextVar[list[Redactor] | None] = ContextVar("loom_cli_redactors", default=None)


def begin() -> None:
    """A command begins, and knows no secret yet."""
    _known.set([])


def know(redactor: Redactor) -> None:
    """Take out what this redactor knows, now and later."""
    known = _known.get()
    if known is not None and redactor not in known:
        known.append(redactor)


def redacted(text: str) -> str:
    """The text without the secrets that are known."""
    for redactor in _known.get() or ():
        text = redactor.redact(text)
    return text
