"""``loom check``: what the production guard says of a configuration, without starting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import JsonOption, TomlOption, UrlOption

if TYPE_CHECKING:
    from ..app import Loom
    from ..guard import Finding, Readiness
    from ..settings import Settings
    from .output import Output

__all__ = ["check"]


def check(
    target: Annotated[str | None, typer.Argument(metavar="[MODULE:APP]", help="The app; else settings alone.")] = None,
    env: Annotated[str | None, typer.Option("--env", help="Check for development, test or production.")] = None,
    connect: Annotated[bool, typer.Option("--connect", help="Open the adapters and ask the backends as well.")] = False,
    url: UrlOption = None,
    toml: TomlOption = None,
    json: JsonOption = False,
) -> None:
    """Run the production guard's rules without starting: what survives, and what would be refused (exit code 1)."""
    import msgspec

    from ..environment import ENVIRONMENTS
    from ..guard import readiness
    from .output import Output
    from .session import make_app, wait_for

    app = make_app(target, url, toml)
    settings = app.settings
    for name in ENVIRONMENTS:
        if env == name:
            settings = msgspec.structs.replace(settings, environment=name, environment_reason="--env says so")
    if env is not None and env not in ENVIRONMENTS:
        raise typer.BadParameter(f"--env must be {', '.join(ENVIRONMENTS[:-1])} or {ENVIRONMENTS[-1]}, not {env!r}")
    config, findings = wait_for(_findings(app, settings, connect))
    found = readiness(config, findings)
    refused = _refuses(findings, settings)
    out = Output(json=json)
    if json:
        out.data({"environment": settings.environment, "refused": refused, **msgspec.structs.asdict(found)})
    else:
        _show(out, found, settings, refused)
    if refused:
        raise typer.Exit(1)


async def _findings(app: Loom, settings: Settings, connect: bool) -> Any:
    from contextlib import AsyncExitStack

    from ..guard import check_production_config, collect_rules, guard_config
    from ..secrets.opening import names_secrets

    async with AsyncExitStack() as stack:
        ports = dict(await stack.enter_async_context(app.ports())) if connect else {}
        if connect and names_secrets(app.settings, app.instances):
            ports["secrets"] = await app.secrets.opened()
        rules = collect_rules(app.registry.plugins)
        config = guard_config(settings, app.registry, instances=app.instances, adapters=ports)
        return config, await check_production_config(config, rules)


def _refuses(findings: list[Finding], settings: Settings) -> bool:
    """Whether a start with these findings would be refused, by the same words as the start itself."""
    import warnings

    from ..errors import ProductionGuardError
    from ..guard import enforce

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            enforce(findings, settings)
        except ProductionGuardError:
            return True
    return False


def _show(out: Output, found: Readiness, settings: Settings, refused: bool) -> None:
    out.line(f"environment: {settings.environment} (because {settings.environment_reason})")
    out.line()
    out.table(
        ("port", "adapter", "from", "durability", "reach", "features", "maturity", "verdict"),
        [
            (port.port, port.adapter, port.source, port.durability, port.reach, " ".join(port.features), port.maturity,
             port.verdict)
            for port in found.ports
        ],
    )  # fmt: skip
    out.line()
    out.line(found.sentence, style="bold")
    order = "Calls of one caller to one actor run in the order in which they were made."
    out.line(order if found.ordered else "There is no order between calls: the queue does not keep one.")
    for finding in found.findings:
        style = "red" if finding.severity == "refuse" else "yellow"
        out.line()
        out.line(f"{finding.severity.upper()} {finding}", style=style)
    out.line()
    if refused:
        out.line("A start would be refused.", style="bold red")
    elif not found.ready:
        out.line(f"A start in {settings.environment} goes ahead; in production it would be refused.", style="yellow")
    else:
        out.line("Nothing stands against a start in production.", style="green")
