"""``loom tlsnotary``: install the module, verify a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["group"]

_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def group() -> typer.Typer:
    """The commands."""
    app = typer.Typer(no_args_is_help=True, help="Verify TLSNotary presentations.")
    app.command("install")(install)
    app.command("verify")(verify)
    return app


def install(
    tarball: Annotated[
        Path | None, typer.Option("--tarball", metavar="FILE", help="The npm package's .tgz; else npm fetches it.")
    ] = None,
    json: _JSON = False,
) -> None:
    """Put the pinned tlsn-wasm module where the verifier looks for it, and compile it. Needs no network afterwards."""
    import msgspec

    from .install import install as put
    from .module import load_module, make_engine
    from .releases import ALPHA_12

    place = put(ALPHA_12, tarball)
    load_module(make_engine(), place.read_bytes(), ALPHA_12.wasm_sha256)
    told = {"release": ALPHA_12.version, "sha256": ALPHA_12.wasm_sha256, "path": str(place)}
    if json:
        typer.echo(msgspec.json.encode(told).decode())
    else:
        typer.echo(f"tlsn-wasm {ALPHA_12.version} is at {place} (SHA-256 as pinned) and compiled.")


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The presentation.", exists=True, dir_okay=False)],
    server: Annotated[str, typer.Option("--server", metavar="NAME", help="The server's exact DNS name.")],
    notary: Annotated[
        list[str] | None,
        typer.Option("--notary", metavar="KEY", help="secp256k1:HEX to trust, repeatable; else what is configured."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="POINTER", help="A JSON pointer that must be proven; repeatable."),
    ] = None,
    max_age: Annotated[float | None, typer.Option("--max-age", metavar="SECONDS", help="How old it may be.")] = None,
    url: Annotated[
        str, typer.Option("--url", envvar="LOOM_TLSNOTARY_URL", metavar="URL", help="The verifier.")
    ] = "tlsn://",
    json: _JSON = False,
) -> None:
    """Verify a presentation; exit code 1, and the check that failed, when it is refused."""
    import msgspec

    from loom.plugins import AdapterContext, LoomURL
    from loom.ports import NotaryKey, TLSNotaryPolicy, TLSNotaryVerdict

    from .options import TLSNotaryOptions
    from .render import as_json, as_text

    parsed = LoomURL.parse(url)
    options = TLSNotaryOptions.from_url(parsed)
    if notary:
        options = msgspec.structs.replace(options, notaries=tuple(NotaryKey.parse(key) for key in notary))
    policy = TLSNotaryPolicy(require_fields=tuple(field or ()), max_age=max_age)

    async def work() -> TLSNotaryVerdict:
        async with _verifier(parsed.scheme, options, AdapterContext()) as verifier:
            found: TLSNotaryVerdict = await verifier.verify(file.read_bytes(), server, policy)
            return found

    verdict = asyncio.run(work())
    typer.echo(as_json(verdict) if json else as_text(verdict))


def _verifier(scheme: str, options: Any, context: Any) -> Any:
    from loom.errors import UnknownSchemeError

    if scheme == "tlsn":
        from .verifier import WasmTLSNotaryVerifier

        return WasmTLSNotaryVerifier(options, clock=context.clock)
    if scheme == "tlsn+test":
        from .testing import TestTLSNotaryVerifier

        return TestTLSNotaryVerifier(options, clock=context.clock)
    raise UnknownSchemeError(f"{scheme}:// is no verifier of files; use tlsn://, or in tests tlsn+test://")
