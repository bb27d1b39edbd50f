"""What a ``tlsn`` URL and the TLSNOTARY variables say: whom to trust, for how long, and how much work to do."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from loom.errors import ConfigurationError
from loom.plugins import LoomURL
from loom.ports import NotaryKey

from .limits import Limits
from .releases import ALPHA_12, RELEASES

__all__ = ["ALLOW_MOCK", "MAX_AGE", "TRUSTED", "TLSNotaryOptions", "mock_is_allowed"]

TRUSTED = "TLSNOTARY_TRUSTED_NOTARIES"
MAX_AGE = "TLSNOTARY_MAX_PRESENTATION_AGE"
ALLOW_MOCK = "TLSNOTARY_ALLOW_MOCK"


class TLSNotaryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How presentations are verified.

    ``tlsn:///path/to/tlsn_wasm_bg.wasm`` names the module, ``tlsn://`` the one that ``loom tlsnotary install`` has put
    in place. The query may set:

    - ``notaries``: the keys to trust, ``secp256k1:HEX`` with commas between; else TLSNOTARY_TRUSTED_NOTARIES;
    - ``max_age`` (3600): seconds that a session may be old; else TLSNOTARY_MAX_PRESENTATION_AGE;
    - ``max_skew`` (60): seconds that the notary's clock may be ahead of this machine's;
    - ``workers`` (2): proofs at once, each in a thread; others wait for their turn;
    - ``max_bytes`` (2 MiB), ``max_transcript`` (128 KiB), ``max_memory`` (64 MiB), ``max_seconds`` (10): the limits of
      a proof, see ``Limits``;
    - ``release``: the version of tlsn-wasm, where there is more than one;
    - ``cache_ttl`` (86400): seconds for which a proof is remembered, where a cache was handed in.
    """

    notaries: tuple[NotaryKey, ...] = ()
    module: Path | None = None
    max_age: float = 3600.0
    max_skew: float = 60.0
    workers: int = 2
    limits: Limits = Limits()
    release: str = ALPHA_12.version
    cache_ttl: float = 86_400.0

    @classmethod
    def from_url(cls, url: LoomURL, environ: Mapping[str, str] | None = None) -> Self:
        """Raises ConfigurationError for what does not exist or does not fit."""
        if url.host or url.username or url.password:
            raise ConfigurationError(f"{url}: write {url.scheme}:// or {url.scheme}:///path/to/tlsn_wasm_bg.wasm")
        options = cls.from_environ(environ)
        changed: dict[str, Any] = {}
        limits: dict[str, Any] = {}
        for name, text in url.query.items():
            if name in _LIMITS:
                field, kind = _LIMITS[name]
                limits[field] = _number(text, kind, f"{url}: {name}")
            elif name in _SETTABLE:
                changed[name] = _SETTABLE[name](text, f"{url}: {name}")
            else:
                known = [*_SETTABLE, *_LIMITS]
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
                raise ConfigurationError(f"{url}: there is no option {name!r}; {hint}", option=name)
        if url.path.strip("/"):
            changed["module"] = Path(url.path)
        if limits:
            changed["limits"] = msgspec.structs.replace(options.limits, **limits)
        return msgspec.structs.replace(options, **changed)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Self:
        """What the variables say, and defaults. Raises ConfigurationError naming the variable."""
        environ = os.environ if environ is None else environ
        given: dict[str, Any] = {}
        if text := environ.get(TRUSTED, "").strip():
            given["notaries"] = _keys(text, TRUSTED)
        if text := environ.get(MAX_AGE, "").strip():
            given["max_age"] = _number(text, float, MAX_AGE)
        return cls(**given)


def mock_is_allowed(environ: Mapping[str, str]) -> bool:
    """What TLSNOTARY_ALLOW_MOCK says. Raises ConfigurationError for what is neither yes nor no."""
    text = environ.get(ALLOW_MOCK, "").strip().lower()
    if text in ("", "0", "false", "no", "off"):
        return False
    if text in ("1", "true", "yes", "on"):
        return True
    raise ConfigurationError(f"{ALLOW_MOCK} must be true or false, not {text[:40]!r}", variable=ALLOW_MOCK)


def _keys(text: str, where: str) -> tuple[NotaryKey, ...]:
    try:
        return tuple(dict.fromkeys(NotaryKey.parse(part) for part in text.split(",") if part.strip()))
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _number(text: str, kind: type, where: str) -> Any:
    value: Any
    try:
        value = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        value = 0
    if not 0 < value < 1e12:
        noun = "a whole number" if kind is int else "a number"
        raise ConfigurationError(f"{where} must be {noun} above zero, not {text[:40]!r}")
    return value


def _release(text: str, where: str) -> str:
    if text not in RELEASES:
        raise ConfigurationError(f"{where}: {text!r} is not among {', '.join(RELEASES)}")
    return text


_SETTABLE: dict[str, Callable[[str, str], Any]] = {
    "notaries": _keys,
    "max_age": lambda text, where: _number(text, float, where),
    "max_skew": lambda text, where: _number(text, float, where),
    "workers": lambda text, where: min(_number(text, int, where), 32),
    "release": _release,
    "cache_ttl": lambda text, where: _number(text, float, where),
}

_LIMITS: dict[str, tuple[str, type]] = {
    "max_bytes": ("presentation", int),
    "max_transcript": ("transcript", int),
    "max_memory": ("memory", int),
    "max_seconds": ("seconds", float),
}
