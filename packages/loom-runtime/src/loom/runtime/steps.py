"""Steps: functions that touch the world, tried until they succeed or their retries are spent."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import random
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from ..clock import Clock
from ..codec import ErrorInfo, decoder, encode, error_info
from ..errors import InvalidResultError, SerializationError
from ..interceptors import Interceptor, StepInfo, nest
from .crashpoints import crash_point
from .messages import derived_id

__all__ = ["StepOutcome", "StepRunner", "step_info"]

_current: contextvars.ContextVar[StepInfo | None] = contextvars.ContextVar("loom_step", default=None)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


def step_info() -> StepInfo:
    """The step that is running here. Raises LookupError outside one."""
    info = _current.get()
    if info is None:
        raise LookupError("step_info() was called outside a step; only functions run by ctx.step have one")
    return info


class StepOutcome(msgspec.Struct, gc=False):
    """A value or an error; ``unknown`` when an attempt may have taken effect although none succeeded."""

    value: bytes | None = None
    error: ErrorInfo | None = None
    unknown: bool = False


class StepRunner:
    """Runs steps for a host."""

    def __init__(self, clock: Clock, interceptors: tuple[Interceptor, ...]) -> None:
        self._clock = clock
        self._interceptors = interceptors
        self._jitter = random.Random()

    async def run(
        self, stream: str, position: str, name: str, function: Callable[..., Any], args: tuple[Any, ...],
        kwargs: dict[str, Any], retries: int, timeout: float | None, *, incarnation: int = 0,
    ) -> StepOutcome:  # fmt: skip
        """Try up to ``retries + 1`` times. Pauses double from half a second to thirty, with a quarter of jitter."""
        key = derived_id(stream, str(incarnation), position)
        unknown, attempt = False, 0
        while True:
            attempt += 1
            info = StepInfo(stream=stream, name=name, position=position, idempotency_key=key, attempt=attempt)
            crash_point("step.before")
            try:
                value = await self._attempt(info, function, args, kwargs, timeout)
                crash_point("step.after")
                return StepOutcome(value=self._encode(name, function, value))
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                error: BaseException = RuntimeError(f"step {name} was cancelled from within")
                unknown = True
            except (InvalidResultError, SerializationError) as failure:
                # It ran; trying again would do it twice and fail the same way.
                return StepOutcome(error=error_info(failure), unknown=True)
            except TimeoutError as failure:
                error, unknown = failure, True
            except SystemExit as failure:
                return StepOutcome(
                    error=error_info(RuntimeError(f"step {name} tried to exit the process: {failure!r}")), unknown=True
                )
            except Exception as failure:
                error = failure
            if attempt > retries:
                return StepOutcome(error=error_info(error), unknown=unknown)
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1))
            await self._clock.sleep(pause * self._jitter.uniform(0.75, 1.25))

    async def _attempt(
        self, info: StepInfo, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        timeout: float | None,
    ) -> Any:  # fmt: skip
        token = _current.set(info)

        async def call() -> Any:
            if _is_coroutine_function(function):
                return await function(*args, **kwargs)
            value = await asyncio.to_thread(function, *args, **kwargs)
            return await value if inspect.isawaitable(value) else value

        proceed = nest(self._interceptors, "step", info, call) if self._interceptors else call
        try:
            if timeout is None:
                return await proceed()
            limit = asyncio.timeout(timeout)
            try:
                async with limit:
                    return await proceed()
            except TimeoutError as error:
                if limit.expired():
                    raise TimeoutError(
                        f"step {info.name} took longer than {timeout:g} s; its outcome is unknown"
                    ) from error
                raise
        finally:
            _current.reset(token)

    def decode_result(self, function: Callable[..., Any], data: bytes) -> Any:
        """A recorded result as the function's annotated type."""
        return _result_decoder(function).decode(data)

    def _encode(self, name: str, function: Callable[..., Any], value: Any) -> bytes:
        try:
            data = encode(value)
            _result_decoder(function).decode(data)
            return data
        except SerializationError as error:
            raise SerializationError(f"step {name} returned what can't be stored: {error}") from error
        except msgspec.MsgspecError as error:
            raise InvalidResultError(
                f"step {name} returned {type(value).__name__}, not what it declares: {error}"
            ) from error


@lru_cache(maxsize=4096)
def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function)


@lru_cache(maxsize=4096)
def _result_decoder(function: Callable[..., Any]) -> msgspec.msgpack.Decoder[Any]:
    target = getattr(function, "func", function)
    try:
        kind = typing.get_type_hints(target).get("return", Any)
    except Exception:
        kind = Any  # an annotation that can't be resolved promises nothing
    try:
        return decoder(kind)
    except SerializationError:
        return decoder(Any)
