"""How values become bytes: MessagePack by msgspec, with dataclasses and pydantic models beside msgspec's own types."""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from typing import Any

import msgspec

from .errors import LoomError, RemoteError, SerializationError

__all__ = ["ErrorInfo", "PayloadCodec", "decode", "decoder", "encode", "error_from", "error_info", "from_builtins"]


class PayloadCodec:
    """Wraps what is stored: entries, snapshots and queued messages. Compression and encryption are codecs.

    ``decode(encode(data)) == data`` must hold on every host of the fleet. Both are called on the event loop and must
    not block. ``decode`` raises ValueError for bytes that ``encode`` did not make.
    """

    def encode(self, data: bytes) -> bytes:
        """The bytes to store."""
        return data

    def decode(self, data: bytes) -> bytes:
        """The bytes that were given to ``encode``."""
        return data


def _encode_hook(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="python")
    raise TypeError(
        f"{type(value).__module__}.{type(value).__qualname__} can't be serialised; use builtin types, "
        "dataclasses, msgspec Structs or pydantic models"
    )


def _decode_hook(kind: Any, value: Any) -> Any:
    validate = getattr(kind, "model_validate", None)
    if validate is not None:
        try:
            return validate(value)
        except ValueError as error:
            raise ValueError(str(error)) from error
    raise TypeError(
        f"{kind!r} can't be deserialised; use builtin types, dataclasses, msgspec Structs or pydantic models"
    )


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_hook)


def encode(value: Any) -> bytes:
    """The bytes of ``value``. Raises SerializationError naming the type that can't be serialised."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise SerializationError(str(error)) from error


@lru_cache(maxsize=4096)
def _cached_decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind, dec_hook=_decode_hook)


def decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """A validating decoder for a type annotation. Raises SerializationError when the type can't be decoded at all."""
    try:
        try:
            return _cached_decoder(kind)
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            return msgspec.msgpack.Decoder(kind, dec_hook=_decode_hook)
    except TypeError as error:
        raise SerializationError(f"{kind!r}: {error}") from error


def decode(data: bytes, kind: Any = Any) -> Any:
    """The value in ``data``, validated against ``kind``. Raises msgspec.ValidationError naming the field's path."""
    return decoder(kind).decode(data)


def from_builtins(value: Any, kind: Any) -> Any:
    """``value`` (dicts, lists, numbers, text) as ``kind``. Raises msgspec.ValidationError naming the field's path."""
    return msgspec.convert(value, kind, dec_hook=_decode_hook)


class ErrorInfo(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An exception as it travels: where its type is found, what it says, and its arguments where they can travel."""

    module: str
    name: str
    message: str
    args: msgspec.Raw = msgspec.Raw(b"\xc0")
    context: msgspec.Raw = msgspec.Raw(b"\xc0")
    notes: tuple[str, ...] = ()

    @property
    def type_name(self) -> str:
        """The dotted name of the exception's type."""
        return f"{self.module}.{self.name}"


def error_info(error: BaseException) -> ErrorInfo:
    """Describe ``error``. Never fails: arguments that can't be serialised travel as the message only."""
    kind = type(error)
    notes = tuple(str(note) for note in getattr(error, "__notes__", ()))
    if isinstance(error, RemoteError) and error.type_name:
        module, _, name = error.type_name.rpartition(".")
        message = str(error).removeprefix(f"{error.type_name}: ")
        return ErrorInfo(module, name, message, notes=notes)
    try:
        args = msgspec.Raw(encode(list(error.args)))
    except SerializationError:
        args = msgspec.Raw(encode([str(error)]))
    context = msgspec.Raw(b"\xc0")
    if isinstance(error, LoomError):
        plain = {k: v for k, v in error.context.items() if isinstance(v, str | int | float | bool | list | tuple)}
        context = msgspec.Raw(encode(plain))
    return ErrorInfo(kind.__module__, kind.__qualname__, str(error), args, context, notes)


def error_from(info: ErrorInfo) -> Exception:
    """The exception as its own type where that is importable, else RemoteError; with its notes."""
    error = _error_from(info)
    for note in info.notes:
        error.add_note(note)
    return error


def _error_from(info: ErrorInfo) -> Exception:
    kind = _exception_type(info.module, info.name)
    if kind is None:
        return RemoteError(f"{info.type_name}: {info.message}", type_name=info.type_name)
    if issubclass(kind, LoomError):
        error = kind.__new__(kind)
        context = decode(bytes(info.context)) or {}
        Exception.__init__(error, info.message)
        error.context = context
        for name, value in context.items():
            error.__dict__.setdefault(name, value)
        return error
    try:
        args = decode(bytes(info.args)) or []
        return kind(*args)
    except Exception:
        return RemoteError(f"{info.type_name}: {info.message}", type_name=info.type_name)


def _exception_type(module: str, name: str) -> type[Exception] | None:
    if "<locals>" in name:
        return None
    try:
        found: Any = sys.modules.get(module) or importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception:
        return None
    return found if isinstance(found, type) and issubclass(found, Exception) else None
