"""The boundary of a handler or workflow: its parameters and result, validated against their annotations."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from .codec import decoder, encode
from .errors import DefinitionError, InvalidArgumentsError, InvalidResultError, SerializationError

__all__ = ["Signature"]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Signature:
    """Encodes, decodes and validates the arguments and the result of one function.

    Arguments travel as a map of parameter name to value (from typed callers) or as an array of positional values
    (from the shell). ``where`` names the function in errors.
    """

    def __init__(self, where: str, function: Callable[..., Any], *, skip: int) -> None:
        self.where = where
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except Exception as error:
            raise DefinitionError(f"{where}: its annotations can't be resolved: {error}") from error
        parameters = list(inspect.signature(function).parameters.values())[skip:]
        for parameter in parameters:
            if parameter.kind in _VARIADIC or parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                raise DefinitionError(
                    f"{where}: parameter {parameter.name!r} is variadic or positional-only; "
                    "arguments are stored by name, so declare each as an ordinary parameter"
                )
        self._signature = inspect.Signature(parameters)
        self.names = tuple(p.name for p in parameters)
        self.result_type: Any = hints.get("return", Any)
        fields: list[Any] = []
        for parameter in parameters:
            kind = hints.get(parameter.name, Any)
            if parameter.default is inspect.Parameter.empty:
                fields.append((parameter.name, kind))
            else:
                fields.append((parameter.name, typing.Union[kind, msgspec.UnsetType], msgspec.UNSET))  # noqa: UP007
        try:
            self._by_name = decoder(msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True))
            self._by_place = (
                decoder(msgspec.defstruct("Arguments", fields, array_like=True, forbid_unknown_fields=True))
                if _defaults_last(parameters)
                else self._by_name
            )
            self._result = decoder(self.result_type)
        except (SerializationError, TypeError) as error:
            raise DefinitionError(f"{where}: an annotation can't be validated: {error}") from error

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Bind and encode a call. Raises InvalidArgumentsError when it does not fit the parameters."""
        if not kwargs and len(args) == len(self.names):
            return encode(dict(zip(self.names, args, strict=True)))
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArgumentsError(
                f"{self.where}: {error}; it takes {self._signature}", method=self.where
            ) from error
        return encode(dict(bound.arguments))

    def decode(self, data: bytes) -> dict[str, Any]:
        """The validated arguments by name. Raises InvalidArgumentsError naming the argument and what would be right."""
        try:
            array = data[:1] and (0x90 <= data[0] <= 0x9F or data[0] in (0xDC, 0xDD))
            arguments = (self._by_place if array else self._by_name).decode(data)
        except msgspec.MsgspecError as error:
            raise InvalidArgumentsError(
                f"{self.where}: {error}; it takes {self._signature}", method=self.where
            ) from error
        values = {}
        for name in self.names:
            value = getattr(arguments, name)
            if value is not msgspec.UNSET:
                values[name] = value
        return values

    def encode_result(self, value: Any) -> bytes:
        """Encode and validate a result. Raises InvalidResultError naming where it does not fit the annotation."""
        try:
            data = encode(value)
            if value is not None or self.result_type not in (None, type(None)):
                self._result.decode(data)
            return data
        except SerializationError as error:
            raise InvalidResultError(
                f"{self.where} returned what can't be stored: {error}", method=self.where
            ) from error
        except msgspec.MsgspecError as error:
            raise InvalidResultError(
                f"{self.where} returned {type(value).__name__}, not {self.result_type}: {error}", method=self.where
            ) from error

    def decode_result(self, data: bytes) -> Any:
        """The result as its annotated type."""
        try:
            return self._result.decode(data)
        except msgspec.MsgspecError as error:
            raise InvalidResultError(f"{self.where}: the stored result is not {self.result_type}: {error}") from error

    def __str__(self) -> str:
        return f"{self.where}{self._signature}"


def _defaults_last(parameters: list[inspect.Parameter]) -> bool:
    seen = False
    for parameter in parameters:
        has_default = parameter.default is not inspect.Parameter.empty
        if seen and not has_default:
            return False
        seen = seen or has_default
    return True
