"""Whether concurrent calls of an adapter can be explained by an order in which they took effect one after another.

A client records its calls (``RecordingJournal``, ``RecordingLocks``) in a ``History``; ``check`` looks for an order of
them that agrees with what every call returned and with which calls were over before others began, by a model of the
port (``JournalModel``, ``LockModel``). ``drive_journal`` and ``drive_locks`` make the load that is worth recording.
"""

from .checker import Model, Verdict, check
from .journal import JournalModel, RecordingJournal
from .journal_load import drive_journal
from .locks import LockModel, RecordingLocks
from .locks_load import drive_locks
from .operations import UNKNOWN, History, Operation

__all__ = [
    "UNKNOWN",
    "History",
    "JournalModel",
    "LockModel",
    "Model",
    "Operation",
    "RecordingJournal",
    "RecordingLocks",
    "Verdict",
    "check",
    "drive_journal",
    "drive_locks",
]
