"""Secrets for apps: a caching client, references in configuration, and redaction of what must not be seen."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .client import SecretsClient

if TYPE_CHECKING:
    from .memory import InMemorySecretsClient
    from .redaction import RedactErrors, RedactionFilter, Redactor, redacting
    from .references import has_references, resolve, resolve_all, resolve_url

__all__ = [
    "InMemorySecretsClient",
    "RedactErrors",
    "RedactionFilter",
    "Redactor",
    "SecretsClient",
    "has_references",
    "redacting",
    "resolve",
    "resolve_all",
    "resolve_url",
]

_LATE = {
    "InMemorySecretsClient": "memory",
    "RedactErrors": "redaction",
    "RedactionFilter": "redaction",
    "Redactor": "redaction",
    "has_references": "references",
    "redacting": "redaction",
    "resolve": "references",
    "resolve_all": "references",
    "resolve_url": "references",
}


def __getattr__(name: str) -> Any:
    module = _LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{module}", __name__), name)
