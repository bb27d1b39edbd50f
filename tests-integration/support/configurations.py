"""The configurations that the documents show, on servers of the tests: the very files, with other addresses in them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loom.plugins import AdapterRegistry, Feature
from loom.settings import load_settings

from .places import UrlPlace
from .reading import Reading

__all__ = ["CONFIGURATIONS", "FILES", "HYBRIDS", "Addresses", "configured", "ordered", "write_toml"]

FILES = Path(__file__).parents[2] / "deploy" / "configurations"
"""Where they lie."""

CONFIGURATIONS = tuple(sorted(path.stem for path in FILES.glob("*.toml")))
"""The names of all files."""

HYBRIDS = tuple(name for name in CONFIGURATIONS if name.startswith("hybrid"))

Addresses = Mapping[str, str]
"""What an operator puts in: for each address that the files name, that of a server of the tests."""

_numbers = itertools.count(1)


def write_toml(name: str, folder: Path, addresses: Addresses) -> Path:
    """A copy of the configuration in ``folder``, with nothing changed but its addresses, and none of them left out."""
    text = (FILES / f"{name}.toml").read_text(encoding="utf-8")
    for shown, real in addresses.items():
        text = text.replace(f'"{shown}"', f'"{real}"')
    assert "example.com" not in text, text
    assert "ACCOUNT" not in text, text
    path = folder / f"{name}-{next(_numbers)}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@asynccontextmanager
async def configured(
    name: str, folder: Path, addresses: Addresses, *, read_at: Addresses | None = None, **options: Any
) -> AsyncIterator[UrlPlace]:
    """The place of a configuration, for the length of a block: its hosts and clients read the file.

    What is stored is read at ``read_at``, if given: by a way without the faults that the hosts meet.
    """
    path = write_toml(name, folder, addresses)
    settings = load_settings(toml_path=write_toml(name, folder, read_at or addresses), environ={})
    ports = {port: settings.url_for(port)[0].raw for port in ("journal", "queue", "coordination")}
    async with Reading.of("", ports) as reading:
        yield UrlPlace(reading, ports["coordination"], toml=path, **options)


def ordered(place: UrlPlace) -> bool:
    """Whether calls of one caller to one account run in order there: BullMQ promises none."""
    settings = load_settings(toml_path=place.toml, environ={})
    spec = AdapterRegistry().spec("queue", settings.url_for("queue")[0].scheme)
    return Feature.ORDERED in spec.features
