"""``loom cosmos``: what this package adds to the shell. What it works with is imported when it runs."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from loom.plugins import LoomURL

    from .setup import Step

__all__ = ["commands"]

commands = typer.Typer(help="Look after databases in Azure Cosmos DB.", no_args_is_help=True)

_VARIABLES = ("LOOM_JOURNAL_URL", "LOOM_DOCUMENTS_URL", "LOOM_STATE_URL", "LOOM_LOCKS_URL", "LOOM_URL")


@commands.callback()
def _group() -> None:
    """Look after databases in Azure Cosmos DB."""


@commands.command("init")
def init(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]", help="cosmos://…; else the first of LOOM_JOURNAL_URL, …, LOOM_URL that is one."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Bring an older layout up. Stop all hosts and make a backup first.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Create the database, its containers and indexes where they are missing; do nothing where all is there.

    Making containers and indexes takes an account key, or the az commands that --dry-run shows.
    """
    import msgspec

    from loom.plugins import LoomURL

    where = LoomURL.parse(url or _of_environment())
    steps = asyncio.run(_init(where, dry_run, migrate))
    if json:
        shown = [{"what": step.what, "command": step.command} for step in steps]
        typer.echo(msgspec.json.encode({"url": str(where), "dry_run": dry_run, "steps": shown}).decode())
        return
    for step in steps:
        typer.echo(f"{'would ' if dry_run else 'done: '}{step.what}")
        if dry_run and step.command:
            typer.echo(f"    {step.command}")
    if not steps:
        typer.echo(f"{where} is set up")


async def _init(url: LoomURL, dry_run: bool, migrate: bool) -> list[Step]:
    from .client import Cosmos
    from .options import CosmosOptions
    from .setup import plan

    cosmos = Cosmos(CosmosOptions.from_url(url))
    await cosmos.start()
    try:
        steps = await plan(cosmos, migrate=migrate)
        if not dry_run:
            for step in steps:
                await step.run()
        return steps
    finally:
        await cosmos.close()


def _of_environment() -> str:
    found: Any = next((os.environ[name] for name in _VARIABLES if os.environ.get(name, "").startswith("cosmos")), None)
    if found is None:
        raise typer.BadParameter(
            f"name the database: cosmos://ACCOUNT.documents.azure.com/DATABASE, or set one of "
            f"{', '.join(_VARIABLES)} to such a URL"
        )
    return str(found)
