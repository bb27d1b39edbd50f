"""``loom new-adapter``: a package of your own for a store of your own, working from its first minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOption

__all__ = ["new_adapter"]


def new_adapter(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The scheme of its URLs: acme makes loom-acme, acme://.")],
    folder: Annotated[Path | None, typer.Option("--folder", help="Where it goes; default ./loom-NAME.")] = None,
    json: JsonOption = False,
) -> None:
    """Write a package with a DocumentStore that works, its plugin entry point and its conformance suites."""
    from ..scaffold import AdapterName, write_adapter
    from .output import Output

    parsed = AdapterName.parse(name)
    values = parsed.values
    target = folder or Path(values["distribution"])
    files = write_adapter(parsed, target)
    out = Output(json=json)
    if json:
        out.data({"folder": str(target), "files": [str(file.relative_to(target)) for file in files], **values})
        return
    out.line(f"{values['distribution']}, for {parsed.scheme}:// URLs, in {target}:")
    for file in files:
        out.line(f"  {file.relative_to(target)}")
    out.line()
    out.line(f'cd {target} && pip install -e ".[test]"')
    out.line("loom plugins    # finds it")
    out.line("pytest          # proves it")
