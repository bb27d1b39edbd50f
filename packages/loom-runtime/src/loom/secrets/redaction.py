"""Redaction: known values are taken out of what is logged, raised or shown."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, quote_plus

from ..errors import LoomError
from ..interceptors import Interceptor, StepInfo, TurnInfo
from ..ports.secrets import SecretValue

__all__ = ["RedactErrors", "RedactionFilter", "Redactor", "redacting"]

_SHOWN = "***"
_SHORTEST = 4
_SHORTEST_LINE = 12


class Redactor:
    """Replaces the values that it was told of by ``***``, wherever in a text they stand.

    It knows a value as it is, as it stands in a URL, in JSON and in a ``repr``, and each longer line of one of several
    lines. Values of fewer than 4 characters are left alone: they are everywhere.
    """

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def __bool__(self) -> bool:
        return bool(self._forms)

    def add(self, value: SecretValue | str) -> None:
        """Know a value from now on."""
        text = SecretValue.of(value).reveal()
        parts = [text, *(line.strip() for line in text.splitlines() if len(line.strip()) >= _SHORTEST_LINE)]
        forms = {form for part in parts for form in _forms(part) if len(form) >= _SHORTEST}
        if not forms <= self._forms:
            self._forms |= forms
            self._pattern = None

    def redact(self, text: str) -> str:
        """``text`` without any value that is known."""
        if not self._forms:
            return text
        if self._pattern is None:
            # The longest first: a value may hold another.
            self._pattern = re.compile("|".join(map(re.escape, sorted(self._forms, key=len, reverse=True))))
        return self._pattern.sub(_SHOWN, text)

    def redact_data(self, value: Any) -> Any:
        """Dicts, lists and tuples with every text in them redacted, keys included; anything else as it is."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, dict):
            return {self.redact_data(key): self.redact_data(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.redact_data(item) for item in value]
        if type(value) is tuple:
            return tuple(self.redact_data(item) for item in value)
        return value

    def redact_error(self, error: BaseException) -> None:
        """Take known values out of an exception, in place: its arguments, notes and context, and its causes'."""
        if not self._forms:
            return
        seen: set[int] = set()
        told: BaseException | None = error
        while told is not None and id(told) not in seen:
            seen.add(id(told))
            told.args = self.redact_data(told.args)
            if getattr(told, "__notes__", None):
                told.__notes__ = self.redact_data(told.__notes__)
            if isinstance(told, LoomError):
                told.context = self.redact_data(told.context)
            told = told.__cause__ or told.__context__


def _forms(text: str) -> set[str]:
    in_urls = {quote(text, safe=""), quote(text), quote_plus(text)}
    in_json = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return {text, repr(text)[1:-1]} | in_urls | in_json


class RedactionFilter(logging.Filter):
    """A filter for logging **handlers** that redacts records: message, arguments, traceback and extra fields."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record in place; it always passes."""
        if not self._redactor:
            return True
        message = record.getMessage()
        shown = self._redactor.redact(message)
        if shown != message:
            record.msg, record.args = shown, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        for name, value in list(vars(record).items()):
            if isinstance(value, str | dict | list | tuple) and name not in ("exc_info", "args"):
                setattr(record, name, self._redactor.redact_data(value))
        return True


class RedactErrors(Interceptor):
    """Redacts what handlers and steps raise, before it is journaled, logged or sent to the caller."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    async def turn(self, info: TurnInfo, proceed: Callable[[], Awaitable[Any]]) -> Any:
        """Around a handler."""
        return await self._redacted(proceed)

    async def step(self, info: StepInfo, proceed: Callable[[], Awaitable[Any]]) -> Any:
        """Around one attempt of a step."""
        return await self._redacted(proceed)

    async def _redacted(self, proceed: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await proceed()
        except Exception as error:
            self._redactor.redact_error(error)
            raise


@contextmanager
def redacting(redactor: Redactor) -> Iterator[None]:
    """Filter what every logging handler that there is now writes, for as long as the context is open."""
    names = list(logging.root.manager.loggerDict)
    loggers = [logging.root, *(logging.getLogger(name) for name in names)]
    handlers = list(dict.fromkeys(handler for logger in loggers for handler in logger.handlers))
    added = RedactionFilter(redactor)
    for handler in handlers:
        handler.addFilter(added)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(added)
