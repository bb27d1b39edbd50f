"""How far a run has come, as its journal says while another process writes it."""

from __future__ import annotations

from ..ports import JournalStore
from ..runtime.entries import ResultRecorded, RunFinished, decode_entry
from ..runtime.messages import run_stream
from .facts import Plan
from .flow import PAGE, page_id

__all__ = ["STEPS_PER_FILE", "Watch", "run_streams"]

STEPS_PER_FILE = 3
_PER_FILE = STEPS_PER_FILE + 1


def run_streams(plan: Plan) -> list[str]:
    """The journals of the plan's run and of its children."""
    streams = [run_stream("read_folder", plan.run)]
    pages = -(-len(plan.files) // PAGE)
    if pages > 1:
        streams += [run_stream("read_chunk", page_id(plan.run, page)) for page in range(pages)]
    return streams


class Watch:
    """Reads what has been added to a run's journals since the last look."""

    def __init__(self, journal: JournalStore, plan: Plan) -> None:
        self._journal = journal
        self._read = dict.fromkeys(run_streams(plan), 0)
        self.total = len(plan.files)
        self.results = 0
        self.files = 0
        self.finished: RunFinished | None = None

    @property
    def half(self) -> bool:
        """Whether half of what there is to record is recorded."""
        return self.results * 2 >= self.total * _PER_FILE

    async def look(self) -> bool:
        """Take in what is new; say whether there was anything."""
        news = False
        main = next(iter(self._read))
        for stream in self._read:
            for entry in await self._journal.read(stream, self._read[stream]):
                news = True
                self._read[stream] = entry.seq
                for event in decode_entry(stream, entry.seq, entry.data):
                    if isinstance(event, ResultRecorded) and event.kind in ("step", "call"):
                        self.results += 1
                        self.files += event.kind == "call"
                    elif isinstance(event, RunFinished) and stream == main:
                        self.finished = event
        return news
