"""``loom secrets``: the secrets of a configuration. A value is shown to who asks for it by ``--show``, else never."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AppOption, JsonOption, TomlOption, UrlOption

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..ports import SecretsStore, SecretValue, SecretVersion

__all__ = ["group"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="1 to 90 of a-z, 0-9 and -.")]
Version = Annotated[str | None, typer.Option("--version", metavar="ID", help="This version; else the newest.")]
FromFile = Annotated[
    str | None,
    typer.Option("--from-file", metavar="FILE", help="Read the value there; else it is asked for, or read from stdin."),
]
Until = Annotated[str | None, typer.Option("--expires", metavar="TIME", help="An ISO time, 30d from now, or never.")]
After = Annotated[str | None, typer.Option("--not-before", metavar="TIME", help="An ISO time, 30d from now, or never.")]


def group() -> typer.Typer:
    """The commands under ``loom secrets``."""
    app = typer.Typer(help="Secrets: list, set, rotate, disable, and re-seal.", no_args_is_help=True)
    app.command("list")(list_secrets)
    app.command("get")(get)
    app.command("set")(set_secret)
    app.command("rotate")(rotate)
    app.command("versions")(versions)
    app.command("enable")(enable)
    app.command("disable")(disable)
    app.command("bounds")(bounds)
    app.command("delete")(delete)
    app.command("recover")(recover)
    app.command("purge")(purge)
    app.command("reseal")(reseal)
    app.command("new-key")(new_key)
    return app


def list_secrets(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Only names that begin so.")] = "",
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that are deleted and can be recovered.")] = False,
    url: UrlOption = None, toml: TomlOption = None, app: AppOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """List secrets, without values."""
    from .output import Output

    async def work(store: SecretsStore) -> list[Any]:
        found: list[Any] = []
        cursor: str | None = None
        while True:
            listing = store.deleted if deleted else store.list
            page, cursor = await listing(prefix=prefix, cursor=cursor)
            found += page
            if cursor is None:
                return found

    found, out = _with_store(work, url, toml, app), Output(json=json)
    if deleted:
        out.data({"deleted": found}) if json else out.table(
            ("name",), [(n,) for n in found], empty="nothing is deleted"
        )
    elif json:
        out.data({"secrets": found})
    else:
        out.table(_COLUMNS, [_row(about) for about in found], empty="no secrets")


def get(
    name: Name, version: Version = None,
    show: Annotated[bool, typer.Option("--show", help="Print the value, and nothing else without --json.")] = False,
    url: UrlOption = None, toml: TomlOption = None, app: AppOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Read a secret: whether it can be used and, if asked for, its value."""
    import msgspec

    from .output import Output

    secret = _with_store(lambda store: store.get(name, version), url, toml, app)
    out = Output(json=json, redact=not show)
    if json:
        out.data(
            {**msgspec.structs.asdict(secret.about), "value": secret.value.reveal() if show else str(secret.value)}
        )
    elif show:
        out.line(secret.value.reveal())
    else:
        out.table(_COLUMNS, [_row(secret.about)])
        out.remark("it can be read; --show prints its value")


