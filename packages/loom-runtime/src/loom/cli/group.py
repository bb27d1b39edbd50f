"""LoomGroup: the root command. Errors become one readable block, plugins add theirs when needed."""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.core import TyperGroup

from .redacted import begin

__all__ = ["LoomGroup", "raw_arguments"]

_RAW = "loom.raw_arguments"
# typer carries its own copy of click in newer releases, so the class is taken from what typer itself exports.
_UsageError: Any = typer.BadParameter.__mro__[1]


def raw_arguments(context: typer.Context) -> list[str]:
    """The command line as it was typed, for the few who need to know where ``--`` stood."""
    found: list[str] = context.find_root().meta.get(_RAW, [])
    return found


class LoomGroup(TyperGroup):
    """The root of the tree."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_RAW] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        typed = raw_arguments(ctx)
        json = "--json" in (typed[: typed.index("--")] if "--" in typed else typed)
        begin()
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except _UsageError as error:
            if not json:
                raise  # typer shows it with the usage of the command
            from .output import Output

            Output(json=True).data({"error": {"code": "usage", "message": error.format_message(), "context": {}}})
            raise typer.Exit(2) from None
        except BrokenPipeError:
            # Whoever read our output has enough of it; Python would complain once more while it shuts down.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(1) from None
        except Exception as error:
            if os.environ.get("LOOM_TRACEBACK") == "1":
                raise
            from .output import Output

            Output(json=json).error(error)
            raise typer.Exit(1) from None

    # Plugins are loaded for a name that is not ours and for --help, where people look for them; never for our own
    # commands: reading the metadata of everything installed and importing plugins would tax each of those.

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or self._of_plugins().get(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return own + [name for name in self._of_plugins() if name not in own]

    def _of_plugins(self) -> dict[str, Any]:
        found: dict[str, Any] | None = getattr(self, "_plugin_commands", None)
        if found is None:
            from .plugins import plugin_commands

            found = self._plugin_commands = plugin_commands()
        return found
