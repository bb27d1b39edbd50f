"""``loom plugins``: what is installed, what it serves, what is wrong with it; and the commands that plugins bring."""

from __future__ import annotations

from typing import Any

import typer

from .options import JsonOption

__all__ = ["plugin_commands", "plugins"]


def plugins(json: JsonOption = False) -> None:
    """List plugins and the adapters there are, with what each promises. Exit code 1 when one is broken."""
    import msgspec

    from ..plugins import AdapterRegistry
    from .output import Output

    registry = AdapterRegistry()
    report = registry.load_all()
    specs = registry.specs()
    out = Output(json=json)
    if json:
        adapters = [
            {**msgspec.structs.asdict(spec), "durability": spec.durability.name, "reach": spec.reach.name,
             "features": sorted(spec.features)}
            for spec in specs
        ]  # fmt: skip
        listed = [{**msgspec.structs.asdict(info), "adapters": len(info.adapters)} for info in report.plugins]
        out.data({"plugins": listed, "problems": report.problems, "adapters": adapters, "ok": report.ok})
    else:
        out.table(
            ("plugin", "distribution", "version", "adapters", "imported in"),
            [
                (info.name, info.distribution, info.version, len(info.adapters), f"{info.seconds * 1000:.1f} ms")
                for info in report.plugins
                if info.loaded
            ],
        )
        out.line()
        out.table(
            ("port", "scheme", "durability", "reach", "features", "maturity", "distribution"),
            [
                (spec.port, f"{spec.scheme}://", spec.durability.name, spec.reach.name, " ".join(sorted(spec.features)),
                 spec.maturity, spec.distribution)
                for spec in specs
            ],
        )  # fmt: skip
        for problem in report.problems:
            out.line(f"{problem.code}: {problem}", style="red")
    if not report.ok:
        raise typer.Exit(1)


def plugin_commands() -> dict[str, Any]:
    """The commands of the installed plugins by name; they get a ``typer.Typer`` of their own, so none replaces ours."""
    from ..plugins import PluginLoader

    app = typer.Typer()
    app.callback()(lambda: None)  # one command alone would otherwise be taken for the whole program
    loader = PluginLoader()
    loader.load_all()
    loader.call("loom_cli_commands", app=app)
    if not app.registered_commands and not app.registered_groups:
        return {}
    found: dict[str, Any] = dict(getattr(typer.main.get_group(app), "commands", {}))
    return found
