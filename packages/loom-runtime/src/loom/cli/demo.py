"""``loom demo``: the demo of ``loom.demo`` under the name that people look for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOption

__all__ = ["demo"]


def demo(
    path: Annotated[Path | None, typer.Option("--path", help="The folder to read; default Loom's own sources.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Where the results go; default ./loom-demo.")] = None,
    files: Annotated[int | None, typer.Option("--files", min=1, help="Read at most so many files.")] = None,
    json: JsonOption = False,
) -> None:
    """See a crash survived: real files, a real SIGKILL, and a proof from the journal."""
    from ..demo import run_demo

    raise typer.Exit(run_demo(path, folder, files=files, json=json))
