"""Reading loom.toml: every complaint names the file, the line and what would be right."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._hints import did_you_mean
from .errors import ConfigurationError

__all__ = ["TomlFile"]


class TomlFile:
    """A parsed TOML file that remembers its text, so that a complaint can say where."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError when the file cannot be read or is not TOML."""
        self.path = path
        try:
            self.text = path.read_bytes().decode("utf-8-sig")
            self.data: dict[str, Any] = tomllib.loads(self.text)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}", file=str(path)) from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                f"{path} is not UTF-8 (byte {error.start}); TOML files are, save it again as UTF-8", file=str(path)
            ) from None
        except tomllib.TOMLDecodeError as error:
            # Not chained: the decoder's frames hold the text of the file, and with it any password in a URL.
            raise ConfigurationError(f"{path} is not valid TOML: {error}", file=str(path)) from None

    def table(self, dotted: str, known: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
        """The values of table ``dotted`` ("" for the top), empty when it is missing.

        ``known`` maps each allowed key to the types it may have. Raises ConfigurationError for another key or type.
        """
        value: Any = self.data
        for part in filter(None, dotted.split(".")):
            value = value.get(part, {})
        for key, found in value.items():
            if key not in known:
                hint = did_you_mean(key, known)
                raise self.complaint(dotted, key, f"is not a known key of {self._named(dotted)}; {hint}")
            if isinstance(found, bool) or not isinstance(found, known[key]):
                raise self.complaint(dotted, key, f"must be {_wanted(known[key])}, not {_kind(found)}")
        return dict(value)

    def complaint(self, dotted: str, key: str, problem: str) -> ConfigurationError:
        """An error that says where ``key`` stands, and then ``problem``."""
        line = self._line(dotted, key)
        where = f"{self.path}, line {line}" if line else str(self.path)
        full = f"{dotted}.{key}" if dotted else key
        return ConfigurationError(f"{where}: {full} {problem}", file=str(self.path), line=line, key=full)

    def _named(self, dotted: str) -> str:
        return f"[{dotted}]" if dotted else "the file"

    def _line(self, dotted: str, key: str) -> int | None:
        """Where the key is written. The parser does not tell, so this looks for it; None when it is not found."""
        full = (f"{dotted}.{key}" if dotted else key).split(".")
        table: list[str] = []
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := re.match(r"\s*\[\[?([^\]]+)\]", line):
                table = [part.strip(" \t\"'") for part in header[1].split(".")]
                if table[: len(full)] == full:
                    return number
            elif entry := re.match(r"\s*([\w\-\"'. \t]+?)\s*=", line):
                path = table + [part.strip(" \t\"'") for part in entry[1].split(".")]
                inside = path == full[: len(path)] and re.search(rf"\b{re.escape(full[-1])}\b\s*=", line)
                if path[: len(full)] == full or inside:
                    return number
        return None


_NAMES: dict[type, str] = {str: "text in quotes", int: "a whole number", float: "a number", dict: "a table"}


def _wanted(types: type | tuple[type, ...]) -> str:
    several = types if isinstance(types, tuple) else (types,)
    return _NAMES[float] if float in several else _NAMES[several[0]]


def _kind(value: Any) -> str:
    """What the value is, not the value itself: it may hold a password."""
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a number with a fraction",
             list: "a list", dict: "a table"}  # fmt: skip
    return names.get(type(value), "a date or time")
