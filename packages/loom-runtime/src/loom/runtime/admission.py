"""Admission: when a request may begin, and what is noted of it before it does."""

from __future__ import annotations

from .exclusive import Exclusive
from .job import Job
from .messages import derived_id, shard_of
from .outcomes import FIRST_RETRY, Outcomes
from .pending import PendingRecord, PendingRecords

__all__ = ["Admission"]


class Admission(Outcomes):
    """The side of a host that lets requests begin."""

    exclusive: Exclusive
    pending: PendingRecords
    turns_running: int

    async def may_start(self, job: Job) -> bool:
        """Charge the attempt and wait for the turn's turn. False when the request is no longer this host's to run.

        Whoever gets True calls ``turn_ended``.
        """
        delivery = job.delivery
        alone = delivery is not None and self.inbox.suspicious(delivery)
        if alone and not await self._enter_alone(job):
            return False
        if not self.exclusive.admits(job):
            await self.exclusive.passed()
        if delivery is None:
            return True
        self.turns_running += 1  # whoever wants to run alone from here on waits for it
        try:
            begun = await self.inbox.begin(delivery)
        except Exception as error:
            self.log.warning("%s: its attempt can't be charged: %s", job.message.stream, error)
            self.try_again(job, FIRST_RETRY)
            begun = False
        finally:
            self.turns_running -= 1
        if not begun:
            self.exclusive.leave(job)
        return begun

    async def _enter_alone(self, job: Job) -> bool:
        """A message that was begun and never settled: run it with nothing beside it, and note that before it runs.

        Only a message that ended with a crash ``crash_attempts`` times while it ran alone is poison.
        """
        delivery = job.delivery
        assert delivery is not None
        shard, name = shard_of(job.message.stream, self.options.shards), _trial_name(delivery.id)
        await self.exclusive.enter(job)
        try:
            trial = await self.pending.get(shard, name) or PendingRecord(stream=name)
            if trial.resumed >= self.options.crash_attempts:
                reason = f"poison: {trial.resumed} attempts alone ended with a crash or hang of the host"
                await self.inbox.dead_letter(delivery, f"{reason}, of {delivery.attempts} in all")
                await self.pending.remove(shard, name)
                self.exclusive.leave(job)
                return False
            trial.resumed += 1
            await self.pending.put(shard, trial)
        except Exception as error:
            self.log.warning("%s: %s can't run alone yet: %s", job.message.stream, delivery.id, error)
            self.exclusive.leave(job)
            self.try_again(job, 1.0)
            return False
        return True

    def turn_ended(self, job: Job) -> None:
        """A turn is over, well or badly."""
        if self.exclusive.leave(job) and job.delivery is not None:
            shard = shard_of(job.message.stream, self.options.shards)
            self.background.spawn(self.pending.remove(shard, _trial_name(job.delivery.id)), "loom trial")


def _trial_name(delivery_id: str) -> str:
    return "alone/" + derived_id(delivery_id)
