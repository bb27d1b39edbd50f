"""``loom call``: one call of an actor."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .options import AppOption, JsonOption, TomlOption, UrlOption, Values, json_values

__all__ = ["call"]


def call(
    context: typer.Context,
    actor_type: Annotated[str, typer.Argument(metavar="TYPE", help="The actor's class, for example Account.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="Which one, for example alice.")],
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The handler to run.")],
    args: Values = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="A repeat under the same key takes effect once.")
    ] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0.001, help="Seconds to wait.")] = None,
    url: UrlOption = None,
    toml: TomlOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Call a handler of an actor and print its result. Needs a running host; see 'loom run'."""
    from .output import Output
    from .session import open_session, told, wait_for

    values = json_values(context, args)

    async def work() -> Any:
        async with open_session(app, url, toml, create=True) as session:
            await session.require_host("actor", actor_type)
            async with session.client(timeout) as client:
                try:
                    return await client.call(actor_type, key, method, *values, idempotency_key=idempotency_key)
                except Exception as error:
                    raise told(error) from error

    out = Output(json=json)
    with out.working(f"calling {actor_type}/{key}.{method}"):
        result = wait_for(work())
    show_result(out, {"actor": f"{actor_type}/{key}", "method": method, "result": result})


def show_result(out: Any, data: dict[str, Any]) -> None:
    """Print the result that ``data`` holds: a text as it is, anything else as JSON."""
    from .output import text_of

    result = data["result"]
    if out.json:
        out.data(data)
    else:
        out.line(result if isinstance(result, str) else text_of(result))
