"""The names of keys. Everything under one ``{tag}`` lies in one slot of a cluster, so that one script can touch it."""

from __future__ import annotations

__all__ = ["tag", "untag"]

_ESCAPES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


def tag(name: str) -> str:
    """``name`` as it stands between the braces of a hash tag: its own braces and percent signs are escaped."""
    return name.translate(_ESCAPES) if "%" in name or "{" in name or "}" in name else name


def untag(text: str) -> str:
    """The name that ``tag`` made ``text`` of."""
    return text.replace("%7D", "}").replace("%7B", "{").replace("%25", "%") if "%" in text else text
