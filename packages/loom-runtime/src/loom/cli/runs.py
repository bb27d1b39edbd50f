"""``loom runs``: listing, and what can be done to a run; ``loom signal`` and ``loom cancel`` with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .call import show_result
from .options import AppOption, JsonOption, RunArgument, TomlOption, UrlOption, json_value, json_values, moment

if TYPE_CHECKING:
    from ..client import RunHandle

__all__ = ["cancel", "group", "signal", "with_run"]

Timeout = Annotated[float | None, typer.Option("--timeout", min=0.001, help="Seconds to wait.")]


def group() -> typer.Typer:
    """The commands under ``loom runs``."""
    app = typer.Typer(help="List runs of workflows; cancel, retry, or read the result of one.", no_args_is_help=True)
    app.command("list")(list_runs)
    app.command("cancel")(cancel)
    app.command("retry")(retry)
    app.command("result")(result)
    return app


def with_run(
    run: str, app: str | None, url: str | None, toml: str | None, timeout: float | None,
    work: Callable[[RunHandle[..., Any]], Awaitable[Any]],
) -> tuple[str, Any]:  # fmt: skip
    """Find the run, see that a host serves it, and do ``work`` with its handle. Gives its name and the outcome."""
    from ..runtime.messages import split_stream
    from .lookup import find_run
    from .session import open_session, told, wait_for

    async def find_and_do() -> tuple[str, Any]:
        async with open_session(app, url, toml) as session:
            _, workflow, run_id = split_stream(await find_run(session.journal, run))
            await session.require_host("workflow", workflow)
            async with session.client(timeout) as client:
                try:
                    return f"{workflow}/{run_id}", await work(client.run(workflow, run_id))
                except TimeoutError:
                    raise
                except Exception as error:
                    raise told(error) from error

    return wait_for(find_and_do())


def list_runs(
    status: Annotated[str | None, typer.Option(help="running, completed, failed, cancelled or poisoned.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Runs of this workflow only.")] = None,
    since: Annotated[str | None, typer.Option(help="Begun since: an ISO time, or a span such as 2h or 3d.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    url: UrlOption = None,
    toml: TomlOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """List runs, newest first. What has just begun or ended may show a moment late."""
    import datetime as dt
    import time

    from .output import Output, ago, clock_time
    from .session import open_session, wait_for

    now = time.time()
    statuses = ("running", "completed", "failed", "cancelled", "stopped", "poisoned")
    if status is not None and status not in statuses:
        raise typer.BadParameter(f"--status must be one of {', '.join(statuses)}, not {status!r}")
    after = None if since is None else dt.datetime.fromtimestamp(moment(since, now), dt.UTC)

    async def work() -> Any:
        async with open_session(app, url, toml) as session, session.client() as client:
            return await client.runs(status=status, workflow=workflow, since=after, limit=limit)

    found = wait_for(work())
    out = Output(json=json)
    if json:
        out.data({"runs": found})
        return
    rows = [
        (f"{run.workflow}/{run.run_id}", run.status, clock_time(run.started_at),
         ago(run.finished_at, now) if run.finished_at else "", _first_line(run.error))
        for run in found
    ]  # fmt: skip
    out.table(("run", "status", "started", "ended", "error"), rows, empty="no runs")


def signal(
    context: typer.Context,
    run: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal's name.")],
    value: Annotated[str | None, typer.Argument(metavar="[VALUE]", help="JSON; a bare word is a string.")] = None,
    timeout: Timeout = None,
    url: UrlOption = None,
    toml: TomlOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Send a signal to a run; it is recorded when this returns."""
    from .output import Output

    json_values(context, [] if value is None else [value])
    sent = None if value is None else json_value(value)
    found, _ = with_run(run, app, url, toml, timeout, lambda handle: handle.signal(name, sent))
    out = Output(json=json)
    if json:
        out.data({"run": found, "signal": name, "value": sent})
    else:
        out.line(f"{found} has received {name}")


def cancel(
    run: RunArgument,
    reason: Annotated[str, typer.Option("--reason", help="Recorded in the journal.")] = "",
    timeout: Timeout = None,
    url: UrlOption = None,
    toml: TomlOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a run to stop: it compensates what it has done, then ends as cancelled."""
    from .output import Output

    found, asked = with_run(run, app, url, toml, timeout, lambda handle: handle.cancel(reason))
    out = Output(json=json)
    if json:
        out.data({"run": found, "cancel_requested": asked})
    else:
        out.line(f"{found} was asked to stop" if asked else f"{found} has ended already; nothing was changed")


def retry(
    run: RunArgument,
    timeout: Timeout = None,
    url: UrlOption = None,
    toml: TomlOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Run a failed or cancelled run again: from its failure, or from the start where compensations have run."""
    from .output import Output

    found, _ = with_run(run, app, url, toml, timeout, lambda handle: handle.retry())
    out = Output(json=json)
    if json:
        out.data({"run": found, "retried": True})
    else:
        out.line(f"{found} runs again; see: loom status {found}")


def result(
    run: RunArgument,
    timeout: Timeout = None,
    url: UrlOption = None,
    toml: TomlOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Wait for a run to end and print its result; its error is printed as one, and exits with 1."""
    from .output import Output

    out = Output(json=json)
    with out.working(f"waiting for {run}"):
        found, value = with_run(run, app, url, toml, None, lambda handle: handle.result(timeout))
    show_result(out, {"run": found, "result": value})


def _first_line(text: str | None) -> str:
    return (text or "").split("\n", 1)[0]
