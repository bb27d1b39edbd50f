"""WasmTLSNotaryVerifier: the official module, run in wasmtime, and the checks that it leaves to its user."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import Self

import msgspec

from loom.clock import Clock, SystemClock
from loom.errors import (
    ConfigurationError,
    PresentationFormatError,
    ProductionGuardError,
    StoreUnavailableError,
    VerificationLimitError,
)
from loom.plugins import AdapterContext, LoomURL
from loom.ports import IdempotencyStore, TLSNotaryPolicy, TLSNotaryVerdict, TLSNotaryVerifier

from .checks import judge
from .memo import Memo
from .module import load_module, make_engine, read_module
from .opened import Opened
from .options import TRUSTED, TLSNotaryOptions
from .pool import Pool
from .production import in_production, keys_of_tests, refuse_mock
from .releases import RELEASES, Release

__all__ = ["TLSNotaryHealth", "WasmTLSNotaryVerifier"]


class TLSNotaryHealth(msgspec.Struct, frozen=True, kw_only=True):
    """``healthy`` when a proof went through the module just now. ``production_problems`` speak against production."""

    healthy: bool
    mode: str
    release: str
    module_sha256: str
    notaries: tuple[str, ...]
    max_age: float
    production_problems: tuple[str, ...]


class WasmTLSNotaryVerifier(TLSNotaryVerifier):
    """Verifies presentations of TLSNotary 0.1.0-alpha.11 and alpha.12.

    Each proof has an instance of the module of its own, in one of ``options.workers`` threads, within
    ``options.limits``. ``cache`` remembers what the module found by the proof's hash; the checks are made anew each
    time. ``start`` reads and loads the module (compiling it takes some seconds, once for a machine and wasmtime
    version); it raises ConfigurationError where the module is missing or not the pinned one, or no notary is trusted,
    and ProductionGuardError where test notaries or TLSNOTARY_ALLOW_MOCK meet production.
    """

    def __init__(
        self,
        options: TLSNotaryOptions | None = None,
        *,
        clock: Clock | None = None,
        cache: IdempotencyStore | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self.options = TLSNotaryOptions.from_environ(self._environ) if options is None else options
        self._clock = clock or SystemClock()
        self._release = RELEASES[self.options.release]
        self._cache = cache
        self._memo: Memo | None = None
        self._pool: Pool | None = None
        self._digest = ""
        self._starting = asyncio.Lock()

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``tlsn://?notaries=secp256k1:HEX&…``; the options are those of TLSNotaryOptions."""
        return cls(TLSNotaryOptions.from_url(url), clock=context.clock)

    async def start(self) -> None:
        async with self._starting:
            if self._pool is None:
                refuse_mock(self._environ)
                if problems := self.production_problems() if in_production(self._environ) else []:
                    raise ProductionGuardError(f"refused in production: {'; '.join(problems)}")
                if not self.options.notaries:
                    raise ConfigurationError(
                        f"no notary is trusted, so nothing could be verified: set {TRUSTED}, or ?notaries= in the URL, "
                        "to the keys of the notaries that you trust (secp256k1:HEX, with commas)"
                    )
                self._pool = await asyncio.to_thread(self._load)

    def _load(self) -> Pool:
        wasm = self._module()
        self._digest = hashlib.sha256(wasm).hexdigest()
        if self._cache is not None:
            self._memo = Memo(self._cache, self._digest, self.options.cache_ttl)
        engine = make_engine()
        module = load_module(engine, wasm, self._digest)
        return Pool(engine, module, self._release, self.options.limits, self.options.workers)

    def _module(self) -> bytes:
        return read_module(self._release, self.options.module)

    @property
    def release(self) -> Release:
        """The version of the module."""
        return self._release

    async def close(self) -> None:
        async with self._starting:
            pool, self._pool = self._pool, None
            if pool is not None:
                await pool.close()

    async def verify(
        self, presentation: bytes, server_name: str, policy: TLSNotaryPolicy | None = None
    ) -> TLSNotaryVerdict:
        if len(presentation) > self.options.limits.presentation:
            raise VerificationLimitError(
                f"the presentation of {len(presentation)} bytes is longer than {self.options.limits.presentation}",
                limit="presentation",
            )
        proof_hash = hashlib.sha256(presentation).hexdigest()
        opened = await self._opened(bytes(presentation), proof_hash)
        return await asyncio.to_thread(  # a large body takes a while to unpack and read
            judge,
            opened,
            proof_hash=proof_hash,
            server_name=server_name,
            policy=policy or TLSNotaryPolicy(),
            trusted=self.options.notaries,
            now=self._clock.now(),
            max_age=self.options.max_age,
            max_skew=self.options.max_skew,
        )

    async def _opened(self, presentation: bytes, proof_hash: str) -> Opened:
        pool = self._pool
        if pool is None:
            raise StoreUnavailableError("the TLSNotary verifier is not started; use 'async with verifier:'")
        if self._memo is None:
            return await pool.open(presentation)
        return await self._memo.opened(proof_hash, lambda: pool.open(presentation))

    # -- what is said of it --------------------------------------------------------------------------------------

    def production_problems(self) -> list[str]:
        """What speaks against this verifier in production, in words; nothing when it may run there."""
        problems = []
        if not self.options.notaries:
            problems.append(f"no notary is trusted ({TRUSTED} or ?notaries=)")
        if found := keys_of_tests(self.options.notaries):
            problems.append(f"{', '.join(map(str, found))}: a test notary, whose secret key is published, is trusted")
        return problems

    async def health_check(self) -> TLSNotaryHealth:
        """Send something that is no presentation through the module, which must refuse it as such."""
        healthy = False
        try:
            await self._opened(b"\0", "")
        except PresentationFormatError:
            healthy = True
        except StoreUnavailableError:
            pass
        return TLSNotaryHealth(
            healthy=healthy,
            mode="wasm",
            release=self._release.version,
            module_sha256=self._digest,
            notaries=tuple(map(str, self.options.notaries)),
            max_age=self.options.max_age,
            production_problems=tuple(self.production_problems()),
        )

    async def facts(self) -> dict[str, str]:
        return {
            "module": f"tlsn-wasm {self._release.version}",
            "verifies": self._release.protocol,
            "wasmtime": version("wasmtime"),
            "trusted notaries": ", ".join(map(str, self.options.notaries)),
            "max age": f"{self.options.max_age:g} s",
        }
