"""Options and arguments that several commands share."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from .group import raw_arguments

__all__ = [
    "AppOption", "JsonOption", "RunArgument", "TomlOption", "UrlOption", "Values",
    "json_value", "json_values", "moment",
]  # fmt: skip

UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Where everything lives; else LOOM_URL, loom.toml, sqlite:///loom.db."),
]
TomlOption = Annotated[str | None, typer.Option("--toml", metavar="FILE", help="The loom.toml to read.")]
AppOption = Annotated[
    str | None,
    typer.Option(
        "--app", metavar="MODULE:APP", envvar="LOOM_APP", show_envvar=True,
        help="Use the settings, adapters and payload codecs of this app.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="WORKFLOW/RUN_ID, or a RUN_ID that is unique.")]
Values = Annotated[list[str] | None, typer.Argument(metavar="[ARGS]...", help="JSON values; a bare word is a string.")]

_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def json_value(text: str) -> Any:
    """``text`` as JSON, or as the string that it is. Raises a usage error for what only looks like JSON."""
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        if text.lstrip()[:1] in ("{", "[", '"'):
            raise typer.BadParameter(f"{text!r} is not valid JSON: {error}") from None
        return text


def json_values(context: typer.Context, texts: list[str] | None) -> list[Any]:
    """The ARGS of a command, where an option that was mistyped is not taken for one of them."""
    if "--" not in raw_arguments(context):
        for text in texts or ():
            if re.match(r"--?[A-Za-z]", text):
                raise typer.BadParameter(f"no such option: {text}; put -- before arguments that begin with a dash")
    return [json_value(text) for text in texts or ()]


def moment(text: str, now: float) -> float:
    """Unix time of an ISO date or time (local unless it names a zone), or of ``2h``, ``3d`` … before ``now``."""
    import datetime as dt

    span = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if span:
        return now - float(span[1]) * _SPANS[span[2]]
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither an ISO time nor a span such as 2h or 3d") from None
