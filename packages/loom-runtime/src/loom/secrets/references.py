"""References: ``${secret:name}`` in configuration stands for a secret's value, and is replaced when it is needed.

``${secret:name@version}`` names a version. A secret's value may hold references in turn. ``$${`` is a plain ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec

from ..errors import ConfigurationError, InvalidKeyError, SecretError, SecretReferenceError
from ..plugins.urls import LoomURL
from ..ports.secrets import SecretValue
from .client import SecretsClient

__all__ = ["has_references", "resolve", "resolve_all", "resolve_url"]

_PART = re.compile(r"\$\$\{|\$\{secret:([a-z0-9-]+)(?:@([A-Za-z0-9]+))?\}|\$\{secret:?[^}]*\}?")
_START = "${secret"


def has_references(text: str) -> bool:
    """Whether ``resolve`` would look at more than the text."""
    return any(not found[0].startswith("$$") for found in _PART.finditer(text))


async def resolve(text: str, secrets: SecretsClient, *, where: str = "the configuration") -> SecretValue:
    """``text`` with every reference replaced. The result never shows itself, whatever it was made of.

    Raises SecretReferenceError, which names ``where`` and the way from reference to reference, for one that is
    malformed, leads to no secret that may be used, or leads back to itself; and what the store raises otherwise.
    """
    return SecretValue(await _resolve(text, secrets, where, (), str))


async def resolve_all(tree: Any, secrets: SecretsClient, *, where: str = "the configuration") -> Any:
    """A copy of dicts and lists in which each text with references is a SecretValue; all else stays as it is."""
    if isinstance(tree, str):
        return await resolve(tree, secrets, where=where) if has_references(tree) else _unescaped(tree)
    if isinstance(tree, dict):
        return {key: await resolve_all(value, secrets, where=f"{where}: {key}") for key, value in tree.items()}
    if isinstance(tree, list):
        return [await resolve_all(value, secrets, where=f"{where}[{n}]") for n, value in enumerate(tree)]
    return tree


async def resolve_url(url: LoomURL, secrets: SecretsClient, *, where: str = "the URL") -> LoomURL:
    """An adapter's URL with every reference replaced, percent-encoded; ``str()`` shows the references still.

    A reference may stand for the user's name, the password, or the value of an option in the query: what is of the
    host or the path is shown in messages. Raises ConfigurationError for one elsewhere, and what ``resolve`` raises.
    """
    if not has_references(url.raw):
        return url
    before, _, query = url.raw.partition("?")
    shown = before.rpartition("@")[2] if "@" in before else before.partition("://")[2]
    names = "".join(part.partition("=")[0] for part in query.split("&"))
    if _START in shown or _START in names:
        raise ConfigurationError(
            f"{where}: a ${{secret:…}} stands in the host, the path or an option's name, which messages show; it may "
            "stand for the user, the password or an option's value"
        )
    raw = await _resolve(url.raw, secrets, where, (), lambda text: quote(text, safe=""))
    return msgspec.structs.replace(LoomURL.parse(raw), shown=str(url))


async def _resolve(
    text: str, secrets: SecretsClient, where: str, path: tuple[str, ...], encode: Callable[[str], str]
) -> str:
    parts: list[str] = []
    end = 0
    for found in _PART.finditer(text):
        parts.append(text[end : found.start()])
        end = found.end()
        parts.append("${" if found[0] == "$${" else encode(await _value(found, secrets, where, path)))
    return "".join([*parts, text[end:]])


async def _value(found: re.Match[str], secrets: SecretsClient, where: str, path: tuple[str, ...]) -> str:
    name, version = found[1], found[2]
    if name is None:
        # Not repeated: in a secret's value it may be a part of the secret.
        what = "a malformed reference" if path else f"a malformed reference {found[0][:60]!r}"
        raise _bad(where, path, f"{what}; write ${{secret:name}} or ${{secret:name@version}}, or $${{ for a plain ${{")
    if name in path:
        raise _bad(where, (*path, name), "leads back to itself")
    path = (*path, name)
    try:
        value = (await secrets.get(name, version)).reveal()
    except (SecretError, InvalidKeyError) as error:
        raise _bad(where, path, str(error)) from error
    resolved = await _resolve(value, secrets, where, path, str) if has_references(value) else value
    if resolved != value:
        secrets.redactor.add(resolved)
    return resolved


def _bad(where: str, path: tuple[str, ...], why: str) -> SecretReferenceError:
    way = " -> ".join(f"${{secret:{name}}}" for name in path)
    return SecretReferenceError(f"{where}{f': {way}' if way else ''}: {why}", where=where, path=list(path))


def _unescaped(text: str) -> str:
    return text.replace("$${", "${")
