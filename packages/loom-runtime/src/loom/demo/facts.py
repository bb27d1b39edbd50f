"""What the demo learns of a file."""

from __future__ import annotations

import msgspec

__all__ = ["Counts", "Digest", "FileFacts", "Plan", "Totals"]


class Plan(msgspec.Struct, frozen=True):
    """What one run of the demo is to read, as it lies in ``RUN.plan.json``.

    ``files`` are relative to ``root``. ``pace`` is how many seconds every step idles, so that there is something to
    watch and to kill. ``left_out`` counts files beyond the limit,
    ``misnamed`` those whose names are not UTF-8.
    """

    run: str
    root: str
    files: list[str]
    pace: float
    log: str
    report: str
    left_out: int = 0
    misnamed: int = 0


class Digest(msgspec.Struct, frozen=True):
    """The hash of a file's bytes and their number. ``note`` says why there is none, or why nothing was counted."""

    sha256: str = ""
    size: int = 0
    note: str = ""


class Counts(msgspec.Struct, frozen=True):
    """Lines and words of a text."""

    lines: int = 0
    words: int = 0


class FileFacts(msgspec.Struct, frozen=True):
    """Everything about one file; the state of its actor. ``names`` are the first headings or definitions in it."""

    path: str = ""
    digest: Digest = Digest()
    counts: Counts = Counts()
    names: list[str] = []


class Totals(msgspec.Struct, frozen=True):
    """What a run amounts to."""

    files: int = 0
    size: int = 0
    lines: int = 0
    words: int = 0
    noted: int = 0
