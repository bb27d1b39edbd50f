"""TLSNotary for Loom: which server said what, and when. The verifier is chosen by URL (``tlsn://``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .__about__ import __version__

if TYPE_CHECKING:
    from .mock import MockTLSNotaryVerifier
    from .options import TLSNotaryOptions
    from .verifier import WasmTLSNotaryVerifier

__all__ = ["MockTLSNotaryVerifier", "TLSNotaryOptions", "WasmTLSNotaryVerifier", "__version__"]

_MODULES = {"MockTLSNotaryVerifier": "mock", "TLSNotaryOptions": "options", "WasmTLSNotaryVerifier": "verifier"}


def __getattr__(name: str) -> Any:
    """Import wasmtime only when the verifier is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
