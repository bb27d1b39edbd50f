"""What a turn asks of its actor: steps and answers to be recorded, messages and reminders to be collected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..actor import ActorType
from ..errors import UnknownMethodError
from ..references import ActorMethod
from . import actor_commit
from .actor_state import Committed
from .cell import Cell
from .entries import Reminder, TurnBegan, TurnStep
from .messages import Kind, actor_stream, derived_id, run_stream
from .turn import Turn, check_size

__all__ = ["ActorAsking"]

_RUN_KINDS = {"start": Kind.START, "cancel": Kind.CANCEL}


class ActorAsking(Cell):
    """The side of an actor's cell that its turns see."""

    __slots__ = ("committed", "kind", "pending_due")

    committed: Committed | None
    kind: ActorType
    pending_due: float | None

    async def record_step(
        self, turn: Turn, position: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        retries: int, timeout: float | None, name: str,
    ) -> TurnStep:  # fmt: skip
        """Run a step and record its result; before the first, make the turn one that recovery finishes."""
        host = self.host
        if not turn.began:
            await self.record(turn)
        outcome = await host.steps.run(self.stream, f"{turn.message.id}:{position}", name, function, args, kwargs,
                                       retries, timeout)  # fmt: skip
        turn.check_open()
        step = TurnStep(position, name, host.clock.now(), outcome.value, outcome.error)
        await self.record(turn, step)
        return step

    async def record(self, turn: Turn, step: TurnStep | None = None) -> None:
        """Append a step or an answer of the turn, after its beginning if that is not recorded.

        An append that has begun is always waited for, also when the handler is cancelled: the turn's end follows it.
        """
        task = self.host.background.spawn(self._record(turn, step), "loom record")
        if turn.recording is None:
            turn.recording = set()
        turn.recording.add(task)
        task.add_done_callback(turn.recording.discard)
        failure = await asyncio.shield(task)
        if failure is not None:
            raise failure

    async def _record(self, turn: Turn, step: TurnStep | None) -> Exception | None:
        committed, host = self.committed, self.host
        assert committed is not None
        try:
            async with turn.lock:
                turn.check_open()
                if not turn.began:
                    turn.began = True
                    await actor_commit.ensure_pending(self, host.clock.now())
                    began, calls = TurnBegan(turn.message, host.clock.now()), turn.calls or []
                    await self.append([began, *calls])
                    committed.begin(self.head.seq, began)
                    for call in calls:
                        committed.step(self.head.seq, call)
                if step is not None:
                    await self.append([step])
                    committed.step(self.head.seq, step)
        except Exception as error:
            return error
        return None

    def send_method(
        self, turn: Turn, method: ActorMethod, args: tuple[Any, ...], kwargs: dict[str, Any], delay: float
    ) -> None:
        """Collect a message to another actor."""
        encoded = method.handler.signature.encode(args, kwargs)
        turn.send(Kind.SEND, actor_stream(method.actor_type, method.key), method.handler.name, encoded, delay=delay)

    def send_to_run(self, turn: Turn, workflow: str, run_id: str, what: str, args: bytes) -> None:
        """Collect a message to a run: start, cancel, or signal:NAME."""
        kind, _, name = what.partition(":")
        request = derived_id("start", run_stream(workflow, run_id)) if kind == "start" else ""
        turn.send(_RUN_KINDS.get(kind, Kind.SIGNAL), run_stream(workflow, run_id), name, args, request=request)

    def set_reminder(
        self, turn: Turn, name: str, due: float, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Collect a reminder."""
        handler = self.kind.handlers.get(method)
        if handler is None:
            raise UnknownMethodError(
                f"remind({name!r}): {self.kind.name} has no handler {method!r}; it has: {', '.join(self.kind.handlers)}"
            )
        encoded = handler.signature.encode(args, kwargs)
        check_size(f"the arguments of reminder {name!r}", encoded, self.host.options.max_message_bytes)
        reminder = Reminder(name, due, method, encoded)
        turn.effects.reminders = [r for r in turn.effects.reminders if r.name != name] + [reminder]
        turn.effects.forgotten = [n for n in turn.effects.forgotten if n != name]
