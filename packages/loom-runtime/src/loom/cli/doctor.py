"""``loom doctor``: is this machine, this installation and this configuration fit to run Loom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from .options import JsonOption, TomlOption, UrlOption

if TYPE_CHECKING:
    from ..ports import Port

__all__ = ["doctor"]

_DISTRIBUTIONS = ("loom-runtime", "msgspec", "pluggy", "rich", "structlog", "typer", "uuid-utils")
_NEEDED = ("journal", "queue", "documents", "coordination")
"""The ports without which nothing runs."""
_LOW_DISK = 1024**3


def doctor(url: UrlOption = None, toml: TomlOption = None, json: JsonOption = False) -> None:
    """Look at the installation, the settings, every adapter and the machine. Exit code 1 when there is a problem."""
    from .output import Output
    from .session import wait_for

    out = Output(json=json)
    with out.working("looking"):
        findings = [*_installation(), *wait_for(_adapters(url, toml)), *_machine()]
    healthy = all(row["ok"] for row in findings)
    if json:
        out.data({"ok": healthy, "checks": findings})
    else:
        out.table(
            ("", "what", "found"),
            [("ok" if row["ok"] else "problem", row["check"], row["found"]) for row in findings],
        )
    if not healthy:
        raise typer.Exit(1)


def _row(check: str, found: Any, ok: bool = True, **more: Any) -> dict[str, Any]:
    return {"check": check, "ok": ok, "found": str(found), **more}


def _installation() -> list[dict[str, Any]]:
    import platform
    import sys
    from importlib.metadata import PackageNotFoundError, version

    from ..__about__ import __version__
    from ..plugins import AdapterRegistry, import_name_owners

    rows = [
        _row("loom", __version__),
        _row("python", f"{platform.python_version()} ({sys.executable})", sys.version_info >= (3, 11)),
        _row("platform", platform.platform()),
    ]
    for name in _DISTRIBUTIONS:
        try:
            rows.append(_row(f"package {name}", version(name)))
        except PackageNotFoundError:
            # Run from a source tree the package itself is not installed, and that is no fault.
            rows.append(_row(f"package {name}", "not installed", ok=name == "loom-runtime"))
    owners = import_name_owners()
    foreign = [owner for owner in owners if owner.lower() != "loom-runtime"]
    text = ", ".join(owners) or "a source tree"
    if foreign:
        text += f"; uninstall {', '.join(foreign)}: it installs files under the same import name"
    rows.append(_row("import name 'loom' is of", text, not foreign))
    report = AdapterRegistry().load_all()
    for problem in report.problems:
        rows.append(_row(f"plugin {problem.plugin}", f"{problem.code}: {problem}", problem.code == "slow"))
    if report.ok:
        rows.append(_row("plugins", f"{sum(info.loaded for info in report.plugins)} loaded"))
    return rows


async def _adapters(url: str | None, toml: str | None) -> list[dict[str, Any]]:
    from ..errors import LoomError, UnknownSchemeError
    from ..plugins import AdapterContext, AdapterRegistry
    from ..secrets.opening import client_of
    from ..secrets.references import resolve_url
    from ..settings import load_settings
    from .redacted import know

    try:
        settings = load_settings(url=url, toml_path=toml)
    except LoomError as error:
        return [_row("settings", f"{error.code}: {error}", ok=False)]
    rows = [
        _row("settings", settings.toml_path or "no loom.toml"),
        _row("environment", f"{settings.environment}: {settings.environment_reason}"),
    ]
    registry, context = AdapterRegistry(), AdapterContext()
    secrets = client_of(lambda: settings, lambda: registry)
    know(secrets.redactor)
    told: set[tuple[str, str]] = set()
    for port, (place, source) in settings.port_urls.items():
        where = f"{place} (from {source})"
        try:
            resolved = await resolve_url(place, secrets, where=str(source))
            adapter = registry.open(port, resolved, context)
            milliseconds, facts, ahead = await _round_trip(adapter)
            found = f"{where}: {milliseconds:.1f} ms"
            rows.append(_row(port, found, url=str(place), source=str(source), ms=milliseconds))
            # Ports of one URL share a server: what is told of it is told once.
            rows += [_row(f"{port}: {name}", fact) for name, fact in facts.items() if (place.raw, name) not in told]
            told.update((place.raw, name) for name in facts)
            rows += [
                _row(f"{port}: clock of {name}", f"at least {seconds:.1f} s ahead of this machine's; use NTP", ok=False)
                for name, seconds in ahead.items()
            ]
        except LoomError as error:
            if isinstance(error, UnknownSchemeError) and port not in _NEEDED and port not in source.name.lower():
                # The URL of everything need not serve what nobody may use; ``loom check`` lists it alike.
                rows.append(_row(port, f"not served by {place.scheme}://; if it is used, set LOOM_{port.upper()}_URL"))
                continue
            rows.append(_row(port, f"{where}: {error}", ok=False, url=str(place), source=str(source), code=error.code))
    return rows


async def _round_trip(adapter: Port) -> tuple[float, dict[str, str], dict[str, float]]:
    """Start the adapter, time one operation that changes nothing, ask for facts, close it.

    Gives the milliseconds, the facts, and hosts whose clocks are ahead of this machine's.
    """
    import time

    from ..ports import CoordinationAdapter, clocks_apart

    await adapter.start()
    try:
        began = time.perf_counter()
        await _harmless(adapter)
        taken = (time.perf_counter() - began) * 1000
        seen = await adapter.last_seen() if isinstance(adapter, CoordinationAdapter) else {}
        return taken, await adapter.facts(), clocks_apart(seen, time.time())
    finally:
        await adapter.close()


async def _harmless(adapter: Port) -> Any:
    from .. import ports

    name = "loom-doctor"
    match adapter:
        case ports.JournalStore():
            return await adapter.head(name)
        case ports.MessageQueue():
            return await adapter.depth(name)
        case ports.LockManager():
            return await adapter.holder(name)
        case ports.DocumentStore():
            await adapter.ensure([ports.Collection("loom_doctor")])
            return await adapter.get("loom_doctor", name, name)
        case ports.BlobStore():
            return await adapter.info(name)
        case ports.StateStore():
            return await adapter.load(name, name)
        case ports.CoordinationAdapter():
            return await adapter.members()
        case ports.ActorRegistry():
            return await adapter.get(name, name)
        case ports.SecretsStore():
            return await adapter.list(limit=1)
        case _:
            return None  # reaching it has been the test: what is left changes something with everything it can do


def _machine() -> list[dict[str, Any]]:
    import shutil
    import sqlite3
    import time
    from pathlib import Path

    free = shutil.disk_usage(Path.cwd()).free
    return [
        _row("sqlite", sqlite3.sqlite_version, sqlite3.sqlite_version_info >= (3, 35)),
        _row("disk", f"{free / 1024**3:.1f} GiB free in the working folder", free > _LOW_DISK),
        _row("clock", time.strftime("%Y-%m-%dT%H:%M:%S%z"), time.time() > 1_700_000_000),
    ]
