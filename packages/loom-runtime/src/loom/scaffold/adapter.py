"""A new adapter package from ``adapter_template``: every file ends in ``.tmpl``, ``{{ names }}`` are filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

import msgspec

from ..__about__ import __version__
from ..errors import ConfigurationError
from ..plugins.known import package_for

__all__ = ["AdapterName", "write_adapter"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_BUILT_IN = frozenset({"memory", "sqlite", "file"})
_MARK = re.compile(r"\{\{ ([a-z_]+) \}\}")


class AdapterName(msgspec.Struct, frozen=True):
    """What a package and its parts are called: of ``acme-db`` ``loom-acme-db``, ``loom_acme_db``, ``AcmeDb…``."""

    scheme: str

    @classmethod
    def parse(cls, text: str) -> AdapterName:
        """From ``acme`` or ``loom-acme``. Raises ConfigurationError for what can't be one, or is taken by Loom."""
        scheme = text.removeprefix("loom-")
        if not _NAME.match(scheme):
            raise ConfigurationError(
                f"{text!r} can't name an adapter: use lower-case words joined by '-', as in acme-db"
            )
        owner = "loom-runtime" if scheme in _BUILT_IN else package_for(scheme)
        if owner is not None:
            raise ConfigurationError(f"{scheme}:// is the scheme of {owner}; take another name")
        return cls(scheme)

    @property
    def values(self) -> dict[str, str]:
        """What the templates may name."""
        words = self.scheme.split("-")
        return {
            "scheme": self.scheme,
            "distribution": f"loom-{self.scheme}",
            "import_name": f"loom_{'_'.join(words)}",
            "class_name": "".join(word.capitalize() for word in words),
            "loom_version": __version__,
        }


def write_adapter(name: AdapterName, folder: Path) -> list[Path]:
    """Write the package into ``folder`` and give its files, sorted.

    Raises ConfigurationError when the folder exists and is not empty: nothing is ever overwritten.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} exists already and is not empty; remove it, or choose another --folder")
    written = []
    for path, text in render_adapter(name):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")
        written.append(target)
    return sorted(written)


def render_adapter(name: AdapterName) -> Iterator[tuple[PurePosixPath, str]]:
    """Every file of the package as its path and its text."""
    values = name.values
    for path, source in _templates(resources.files(__package__) / "adapter_template", PurePosixPath()):
        place = str(path).removesuffix(".tmpl").replace("IMPORT_NAME", values["import_name"])
        text = _MARK.sub(lambda mark: values[mark[1]], source.read_text(encoding="utf-8"))
        yield PurePosixPath(place.replace("DOT_", ".")), text


def _templates(folder: Traversable, at: PurePosixPath) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, at / entry.name)
        elif entry.name.endswith(".tmpl"):
            yield at / entry.name, entry
