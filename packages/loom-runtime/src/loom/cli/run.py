"""``loom run``: host an app until told to stop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import JsonOption

if TYPE_CHECKING:
    from ..app import Loom
    from .output import Output

__all__ = ["run"]


def run(
    target: Annotated[str, typer.Argument(metavar="MODULE:APP", help="For example bank:app for the app in bank.py.")],
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="In place of LOOM_URL.")] = None,
    env: Annotated[str | None, typer.Option("--env", help="In place of LOOM_ENV.")] = None,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
    json: JsonOption = False,
) -> None:
    """Host an app until SIGINT or SIGTERM, then finish what is under way. A second signal quits at once."""
    import logging

    from .output import Output
    from .session import wait_for
    from .target import load_app

    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise typer.BadParameter(f"--log-level must be debug, info, warning or error, not {log_level!r}")
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The app reads its settings itself, when it starts; this process is its own, so its environment may say so.
    for name, value in (("LOOM_URL", url), ("LOOM_ENV", env)):
        if value is not None:
            os.environ[name] = value
    app = load_app(target)
    if url is not None and app.settings.url_for("journal")[1].kind == "argument":
        raise typer.BadParameter(f"{target} sets its URL itself; --url would change nothing")
    wait_for(_host(app, target, Output(json=json)))


async def _host(app: Loom, target: str, out: Output) -> None:
    import asyncio
    import signal

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked(number: int) -> None:
        if stop.is_set():
            # Nothing acknowledged is lost by it: that is what the journal is for.
            os._exit(128 + number)
        out.remark("stopping: finishing what is under way; a second signal quits at once")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked, number)
    async with app:
        _announce(app, target, out)
        await stop.wait()
    if out.json:
        out.data({"event": "stopped"})
    else:
        out.line("stopped")


def _announce(app: Loom, target: str, out: Output) -> None:
    settings, host = app.settings, app.host
    places = {
        port: type(app.instances[port]).__qualname__ if port in app.instances else str(settings.url_for(port)[0])
        for port in ("journal", "queue", "documents", "coordination")
    }  # fmt: skip
    shards = {"owned": len(host.placement.epochs), "of": settings.options.shards}
    member = host.placement.member.id
    if out.json:
        started: dict[str, Any] = {
            "event": "started", "app": target, "member": member, "pid": os.getpid(), "actors": sorted(app.actors),
            "workflows": sorted(app.workflows), "ports": places, "shards": shards, "environment": settings.environment,
        }  # fmt: skip
        out.data(started)
        return
    out.line(f"{target} runs as {member} ({settings.environment})", style="bold")
    out.line(f"  actors     {', '.join(sorted(app.actors)) or 'none'}")
    out.line(f"  workflows  {', '.join(sorted(app.workflows)) or 'none'}")
    for place in dict.fromkeys(places.values()):
        out.line(f"  {place}  ({', '.join(port for port, where in places.items() if where == place)})")
    out.line(f"  shards     {shards['owned']} of {shards['of']} owned")
