"""JSON pointers into a body of which the end may be withheld.

A value is proven when every byte from the beginning of the body to the end of the value is: a redaction before it could
hide a quote or a brace, and so move it into another object. Only of a whole body is it known that no name comes twice.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, NoReturn

from loom.errors import FieldNotAuthenticatedError
from loom.ports import HttpMessage, TLSNotaryPolicy

__all__ = ["require_fields"]

_SPACE = re.compile(r"[ \t\n\r]*")


class _Hidden(Exception):
    """The proven beginning of the body does not reach as far, or is no JSON."""


class _Missing(Exception):
    """There is no such value."""


def require_fields(response: HttpMessage | None, policy: TLSNotaryPolicy) -> dict[str, Any]:
    """The values of the policy's pointers. Raises FieldNotAuthenticatedError naming the first that is not proven."""
    if not policy.require_fields:
        return {}
    if response is None or response.body is None:
        raise FieldNotAuthenticatedError("the response's body is not proven, or its coding cannot be undone")
    if not (response.body_certain or policy.trust_framing):
        raise FieldNotAuthenticatedError(
            "where the response's body begins and ends is not proven: part of its headers is redacted, or its end is "
            "missing; reveal the headers, or set trust_framing if the prover's word does for that"
        )
    whole = not response.body_redacted
    end = len(response.body) if whole else response.body_redacted[0][0]
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(response.body[:end], final=whole)
        root = _parse(text) if whole else None
    except (ValueError, RecursionError) as error:
        raise FieldNotAuthenticatedError(f"the response's body is no JSON: {str(error)[:200]}") from None
    found = {}
    for pointer in policy.require_fields:
        tokens = _tokens(pointer)
        try:
            found[pointer] = _resolve(root, tokens) if whole else _scan(text, tokens)
        except (_Hidden, ValueError, RecursionError):
            raise FieldNotAuthenticatedError(
                f"the field {pointer!r} is not proven: everything before it must be revealed, and what ends it",
                field=pointer,
            ) from None
        except _Missing:
            raise FieldNotAuthenticatedError(f"the response's body has no field {pointer!r}", field=pointer) from None
    return found


def _tokens(pointer: str) -> list[str]:
    if (pointer and not pointer.startswith("/")) or re.search(r"~(?![01])", pointer):
        raise FieldNotAuthenticatedError(
            f"{pointer!r} is no JSON pointer: write /name/0/name, with ~0 for ~ and ~1 for /", field=pointer
        )
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a name twice, which may be read in two ways")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_no_constant)


def _parse(text: str) -> Any:
    return _DECODER.decode(text)


def _resolve(value: Any, tokens: list[str]) -> Any:
    for token in tokens:
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and _index(token) is not None and int(token) < len(value):
            value = value[int(token)]
        else:
            raise _Missing
    return value


def _index(token: str) -> int | None:
    return int(token) if re.fullmatch(r"0|[1-9][0-9]{0,8}", token) else None


def _scan(text: str, tokens: list[str], position: int = 0) -> Any:
    """The value at ``tokens`` in the beginning of a text, as far as that decides it."""
    position = _skip(text, position)
    if not tokens:
        return _value(text, position)[0]
    opening = _character(text, position)
    if opening not in "{[":
        raise _Missing
    named = opening == "{"
    wanted = tokens[0] if named else _index(tokens[0])
    position = _skip(text, position + 1)
    count = 0
    while True:
        if _character(text, position) in "}]":
            raise _Missing
        key: Any = count
        if named:
            key, position = _value(text, position)
            position = _expect(text, _skip(text, position), ":")
        if key == wanted:
            return _scan(text, tokens[1:], position)
        _, position = _value(text, _skip(text, position))
        position = _skip(text, position)
        if _character(text, position) in "}]":
            raise _Missing
        position = _skip(text, _expect(text, position, ","))
        count += 1


def _value(text: str, position: int) -> tuple[Any, int]:
    value, end = _DECODER.raw_decode(text, position)
    if isinstance(value, int | float) and not isinstance(value, bool):
        following = _character(text, end)  # a number goes on until something ends it
        if following not in ",}] \t\r\n":
            raise _Hidden
    return value, end


def _character(text: str, position: int) -> str:
    if position >= len(text):
        raise _Hidden
    return text[position]


def _expect(text: str, position: int, character: str) -> int:
    if _character(text, position) != character:
        raise _Hidden
    return position + 1


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position
