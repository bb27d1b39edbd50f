"""One instance of the module: a fresh one for each proof, and closed after it.

The module is built for browsers by wasm-bindgen; this is the small part of a browser that verifying calls. Every other
import ends the proof.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import wasmtime

from loom.errors import (
    PresentationFormatError,
    PresentationInvalidError,
    TLSNotaryError,
    VerificationLimitError,
)

from .formats import describe
from .limits import Limits
from .opened import Opened, opened_from_output
from .releases import Release

__all__ = ["Instance"]

_PAGE = 2**16
_LARGE = 2**20
_MEMORY = "memory"


class _Undefined:
    """JavaScript's undefined."""


_UNDEFINED = _Undefined()


class _Stopped(Exception):
    """Ends the module's run from within an import; the reason is the instance's."""


class _Box:
    """wasmtime-py loses values that are false in Python on their way through a table; nothing boxed is."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _SharedMemory(wasmtime.SharedMemory):
    """wasmtime-py 50 passes a pointer to a pointer where the library wants the pointer."""

    def _as_extern(self) -> Any:
        ffi: Any = wasmtime._ffi
        union = ffi.wasmtime_extern_union(sharedmemory=self.ptr())
        return ffi.wasmtime_extern_t(ffi.WASMTIME_EXTERN_SHAREDMEMORY, union)


class Instance:
    """Used as ``with Instance(…) as instance: instance.open(presentation)``, in one thread.

    Memory, fuel, time and the length of results are bounded by ``limits``; ``ticks`` is the time in ticks of the
    engine's epoch.
    """

    def __init__(
        self, engine: wasmtime.Engine, module: wasmtime.Module, release: Release, limits: Limits, ticks: int
    ) -> None:
        self._limits = limits
        self._failure: TLSNotaryError | None = None
        self._panic = ""
        self._release = release
        self._store = wasmtime.Store(engine)
        self._store.set_fuel(limits.fuel)
        self._store.set_epoch_deadline(ticks)
        self._memories: list[Any] = []
        try:
            self._exports = self._instantiate(engine, module)
        except Exception as error:
            told = self._told(error)
            self.close()
            raise told from None

    def _instantiate(self, engine: wasmtime.Engine, module: wasmtime.Module) -> Any:
        imports: list[Any] = []
        for wanted in module.imports:
            if wanted.name == _MEMORY:
                kind: Any = wanted.type
                most = self._limits.memory // _PAGE
                shared = wasmtime.MemoryType(wasmtime.Limits(kind.limits.min, most), shared=True)
                self._memory = _SharedMemory(engine, shared)
                self._memories.append(self._memory)
                imports.append(self._memory)
            else:
                imports.append(wasmtime.Func(self._store, wanted.type, self._function(wanted.name or "", wanted.type)))  # type: ignore[arg-type]
        exports: Any = wasmtime.Instance(self._store, module, imports).exports(self._store)
        self._memories.append(exports[_MEMORY])
        self._table = next(
            exports[one.name] for one in module.exports
            if isinstance(one.type, wasmtime.TableType) and one.type.element == wasmtime.ValType.externref()
        )  # fmt: skip
        self._exports = exports
        exports["__wbindgen_start"](self._store, 0)
        return exports

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free everything at once: what is left to the collector keeps the callbacks of every proof alive."""
        for memory in self._memories:
            memory.close()
        self._store.close()

    def open(self, presentation: bytes) -> Opened:
        """What the presentation proves by the notary's signature. Raises a TLSNotaryError."""
        try:
            return self._open(presentation)
        except TLSNotaryError:
            raise
        except Exception as error:
            # wasmtime-py keeps the last exception of all threads in one place, so it may be another proof's _Stopped:
            # what counts is what this instance knows of itself.
            raise self._told(error) from None

    def _open(self, presentation: bytes) -> Opened:
        exports, store = self._exports, self._store
        try:
            place = exports["__wbindgen_malloc"](store, len(presentation), 1)
        except wasmtime.Trap:
            raise self._too_large() from None
        self._write(place, presentation)
        handle, error, failed = exports["presentation_deserialize"](store, place, len(presentation))
        if failed:
            raise PresentationFormatError(describe(presentation, self._release.protocol, self._taken(error)))
        if self._written_length(handle) != len(presentation):
            # The module ignores what follows. It writes some parts in any order, so that only lengths compare.
            raise PresentationFormatError("there is more than a presentation: something follows it")
        key = exports["presentation_verifying_key"](store, handle)
        output, error, failed = exports["presentation_verify"](store, handle)
        if failed:
            raise PresentationInvalidError(f"the presentation does not verify: {self._taken(error)}")
        return opened_from_output(key.value if isinstance(key, _Box) else key, self._taken(output))

    def _told(self, error: Exception) -> TLSNotaryError:
        """The error for what ended the run: a limit, or else that the module gave up on the presentation."""
        if self._failure is not None:
            return self._failure
        try:
            out_of_fuel = self._store.get_fuel() == 0
        except wasmtime.WasmtimeError:
            out_of_fuel = False
        if out_of_fuel or "all fuel consumed" in str(error):
            return VerificationLimitError(f"the proof takes more than {self._limits.fuel} units of work", limit="fuel")
        if isinstance(error, wasmtime.Trap) and error.trap_code is wasmtime.TrapCode.INTERRUPT:
            return VerificationLimitError(f"the proof takes longer than {self._limits.seconds:g} s", limit="seconds")
        if "capacity overflow" in self._panic or "memory allocation" in self._panic or self._is_full():
            return self._too_large()
        return PresentationInvalidError(
            "the module gave up on the presentation, which is malformed or wants more than "
            f"{self._limits.memory // 2**20} MiB of memory: {self._panic[:200] or type(error).__name__}"
        )

    def _too_large(self) -> VerificationLimitError:
        return VerificationLimitError(
            f"the proof takes more than {self._limits.memory // 2**20} MiB of memory", limit="memory"
        )

    def _is_full(self) -> bool:
        """Whether the memory could not have grown by what the module would have asked for next."""
        return bool(self._memories) and self._memory.data_len() > self._limits.memory - _LARGE

    def _written_length(self, handle: int) -> int:
        """The bytes that the module takes to write the presentation."""
        place, length = self._exports["presentation_serialize"](self._store, handle)
        self._exports["__wbindgen_free"](self._store, place, length, 1)
        return int(length)

    # -- memory and values ---------------------------------------------------------------------------------------

    def _address(self, place: int, length: int) -> int:
        if place + length > self._memory.data_len():
            raise PresentationInvalidError("the module names memory that it does not have")
        return ctypes.addressof(self._memory.data_ptr().contents) + place

    def _read(self, place: int, length: int) -> bytes:
        place, length = place & 0xFFFFFFFF, length & 0xFFFFFFFF
        return ctypes.string_at(self._address(place, length), length)

    def _write(self, place: int, data: bytes) -> None:
        place &= 0xFFFFFFFF
        ctypes.memmove(self._address(place, len(data)), data, len(data))

    def _text(self, place: int, length: int) -> str:
        return self._read(place, length).decode("utf-8", "replace")

    def _return_text(self, place: int, text: str) -> None:
        data = text.encode()
        where = self._exports["__wbindgen_malloc"](self._store, len(data), 1) & 0xFFFFFFFF
        self._write(where, data)
        self._write(place, where.to_bytes(4, "little") + len(data).to_bytes(4, "little"))

    def _taken(self, index: int) -> Any:
        value = self._table.get(self._store, index)
        self._exports["__externref_table_dealloc"](self._store, index)
        return value.value if isinstance(value, _Box) else value

    # -- what the module imports ---------------------------------------------------------------------------------

    def _function(self, name: str, kind: wasmtime.FuncType) -> Callable[..., Any]:
        short = self._release.imports.get(name) or name.removeprefix("__wbindgen_")
        called: Callable[..., Any] | None = getattr(self, f"_js_{short}", None)
        if called is None:
            return lambda *_: self._fail(PresentationInvalidError(f"the module called {name}, which no proof does"))
        boxed = [str(result) for result in kind.results] == ["anyref"]

        def call(*arguments: Any) -> Any:
            given = [one.value if type(one) is _Box else one for one in arguments]
            result = called(*given)
            return _Box(result) if boxed else result

        return call

    def _fail(self, error: TLSNotaryError) -> None:
        self._failure = self._failure or error
        raise _Stopped

    def _js_init_externref_table(self) -> None:
        first = self._table.grow(self._store, 4, None)
        self._table.set(self._store, 0, _Box(_UNDEFINED))
        for offset, value in enumerate((_UNDEFINED, None, True, False)):
            self._table.set(self._store, first + offset, _Box(value))

    def _js_string_new(self, place: int, length: int) -> str:
        return self._text(place, length)

    def _js_error_new(self, place: int, length: int) -> str:
        return self._text(place, length)

    def _js_number_new(self, value: float) -> float:
        return value

    def _js_bigint_from_u64(self, value: int) -> int:
        return value & (2**64 - 1)

    def _js_bigint_from_i64(self, value: int) -> int:
        return value

    def _js_is_undefined(self, value: Any) -> int:
        return int(value is _UNDEFINED)

    def _js_debug_string(self, place: int, value: Any) -> None:
        self._return_text(place, str(value))

    def _js_throw(self, place: int, length: int) -> None:
        self._fail(PresentationInvalidError(f"the presentation does not verify: {self._text(place, length)[:200]}"))

    def _js_new_object(self) -> dict[str, Any]:
        return {}

    def _js_new_array(self) -> list[Any]:
        return []

    def _js_new_error(self) -> str:
        return ""

    def _js_set_key(self, target: dict[str, Any], key: str, value: Any) -> None:
        target[key] = value

    def _js_set_index(self, target: list[Any], index: int, value: Any) -> None:
        if not 0 <= index < self._limits.transcript:
            self._fail(
                VerificationLimitError(
                    f"the transcript is longer than {self._limits.transcript} bytes", limit="transcript"
                )
            )
        target.extend([0] * (index + 1 - len(target)))
        target[index] = value

    def _js_stack(self, place: int, value: Any) -> None:
        self._return_text(place, "")

    def _js_console_error(self, place: int, length: int) -> None:
        """The panic hook's message, which says more than the trap that follows."""
        self._panic = self._text(place, length)
        self._exports["__wbindgen_free"](self._store, place, length, 1)
