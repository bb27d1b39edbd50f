"""Output: what commands print. Rich on a terminal, plain text elsewhere, one JSON document with ``--json``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .redacted import redacted

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "ago", "clock_time", "text_of"]


class Output:
    """Results go to stdout, errors and remarks to stderr; with ``json`` errors go to stdout as well."""

    def __init__(self, *, json: bool = False, redact: bool = True) -> None:
        """Secrets that the command has come to know are not shown, unless ``redact`` is False: it was asked for one."""
        self.json = json
        self._redact = redacted if redact else str
        self._console: Console | None = None

    def data(self, value: Any) -> None:
        """Print one JSON document."""
        print(self._redact(text_of(value)), flush=True)  # noqa: T201

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line."""
        text = self._redact(text)
        if sys.stdout.isatty():
            self._rich().print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)  # noqa: T201

    def remark(self, text: str) -> None:
        """Tell something beside the result."""
        print(self._redact(text), file=sys.stderr, flush=True)  # noqa: T201

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "", empty: str = "") -> None:
        """Print a table; where nobody looks at a terminal nothing is cut off and no line is drawn."""
        cells = [["" if cell is None else self._redact(str(cell)) for cell in row] for row in rows]
        if not cells:
            if empty:
                self.line(empty)
            return
        if sys.stdout.isatty():
            from rich.table import Table
            from rich.text import Text

            table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
            for column in columns:
                table.add_column(column, overflow="fold")
            for row in cells:
                table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
            self._rich().print(table)
            return
        if title:
            self.line(title)
        widths = [max(len(row[index]) for row in [list(columns), *cells]) for index in range(len(columns))]
        for row in [list(columns), *cells]:
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something takes its time; nothing is shown off a terminal."""
        if self.json or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(text):
            yield

    def error(self, error: BaseException) -> None:
        """Say what went wrong: message, code, and the ids that a person needs to find the thing."""
        code, message, context = _described(error)
        message = self._redact(message)
        if self.json:
            self.data({"error": {"code": code, "message": message, "context": context}})
            return
        lines = [f"  code: {code}"]
        lines += [f"  {name}: {value if isinstance(value, str) else text_of(value)}" for name, value in context.items()]
        lines = [self._redact(line) for line in lines]
        if sys.stderr.isatty():
            from rich.console import Console

            console = Console(stderr=True)
            console.print("error: ", style="bold red", end="", markup=False)
            console.print(message, markup=False, highlight=False, soft_wrap=True)
            for line in lines:
                console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
        else:
            self.remark("\n".join([f"error: {message}", *lines]))

    def _rich(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console()
        return self._console


_STYLES = {
    "completed": "green", "running": "cyan", "failed": "red", "cancelled": "yellow", "stopped": "red",
    "poisoned": "red", "ready": "green", "warned": "yellow", "refused": "red", "ok": "green", "problem": "red",
}  # fmt: skip


def text_of(value: Any) -> str:
    """JSON of anything: what JSON has no word for appears as its text."""
    import msgspec

    encoder = msgspec.json.Encoder(enc_hook=str)
    try:
        return encoder.encode(value).decode()
    except TypeError:  # keys that JSON does not know
        return encoder.encode(_plain(value)).decode()


def _plain(value: Any) -> Any:
    import msgspec

    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _described(error: BaseException) -> tuple[str, str, dict[str, Any]]:
    from ..errors import LoomError

    if isinstance(error, LoomError):
        # Whole records (heads, findings, exceptions) say nothing to a person that the message does not say.
        plain = (str, int, float, bool, list, tuple)
        return error.code, str(error), {k: v for k, v in error.context.items() if isinstance(v, plain) and v != ""}
    name = type(error).__name__
    if isinstance(error, TimeoutError):
        return "timeout", str(error) or "it took too long", {}
    hint = "LOOM_TRACEBACK=1 shows where it was raised"
    return "unexpected", f"{name}: {error}" if str(error) else name, {"hint": hint}


def clock_time(at: float | None) -> str:
    """Unix time as local date and time, to the millisecond; empty for None and 0."""
    import datetime as dt

    if not at:
        return ""
    return dt.datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="milliseconds")


def ago(at: float | None, now: float) -> str:
    """How long ago, or in how long, in the largest fitting unit."""
    if not at:
        return ""
    seconds = abs(now - at)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            text = f"{seconds / size:.1f} {unit}"
            break
    else:
        text = f"{seconds:.0f} s"
    return f"{text} ago" if at <= now else f"in {text}"
