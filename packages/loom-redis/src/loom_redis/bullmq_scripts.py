"""The scripts: BullMQ's own, taken from its package, inside ours.

Every change of a job's state is made by BullMQ's script for it, so that queues are what Node expects. Ours add what a
message queue needs around them in the same step: batches, one clock, whether an id was new, and leases that end.
"""

from __future__ import annotations

import functools
from importlib import metadata, resources, util
from pathlib import Path

from loom.errors import ConfigurationError

from .scripts import Script

__all__ = ["BullScripts", "load_bull_scripts"]

_OFFICIAL = {
    "addDelayedJob": 6,
    "addPrioritizedJob": 9,
    "addStandardJob": 9,
    "extendLock": 2,
    "moveJobFromActiveToWait": 9,
    "moveToActive": 11,
    "moveToDelayed": 11,
    "moveToFinished": 14,
    "removeJob": 2,
    "reprocessJob": 9,
}
"""BullMQ's scripts that ours call, and how many keys each takes: another number is another layout."""


class BullScripts:
    """All scripts of the queue, put together once."""

    def __init__(self, commands: Path) -> None:
        def ours(name: str, *official: str, writes: bool = True) -> Script:
            functions = [_function(commands, one) for one in official]
            text = "\n".join(["local official = {}", *functions, _own("prelude"), _own(name)])
            return Script(f"bullmq_{name}", text, writes=writes)

        back = "moveJobFromActiveToWait"
        self.send = ours("send", "addStandardJob", "addDelayedJob", "addPrioritizedJob", "removeJob")
        self.receive = ours("receive", "moveToActive", "removeJob", back)
        self.finish = ours("finish", "moveToFinished")
        self.begin = ours("begin")
        self.extend = ours("extend", "extendLock")
        self.nack = ours("nack", back, "moveToDelayed")
        self.end_leases = ours("end_leases", back)
        self.redrive = ours("redrive", "reprocessJob")
        self.discard = ours("discard", "removeJob")
        self.wake = ours("wake")
        self.depth = ours("depth", writes=False)
        self.holding = ours("holding", writes=False)


@functools.cache
def load_bull_scripts() -> BullScripts:
    """Raises ConfigurationError when the package ``bullmq`` is missing, or of a version whose scripts differ."""
    spec = util.find_spec("bullmq")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "BullMQ queues need the package bullmq, which is not installed; pip install 'loom-redis[bullmq]'"
        )
    return BullScripts(Path(spec.submodule_search_locations[0]) / "commands")


def _function(commands: Path, name: str) -> str:
    file = commands / f"{name}-{_OFFICIAL[name]}.lua"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        raise ConfigurationError(
            f"bullmq {metadata.version('bullmq')} has no script {file.name}, so it is not laid out as the versions "
            "that this release of loom-redis knows; pip install 'loom-redis[bullmq]' chooses one that fits"
        ) from None
    return f"official.{name} = function(KEYS, ARGV)\n{text}\nend"


def _own(name: str) -> str:
    return resources.files("loom_redis").joinpath("lua", f"bullmq_{name}.lua").read_text(encoding="utf-8")
