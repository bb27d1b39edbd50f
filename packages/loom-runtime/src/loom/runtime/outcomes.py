"""Outcomes: what becomes of a request, and who hears of it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any

from ..clock import Clock
from ..codec import error_info
from ..errors import (
    CoordinationError,
    JournalError,
    LoomError,
    NotRunningError,
    OutcomeUnknownError,
    OverloadedError,
    QueueError,
    StoreUnavailableError,
)
from ..options import RuntimeOptions
from .actor_cell import ActorCell
from .background import Background
from .cell import Cell
from .inbox import Inbox
from .job import Job
from .messages import Kind, Message, Reply
from .router import Router

__all__ = ["FIRST_RETRY", "Outcomes", "nobody_waits"]

FIRST_RETRY = 0.5
"""Seconds before a failed message is tried again; each further time twice as long."""
_LONGEST_RETRY = 60.0
_INFRASTRUCTURE = (
    StoreUnavailableError, JournalError, QueueError, CoordinationError, NotRunningError, OutcomeUnknownError,
    OverloadedError,
)  # fmt: skip


class Outcomes(ABC):
    """The side of a host that settles requests."""

    log = logging.getLogger("loom.host")

    background: Background
    cells: dict[str, Cell]
    clock: Clock
    inbox: Inbox
    options: RuntimeOptions
    router: Router
    stopping: bool

    @abstractmethod
    def holds(self, stream: str) -> bool:
        """Whether the stream belongs to this host."""

    @abstractmethod
    def deliver(self, job: Job) -> None:
        """Give a request to its actor or run."""

    def answer(self, job: Job, reply: Reply, after: Awaitable[Any] | None = None) -> None:
        """The request is done. A queued one is acked when ``after`` (its outgoing messages) is done too."""
        if job.future is not None:
            if not job.future.done():
                job.future.set_result(reply)
        elif job.delivery is not None:
            if after is None:
                self.inbox.settle(job, reply)
            else:
                self.background.spawn(self._settle_after(job, reply, after), "loom settle")

    def fail(self, job: Job, error: Exception, *, ran: bool = True) -> None:
        """The request failed and changed nothing. Somebody who waits hears of it; a send is tried again, then given up.

        Where the infrastructure failed, a message that may have been run before is tried again until it expires: its
        answer may be in the journal, and a failure must not be claimed. ``ran`` is False when no handler was reached.
        """
        delivery = job.delivery
        if delivery is None:
            if job.future is None:
                self.log.error("%s: recovered work failed: %r", job.message.stream, error)
            else:
                self.answer(job, Reply(job.message.id, error=error_info(error)))
            return
        final, waited_for = self.is_final(error), not nobody_waits(job.message)
        if waited_for and (final or delivery.attempts == 0):
            self.answer(job, Reply(job.message.id, error=error_info(error)))
        elif final and ran:
            attempts = delivery.attempts + 1
            if attempts >= self.options.max_attempts:
                reason = f"{attempts} attempts failed, the last with {error!r}"
                self.background.spawn(self.inbox.dead_letter(delivery, reason), "loom give up")
            else:
                self.try_again(job, min(_LONGEST_RETRY, FIRST_RETRY * 2 ** (attempts - 1)))
        elif job.message.expires_at and self.clock.now() >= job.message.expires_at:
            reason = f"it expired; the last failure was {error!r}"
            self.background.spawn(self.inbox.dead_letter(delivery, reason), "loom expire")
        else:
            age = max(0.0, self.clock.now() - delivery.enqueued_at)
            self.try_again(job, min(_LONGEST_RETRY, max(FIRST_RETRY, age / 2)))

    def try_again(self, job: Job, delay: float) -> None:
        """Give a queued request back. Later ones of its actor that were read with it go back as well, behind it."""
        assert job.delivery is not None
        self.background.spawn(self.inbox.retry(job.delivery, delay), "loom retry")
        cell = self.cells.get(job.message.stream)
        if isinstance(cell, ActorCell):
            cell.hold()

    def refuse(self, job: Job, error: LoomError) -> None:
        """The request was not run now."""
        if job.delivery is None:
            self.fail(job, error)
        elif isinstance(error, NotRunningError):
            self.background.spawn(self.inbox.retry(job.delivery, 0.0), "loom park")
        elif isinstance(error, OverloadedError) and (nobody_waits(job.message) or job.delivery.attempts):
            # One that has been begun before may have its answer in the journal: it is not refused but waits.
            self.background.spawn(self.inbox.retry(job.delivery, 0.2), "loom park")
        elif nobody_waits(job.message):
            self.background.spawn(self.inbox.dead_letter(job.delivery, str(error)), "loom refuse")
        else:
            self.answer(job, Reply(job.message.id, error=error_info(error)))

    def unknown(self, job: Job, error: OutcomeUnknownError) -> None:
        """The journal would not say. Nothing is claimed: the caller may ask again, a queued request comes again."""
        if job.delivery is not None:
            self.try_again(job, FIRST_RETRY)
        elif job.future is not None and not job.future.done():
            error.request_id = error.context["request_id"] = job.message.id
            job.future.set_exception(error)

    def interrupted(self, job: Job) -> None:
        """The host stopped in the middle of a turn; nothing of it was committed. A queued request comes again."""
        if job.future is not None and not job.future.done():
            where = f"{job.message.stream}.{job.message.method}"
            job.future.set_exception(NotRunningError(f"{where}: the host stopped; nothing was committed"))

    def redirect(self, job: Job) -> None:
        """The stream is not, or no longer, this cell's: try again where it is."""
        job.redirects += 1
        owned = self.holds(job.message.stream)
        if job.delivery is not None:
            if owned and not self.stopping and job.redirects < 10:
                self.deliver(job)
            else:
                self.background.spawn(self.inbox.retry(job.delivery, 0.0 if self.stopping else 0.05), "loom redirect")
        elif job.future is not None:
            if owned and not self.stopping and job.redirects < 10:
                self.deliver(job)
            else:
                self.background.spawn(self.router.forward(job.message, job.future), "loom forward")

    @staticmethod
    def is_final(error: Exception) -> bool:
        """Whether the error is the handler's own outcome, to be remembered, or the infrastructure's."""
        return not isinstance(error, _INFRASTRUCTURE)

    async def _settle_after(self, job: Job, reply: Reply, after: Awaitable[Any]) -> None:
        await after
        self.inbox.settle(job, reply)


def nobody_waits(message: Message) -> bool:
    """Whether the message was sent and not asked: a failure must be tried again, for there is nobody to tell."""
    return message.kind is Kind.SEND or not message.reply_to
