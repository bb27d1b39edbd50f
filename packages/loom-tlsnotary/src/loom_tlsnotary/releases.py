"""The versions of the module that can be used, each pinned by its hashes."""

from __future__ import annotations

import msgspec

__all__ = ["ALPHA_12", "RELEASES", "Release"]


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the npm package ``tlsn-wasm``.

    ``wasm_sha256`` is that of ``tlsn_wasm_bg.wasm``; ``integrity`` that of the tarball as npm writes it; ``protocol``
    says whose presentations it verifies. ``imports`` are the names, which the build made up, of the functions
    that it calls to build its results: those that carry no meaning in their names.
    """

    version: str
    wasm_sha256: str
    integrity: str
    protocol: str
    imports: dict[str, str]


ALPHA_12 = Release(
    version="0.1.0-alpha.12",
    wasm_sha256="f77fadf47ed8c3bfb0932041b280f834940ecf1a64b491f8658d789717588716",
    integrity="sha512-0HlhM466ewogualMmpevFAgfWfUh1qwt/RjbOKSQiE+EPK99x8BrMBlChAxjnCxWpuUaDfaVEXTEPF07RYBtuQ==",
    protocol="TLSNotary 0.1.0-alpha.11 and alpha.12",
    imports={
        "__wbg_new_405e22f390576ce2": "new_object",
        "__wbg_new_78feb108b6472713": "new_array",
        "__wbg_new_8a6f238a6ece86ea": "new_error",
        "__wbg_set_3f1d0b984ed272ed": "set_key",
        "__wbg_set_37837023f3d740e8": "set_index",
        "__wbg_error_7534b8e9a36f1ab4": "console_error",
        "__wbg_stack_0ed75d68575b0f3c": "stack",
    },
)

RELEASES: dict[str, Release] = {ALPHA_12.version: ALPHA_12}
"""By version; a further one is one entry more."""
