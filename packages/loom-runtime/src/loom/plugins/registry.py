"""AdapterRegistry: from a port and a URL to an adapter."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from .._hints import closest
from ..errors import ConfigurationError, LoomError, PluginError, UnknownSchemeError
from .derived import DERIVED_PORTS, derive_spec, is_derived
from .known import package_for
from .loader import PluginLoader
from .report import PluginReport
from .spec import PORTS, AdapterSpec, PortName
from .urls import AdapterContext, LoomURL

if TYPE_CHECKING:
    from ..ports import (
        ActorRegistry,
        BlobStore,
        CoordinationAdapter,
        DocumentStore,
        IdempotencyStore,
        JournalStore,
        LockManager,
        MessageQueue,
        Port,
        SecretsStore,
        StateStore,
        TLSNotaryVerifier,
    )

__all__ = ["AdapterRegistry", "port_class"]

URL = LoomURL | str

_CLASSES: dict[PortName, str] = {
    "journal": "JournalStore",
    "queue": "MessageQueue",
    "locks": "LockManager",
    "documents": "DocumentStore",
    "blobs": "BlobStore",
    "state": "StateStore",
    "idempotency": "IdempotencyStore",
    "coordination": "CoordinationAdapter",
    "registry": "ActorRegistry",
    "secrets": "SecretsStore",
    "tlsnotary": "TLSNotaryVerifier",
}


def port_class(port: PortName) -> type[Port]:
    """The abstract class of a port."""
    return cast("type[Port]", getattr(importlib.import_module("loom.ports"), _CLASSES[port]))


class AdapterRegistry:
    """Finds adapters by port and scheme, and opens them by URL.

    Built-in adapters are found without looking at anything installed; the installed plugins are loaded at the first
    scheme that the built-in ones do not serve, or when everything is asked for. Only then does a plugin that claims
    the scheme of another show; an app that wants to know at its start calls ``load_all``.
    """

    def __init__(self, plugins: PluginLoader | None = None) -> None:
        self.plugins = plugins or PluginLoader()

    def load_all(self) -> PluginReport:
        """Load every installed plugin and report on them."""
        self.plugins.load_all()
        return self.plugins.report()

    def specs(self) -> list[AdapterSpec]:
        """Every adapter there is, derived ones included; loads the installed plugins. Built-in adapters come first."""
        self.plugins.load_all()
        specs = self.plugins.specs()
        have = {(spec.port, spec.scheme) for spec in specs}
        for documents in [spec for spec in specs if spec.port == "documents"]:
            specs += [derive_spec(p, documents) for p in DERIVED_PORTS if (p, documents.scheme) not in have]
        return specs

    def spec(self, port: PortName, scheme: str) -> AdapterSpec:
        """The adapter of ``port`` under ``scheme``.

        Where a scheme has none for a port that can be built over documents, and serves documents, the adapter is the
        derived one. Raises UnknownSchemeError saying what was probably meant or what to install, and PluginError when
        two plugins claim it, naming both.
        """
        if port not in PORTS:
            raise ConfigurationError(f"there is no port {port!r}; there are {', '.join(PORTS)}", port=port)
        found = self._loaded(port, scheme)
        if found is None and not self.plugins.loaded_all:
            self.plugins.load_all()
            found = self._loaded(port, scheme)
        if found is None:
            raise UnknownSchemeError(self._explain(port, scheme), port=port, scheme=scheme)
        return found

    def serves(self, port: PortName, scheme: str) -> bool:
        """Whether ``spec`` would find an adapter, for callers that can do without the port."""
        try:
            self.spec(port, scheme)
        except UnknownSchemeError:
            return False
        return True

    @overload
    def open(self, port: Literal["journal"], url: URL, context: AdapterContext) -> JournalStore: ...
    @overload
    def open(self, port: Literal["queue"], url: URL, context: AdapterContext) -> MessageQueue: ...
    @overload
    def open(self, port: Literal["locks"], url: URL, context: AdapterContext) -> LockManager: ...
    @overload
    def open(self, port: Literal["documents"], url: URL, context: AdapterContext) -> DocumentStore: ...
    @overload
    def open(self, port: Literal["blobs"], url: URL, context: AdapterContext) -> BlobStore: ...
    @overload
    def open(self, port: Literal["state"], url: URL, context: AdapterContext) -> StateStore: ...
    @overload
    def open(self, port: Literal["idempotency"], url: URL, context: AdapterContext) -> IdempotencyStore: ...
    @overload
    def open(self, port: Literal["coordination"], url: URL, context: AdapterContext) -> CoordinationAdapter: ...
    @overload
    def open(self, port: Literal["registry"], url: URL, context: AdapterContext) -> ActorRegistry: ...
    @overload
    def open(self, port: Literal["secrets"], url: URL, context: AdapterContext) -> SecretsStore: ...
    @overload
    def open(self, port: Literal["tlsnotary"], url: URL, context: AdapterContext) -> TLSNotaryVerifier: ...
    @overload
    def open(self, port: PortName, url: URL, context: AdapterContext) -> Port: ...

    def open(self, port: PortName, url: URL, context: AdapterContext) -> Port:
        """Build the adapter of ``port`` for ``url``: imports its class, does no I/O. The caller starts and closes it.

        Raises what ``spec`` raises; PluginError when the class cannot be imported, is no such port or fails to build;
        ConfigurationError from the adapter for a URL that it cannot use. No message holds the URL's credentials.
        """
        parsed = LoomURL.parse(url) if isinstance(url, str) else url
        spec = self.spec(port, parsed.scheme)
        adapter_class = _import_target(spec)
        if is_derived(spec):
            return cast("Port", adapter_class(self.open("documents", parsed, context), clock=context.clock, owned=True))
        build = getattr(adapter_class, "from_url", None)
        if build is None:
            raise PluginError(
                f"{spec.distribution}: {spec.target} has no class method from_url(url, context)", target=spec.target
            )
        try:
            adapter = build(parsed, context)
        except LoomError:
            raise
        except Exception as error:
            # Not chained: a driver's message and its frames repeat the URL, with the password in it.
            reason = f"{type(error).__name__}: {_without_credentials(str(error), parsed)}"
            raise PluginError(
                f"{spec.distribution}: building the {port} adapter for {parsed} failed: {reason}",
                port=port, url=str(parsed), target=spec.target,
            ) from None  # fmt: skip
        if not isinstance(adapter, port_class(port)):
            raise PluginError(
                f"{spec.distribution}: {spec.target}.from_url gave a {type(adapter).__name__}, not a {_CLASSES[port]}",
                target=spec.target,
            )
        return adapter

    def _loaded(self, port: PortName, scheme: str) -> AdapterSpec | None:
        claims = self.plugins.claims(port, scheme)
        if len(claims) > 1:
            names = " and ".join(f"{claim.distribution} ({claim.spec.target})" for claim in claims)
            raise PluginError(
                f"{names} both claim {port} at {scheme}://; uninstall one of them, no order decides between them",
                port=port, scheme=scheme, distributions=[claim.distribution for claim in claims],
            )  # fmt: skip
        if claims:
            return claims[0].spec
        if port in DERIVED_PORTS:
            documents = self._loaded("documents", scheme)
            return derive_spec(port, documents) if documents is not None else None
        return None

    def _explain(self, port: PortName, scheme: str) -> str:
        specs = self.specs()
        schemes = sorted({spec.scheme for spec in specs if spec.port == port})
        served = [spec.port for spec in specs if spec.scheme == scheme]
        package = package_for(scheme)
        for claim in self.plugins.refused(scheme):
            if claim.spec.port == port:
                return f"no adapter serves {port} at {scheme}://: {claim.distribution}: {claim.refused}"
        # What failed to load may be the very package that serves the scheme; "pip install" it would mislead then.
        harmless = ("slow", "no-hooks", "duplicate", "api-version")
        failed = [problem for problem in self.plugins.report().problems if problem.code not in harmless]
        if package is not None and any(problem.distribution == package for problem in failed):
            text = f"no adapter serves {port} at {scheme}://; {package} is installed and does not work"
        elif served:
            text = (
                f"{scheme}:// serves {', '.join(served)}, not {port}; set LOOM_{port.upper()}_URL to one of the "
                f"schemes that do: {', '.join(schemes)}"
            )
        elif package is not None:
            text = f"no adapter serves {port} at {scheme}://; pip install {package}"
        else:
            near = closest(scheme, schemes)
            hint = f"did you mean {near}://?" if near else f"schemes for {port}: {', '.join(schemes)}"
            text = f"no adapter serves {port} at {scheme}://; {hint}"
        return "; ".join([text, *(f"plugin that did not load: {problem}" for problem in failed)])


def _import_target(spec: AdapterSpec) -> Any:
    module_name, _, class_name = spec.target.partition(":")
    where = f"{spec.distribution}: the {spec.port} adapter for {spec.scheme}://"
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        raise PluginError(
            f"{where} needs the module {error.name!r}, which is not installed; "
            f"pip install --force-reinstall {spec.distribution}",
            target=spec.target,
        ) from error
    except AttributeError as error:
        raise PluginError(f"{where} names {spec.target}, which does not exist: {error}", target=spec.target) from error
    except Exception as error:
        raise PluginError(f"{where} cannot be imported: {type(error).__name__}: {error}", target=spec.target) from error
    if not (isinstance(found, type) and issubclass(found, port_class(spec.port))):
        raise PluginError(f"{where} names {spec.target}, which is not a {_CLASSES[spec.port]}", target=spec.target)
    return found


def _without_credentials(text: str, url: LoomURL) -> str:
    secrets = [url.raw, url.password, *(v for k, v in url.query.items() if f"{k}={v}" not in str(url))]
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text