def set_secret(
    name: Name, from_file: FromFile = None, expires: Until = None, not_before: After = None,
    url: UrlOption = None, toml: TomlOption = None, app: AppOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Add a version, which is the newest then. The value is never an argument: those are shown to everybody."""
    value = _value(name, from_file)
    given = {"not_before": _time(not_before), "expires_at": _time(expires)}
    _say(_with_store(lambda store: store.set(name, value, **given), url, toml, app, create=True), "set", json)


def rotate(
    name: Name, from_file: FromFile = None,
    overlap: Annotated[float, typer.Option("--overlap", metavar="SECONDS", help="How long the others last.")] = 0.0,
    url: UrlOption = None, toml: TomlOption = None, app: AppOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Add a version, and let the earlier ones end when the overlap is over."""
    value = _value(name, from_file)
    rotation = _with_store(lambda store: store.rotate(name, value, overlap=overlap), url, toml, app)
    _say(rotation.new, f"rotated; earlier versions end in {overlap:g} s", json)


def versions(
    name: Name, url: UrlOption = None, toml: TomlOption = None, app: AppOption = None, json: JsonOption = False
) -> None:
    """List the versions of a secret, the newest first."""
    from .output import Output

    found, out = _with_store(lambda store: store.versions(name), url, toml, app), Output(json=json)
    out.data({"versions": found}) if json else out.table(_COLUMNS, [_row(about) for about in found])


def enable(
    name: Name, version: Version = None, url: UrlOption = None, toml: TomlOption = None, app: AppOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Let a version be used again."""
    _update(name, version, {"enabled": True}, "enabled", url, toml, app, json)


def disable(
    name: Name, version: Version = None, url: UrlOption = None, toml: TomlOption = None, app: AppOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Let a version be used no more; clients notice when their copy is old."""
    _update(name, version, {"enabled": False}, "disabled", url, toml, app, json)


def bounds(
    name: Name, version: Version = None, expires: Until = None, not_before: After = None,
    url: UrlOption = None, toml: TomlOption = None, app: AppOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Move when a version begins or ends to be usable."""
    changes = {n: _time(text) for n, text in (("expires_at", expires), ("not_before", not_before)) if text is not None}
    if not changes:
        raise typer.BadParameter("give --expires or --not-before")
    _update(name, version, changes, "changed", url, toml, app, json)


def delete(
    name: Name, url: UrlOption = None, toml: TomlOption = None, app: AppOption = None, json: JsonOption = False
) -> None:
    """Delete a secret with all its versions; it can be recovered where the store keeps it."""
    _whole(name, "delete", "deleted", url, toml, app, json)


def recover(
    name: Name, url: UrlOption = None, toml: TomlOption = None, app: AppOption = None, json: JsonOption = False
) -> None:
    """Undo a deletion."""
    _whole(name, "recover", "recovered", url, toml, app, json)


def purge(
    name: Name, url: UrlOption = None, toml: TomlOption = None, app: AppOption = None, json: JsonOption = False
) -> None:
    """Forget a deleted secret for good."""
    _whole(name, "purge", "purged", url, toml, app, json)


def reseal(url: UrlOption = None, toml: TomlOption = None, app: AppOption = None, json: JsonOption = False) -> None:
    """Seal by the first key of the keyring what another has sealed."""
    import msgspec

    from .output import Output

    async def work(store: Any) -> Any:
        from ..adapters.derived.secrets import DocumentSecretsStore
        from ..errors import SecretError

        if not isinstance(store, DocumentSecretsStore):
            raise SecretError(f"{type(store).__name__} seals by keys of its own; there is nothing to re-seal")
        return await store.reseal()

    done, out = _with_store(work, url, toml, app), Output(json=json)
    if json:
        out.data(msgspec.structs.asdict(done))
    else:
        out.line(f"{done.resealed} re-sealed, {done.current} sealed by the first key before")


def new_key(
    id: Annotated[str | None, typer.Option("--id", help="The key's name; today's date if not given.")] = None,
    json: JsonOption = False,
) -> None:
    """Print a new sealing key, as a line for a keyring. It is printed once and kept nowhere."""
    import datetime as dt

    from ..sealing import new_key as make
    from .output import Output

    line, out = make(id or dt.datetime.now(dt.UTC).date().isoformat()), Output(json=json)
    out.data({"key": line}) if json else out.line(line)


_COLUMNS = ("name", "version", "enabled", "made", "not before", "expires")


def _row(about: SecretVersion) -> tuple[Any, ...]:
    from .output import clock_time

    times = [clock_time(at) for at in (about.created_at, about.not_before, about.expires_at)]
    return about.name, about.version, "yes" if about.enabled else "no", *times


def _with_store(
    work: Callable[[SecretsStore], Awaitable[Any]], url: str | None, toml: str | None, app: str | None, *,
    create: bool = False,
) -> Any:  # fmt: skip
    """Run ``work`` on the store; only who sets a secret makes one where there is none.

    What the store says of the arguments (no value, an end before the beginning) is told as of wrong usage.
    """
    from ..secrets.opening import store_of
    from .session import make_app, wait_for

    async def opened() -> Any:
        loom = make_app(app, url, toml)
        async with store_of(loom.settings, loom.registry, instances=loom.instances, create=create) as store:
            try:
                return await work(store)
            except ValueError as error:
                raise typer.BadParameter(str(error)) from error

    return wait_for(opened())


def _update(
    name: str, version: str | None, changes: dict[str, Any], what: str, url: str | None, toml: str | None,
    app: str | None, json: bool,
) -> None:  # fmt: skip
    async def work(store: SecretsStore) -> SecretVersion:
        wanted = version or (await store.versions(name))[0].version
        return await store.update(name, wanted, **changes)

    _say(_with_store(work, url, toml, app), what, json)


def _whole(name: str, method: str, what: str, url: str | None, toml: str | None, app: str | None, json: bool) -> None:
    from .output import Output

    _with_store(lambda store: getattr(store, method)(name), url, toml, app)
    out = Output(json=json)
    out.data({"name": name, what: True}) if json else out.line(f"{name} is {what}")


def _say(about: SecretVersion, what: str, json: bool) -> None:
    from .output import Output

    out = Output(json=json)
    out.data(about) if json else out.line(f"{about.name} is {what}: version {about.version}")


def _value(name: str, file: str | None) -> SecretValue:
    import sys
    from pathlib import Path

    from ..errors import ConfigurationError
    from ..ports import SecretValue

    if file is not None:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigurationError(f"--from-file {file} cannot be read: {reason}", file=file) from None
    elif sys.stdin.isatty():
        text = typer.prompt(f"value of {name}", hide_input=True, confirmation_prompt=True)
    else:
        text = sys.stdin.read()
    # What echo and editors put behind the last line is nobody's password.
    return SecretValue(text.removesuffix("\n").removesuffix("\r"))


def _time(text: str | None) -> float | None:
    """Unix time of an ISO time, or of ``2h``, ``30d`` … from now on; None for none and for "never"."""
    import time

    from .options import moment

    if text is None or text == "never":
        return None
    now = time.time()
    at = moment(text, now)
    return 2 * now - at if text[-1] in "smhdw" else at
