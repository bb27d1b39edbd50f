"""``loom start``: begin a run of a workflow."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .call import show_result
from .options import AppOption, JsonOption, TomlOption, UrlOption, Values, json_values

__all__ = ["start"]


def start(
    context: typer.Context,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW")],
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="Starting it again changes nothing.")],
    args: Values = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the run to end and print its result.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0.001, help="Seconds to wait.")] = None,
    url: UrlOption = None,
    toml: TomlOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Start a run. It is durable when this returns. Needs a running host; see 'loom run'."""
    from .output import Output
    from .session import open_session, told, wait_for

    values = json_values(context, args)

    async def work() -> Any:
        async with open_session(app, url, toml, create=True) as session:
            await session.require_host("workflow", workflow)
            async with session.client(None if wait else timeout) as client:
                try:
                    handle = await client.run(workflow, run_id).start(*values)
                    return await handle.result(timeout) if wait else None
                except TimeoutError:
                    raise
                except Exception as error:
                    raise told(error) from error

    out = Output(json=json)
    with out.working(f"waiting for {workflow}/{run_id}" if wait else f"starting {workflow}/{run_id}"):
        result = wait_for(work())
    data: dict[str, Any] = {"workflow": workflow, "run_id": run_id, "stream": f"run/{workflow}/{run_id}"}
    if wait:
        show_result(out, {**data, "result": result})
    elif json:
        out.data(data)
    else:
        out.line(f"started {workflow}/{run_id}; see: loom status {workflow}/{run_id}")
