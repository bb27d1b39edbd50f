"""Known values are planted, and hunted for in whatever is written."""

from __future__ import annotations

import io
import json
import logging
import traceback
from urllib.parse import quote

import pytest

from loom.errors import LoomError
from loom.secrets import Redactor, redacting

PLANTED = 'planted-7hQ"2x:/Z é'
KEY = "-----BEGIN KEY-----\nplanted0line1aaaaaaaa\nplanted0line2bbbbbbbb\n-----END KEY-----\n"


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    redactor.add(PLANTED)
    redactor.add(KEY)
    return redactor


@pytest.mark.parametrize(
    "text",
    [
        PLANTED, f"a{PLANTED}b", quote(PLANTED), quote(PLANTED, safe=""), json.dumps({"x": PLANTED}), repr(PLANTED),
        json.dumps(PLANTED, ensure_ascii=False), KEY, json.dumps(KEY), "line: planted0line2bbbbbbbb", repr({"k": KEY}),
    ],
)  # fmt: skip
def test_a_value_is_found_in_every_form(redactor: Redactor, text: str) -> None:
    shown = redactor.redact(text)
    assert "planted" not in shown
    assert "***" in shown


def test_what_is_no_secret_stays(redactor: Redactor) -> None:
    redactor.add("abc")
    text = "abc planted-7hQ and more"
    assert redactor.redact(text) is text or redactor.redact(text) == text
    data = {"a": [PLANTED, 5, None, (PLANTED, True)], PLANTED: 1.5}
    assert redactor.redact_data(data) == {"a": ["***", 5, None, ("***", True)], "***": 1.5}
    assert not Redactor()
    assert Redactor().redact(PLANTED) == PLANTED


def test_logs_show_nothing(redactor: Redactor) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(extra)s"))
    log = logging.getLogger("test.redaction")
    log.addHandler(handler)
    log.propagate = False
    try:
        with redacting(redactor):
            for message, arguments in (
                (f"as it is: {PLANTED}", ()), ("argument %s", (PLANTED,)), ("mapping %(x)s", ({"x": PLANTED},)),
                ("object %r", ([PLANTED],)),
            ):  # fmt: skip
                log.warning(message, *arguments, extra={"extra": PLANTED})
            try:
                raise ValueError(PLANTED)
            except ValueError:
                log.exception("failed", extra={"extra": {"deep": [PLANTED]}})
        assert "planted" not in stream.getvalue()
        assert stream.getvalue().count("***") == 10
        log.warning(PLANTED, extra={"extra": ""})
        assert "planted" in stream.getvalue(), "the filter ends with its context"
    finally:
        log.removeHandler(handler)


def test_errors_are_cleaned_with_their_causes(redactor: Redactor) -> None:
    inner = KeyError(PLANTED)
    inner.add_note(f"a note: {PLANTED}")
    error = LoomError(f"outer {PLANTED}", url=PLANTED, tries=3)
    error.__cause__ = inner
    inner.__cause__ = error  # a circle ends
    redactor.redact_error(error)
    assert (str(error), error.context) == ("outer ***", {"url": "***", "tries": 3})
    inner.__cause__ = None
    assert "planted" not in "".join(traceback.format_exception(error))
