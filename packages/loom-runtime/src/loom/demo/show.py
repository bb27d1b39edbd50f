"""What the demo says while it runs: a bar on a terminal, plain lines elsewhere, nothing with ``--json``."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["Show"]


class Show:
    """The demo's voice. Used as a context manager around what makes progress."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._console = Console(quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._total = total
        self._told = 0
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if sys.stdout.isatty() and not quiet and total:
            columns = (TextColumn("files"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("files", total=total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str = "", style: str = "") -> None:
        """One line."""
        self._console.print(text, style=style or None)

    def progress(self, done: int) -> None:
        """How many files are done. Without a terminal a line for every tenth of them."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif done != self._told and (done == self._total or done - self._told >= max(1, self._total // 10)):
            self._told = done
            self._console.print(f"  {done} of {self._total} files")
