"""The tree of commands. Importing a command's file is cheap: what it works with is imported when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from .group import LoomGroup

__all__ = ["build"]


def build() -> typer.Typer:
    """The whole ``loom`` command, without the commands of plugins, which ``LoomGroup`` adds when they are asked for."""
    from . import (
        call,
        check,
        conformance,
        demo,
        dlq,
        doctor,
        journal,
        new_adapter,
        plugins,
        run,
        runs,
        secrets,
        start,
        status,
    )  # fmt: skip

    app = typer.Typer(
        cls=LoomGroup,
        name="loom",
        help="Durable actors and workflows in plain async Python.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    make, look, repair, setting_up = "Run and call", "Look", "Repair", "Set up"
    dashed = {"ignore_unknown_options": True}  # so that -5 is an argument and not an option
    app.command("demo", rich_help_panel=make)(demo.demo)
    app.command("run", rich_help_panel=make)(run.run)
    app.command("call", rich_help_panel=make, context_settings=dashed)(call.call)
    app.command("start", rich_help_panel=make, context_settings=dashed)(start.start)
    app.command("signal", rich_help_panel=make, context_settings=dashed)(runs.signal)
    app.command("cancel", rich_help_panel=make)(runs.cancel)
    app.add_typer(runs.group(), name="runs", rich_help_panel=look)
    app.command("status", rich_help_panel=look)(status.status)
    app.command("journal", rich_help_panel=look)(journal.journal)
    app.add_typer(dlq.group(), name="dlq", rich_help_panel=repair)
    app.command("doctor", rich_help_panel=repair)(doctor.doctor)
    app.command("check", rich_help_panel=setting_up)(check.check)
    app.command("plugins", rich_help_panel=setting_up)(plugins.plugins)
    app.add_typer(secrets.group(), name="secrets", rich_help_panel=setting_up)
    app.command("new-adapter", rich_help_panel=setting_up)(new_adapter.new_adapter)
    app.command("conformance", rich_help_panel=setting_up)(conformance.conformance)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from ..__about__ import __version__

        typer.echo(__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What comes before the command."""
