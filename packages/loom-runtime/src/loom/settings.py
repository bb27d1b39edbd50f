"""Settings: which adapter serves each port, in which environment, with which options, and who said so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import msgspec

from ._hints import closest, did_you_mean
from .environment import ENVIRONMENTS, Environment, detect_environment
from .errors import ConfigurationError
from .options import OPTION_TYPES, RuntimeOptions
from .plugins.spec import PORTS, PortName
from .plugins.urls import LoomURL
from .tomlfile import TomlFile

__all__ = [
    "DEFAULT_URL",
    "Environment",
    "GuardMode",
    "RuntimeOptions",
    "SealMode",
    "Settings",
    "Source",
    "load_settings",
]

T = TypeVar("T")

DEFAULT_URL = "sqlite:///loom.db"

GuardMode = Literal["refuse", "warn"]

SealMode = Literal["off", "new", "all"]
"""Whether payloads are sealed: not at all; those that are written, plain ones being read too; or all there are."""


class Source(msgspec.Struct, frozen=True):
    """Where a value came from. ``name`` is what a person would change: an argument, a variable, a key of loom.toml."""

    kind: Literal["argument", "environment", "file", "default"]
    name: str

    def __str__(self) -> str:
        return {"argument": "argument ", "environment": "", "file": "", "default": "default "}[self.kind] + self.name


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is configured. Holds no credentials in its ``repr``; makes nothing, opens nothing.

    ``port_urls`` has the URL of every port; ``sources`` says where environment, guard, seal and options came from, by
    their names.
    """

    port_urls: dict[PortName, tuple[LoomURL, Source]]
    environment: Environment
    environment_reason: str
    guard: GuardMode
    seal: SealMode = "off"
    options: RuntimeOptions
    sources: dict[str, Source]
    toml_path: Path | None = None

    def url_for(self, port: PortName) -> tuple[LoomURL, Source]:
        """The URL that serves ``port`` and who chose it. Raises ConfigurationError for a port that does not exist."""
        _check_port(port, "url_for()")
        return self.port_urls[port]

    def source_of(self, name: str) -> Source:
        """Where ``environment``, ``guard``, ``seal`` or a runtime option came from. Raises KeyError for other names."""
        return self.sources[name]


def load_settings(
    url: str | LoomURL | None = None,
    urls: Mapping[str, str | LoomURL] | None = None,
    env: str | None = None,
    options: RuntimeOptions | Mapping[str, Any] | None = None,
    toml_path: str | Path | None = None,
    environ: Mapping[str, str] = os.environ,
    guard: str | None = None,
) -> Settings:
    """Resolve the settings: arguments, then the environment, then loom.toml, then defaults.

    A layer wins whole: within one the URL of a port goes before the general one, but ``LOOM_URL`` goes before
    ``[loom.urls] journal``. ``options`` as RuntimeOptions settles every option, as a mapping those that it names.
    ``toml_path`` must exist when given; otherwise ``loom.toml`` in the working folder is read if it is there. Empty
    variables count as unset. No I/O but reading that file.

    Raises ConfigurationError, naming the file and line, the variable or the argument, for unknown keys, wrong types
    and values out of range.
    """
    layers = [_from_arguments(url, urls, env, options, guard), _from_environment(environ)]
    file = _find_toml(toml_path)
    if file is not None:
        layers.append(_from_toml(file))
    layers.append(_Layer(url=(DEFAULT_URL, Source("default", DEFAULT_URL))))

    port_urls = {port: _resolve_url(port, layers) for port in PORTS}
    sources: dict[str, Source] = {}
    declared = _first(layers, lambda layer: layer.env)
    if declared is not None:
        _check_choice(declared, ENVIRONMENTS, "the environment")
        sources["environment"] = declared[1]
    environment, reason = detect_environment(
        declared[0] if declared else None, environ, (found for found, _ in port_urls.values())
    )
    if declared is not None:
        reason = f"{declared[1]} says so"
    mode = _first(layers, lambda layer: layer.guard) or ("refuse", Source("default", "refuse"))
    _check_choice(mode, ("refuse", "warn"), "the guard")
    sources["guard"] = mode[1]
    seal = _first(layers, lambda layer: layer.seal) or ("off", Source("default", "off"))
    _check_choice(seal, ("off", "new", "all"), "the sealing of payloads")
    sources["seal"] = seal[1]
    sources.setdefault("environment", Source("default", "detection"))
    return Settings(
        port_urls=port_urls,
        environment=environment,
        environment_reason=reason,
        guard=cast(GuardMode, mode[0]),
        seal=cast(SealMode, seal[0]),
        options=_resolve_options(layers, sources),
        sources=sources,
        toml_path=file.path if file is not None else None,
    )


class _Layer(msgspec.Struct):
    """What one source says. ``None`` and missing keys are left to the layers below."""

    url: tuple[str | LoomURL, Source] | None = None
    urls: dict[str, tuple[str | LoomURL, Source]] = {}
    env: tuple[str, Source] | None = None
    guard: tuple[str, Source] | None = None
    seal: tuple[str, Source] | None = None
    options: dict[str, tuple[Any, Source]] = {}


def _from_arguments(
    url: str | LoomURL | None,
    urls: Mapping[str, str | LoomURL] | None,
    env: str | None,
    options: RuntimeOptions | Mapping[str, Any] | None,
    guard: str | None,
) -> _Layer:
    layer = _Layer(url=None if url is None else (url, Source("argument", "url")))
    for port, value in (urls or {}).items():
        _check_port(port, "the argument urls")
        layer.urls[port] = (value, Source("argument", f"urls[{port!r}]"))
    layer.env = None if env is None else (env, Source("argument", "env"))
    layer.guard = None if guard is None else (guard, Source("argument", "guard"))
    given = msgspec.structs.asdict(options) if isinstance(options, RuntimeOptions) else options or {}
    for name, value in given.items():
        if name not in OPTION_TYPES:
            raise ConfigurationError(f"options has no {name!r}; {did_you_mean(name, OPTION_TYPES)}", option=name)
        layer.options[name] = (value, Source("argument", f"options.{name}"))
    return layer


def _from_environment(environ: Mapping[str, str]) -> _Layer:
    layer = _Layer()
    for variable, name, store in _variables(layer):
        if value := environ.get(variable):
            store(name, value, Source("environment", variable))
    known = [variable for variable, _, _ in _variables(layer)]
    for variable in environ:
        # Only what comes very near is taken for a slip of the pen: a Kubernetes service called "loom" sets LOOM_*
        # variables of its own, and those must not stop anybody.
        if variable.startswith("LOOM_") and variable not in known and _is_ours(variable):
            near = closest(variable, known, cutoff=0.88)
            if near is not None and not environ.get(near):
                raise ConfigurationError(
                    f"the environment variable {variable} means nothing to Loom; did you mean {near}?",
                    variable=variable,
                )
    return layer


def _is_ours(variable: str) -> bool:
    return variable.endswith("_URL") or variable.startswith("LOOM_RUNTIME_")


def _variables(layer: _Layer) -> Iterator[tuple[str, str, Callable[[str, str, Source], None]]]:
    """Every variable that Loom reads, with the name of its value and what stores it in the layer."""

    def url(_: str, value: str, source: Source) -> None:
        layer.url = (value, source)

    def port_url(name: str, value: str, source: Source) -> None:
        layer.urls[name] = (value, source)

    def env(_: str, value: str, source: Source) -> None:
        layer.env = (value, source)

    def guard(_: str, value: str, source: Source) -> None:
        layer.guard = (value, source)

    def seal(_: str, value: str, source: Source) -> None:
        layer.seal = (value, source)

    def option(name: str, value: str, source: Source) -> None:
        layer.options[name] = (_number(name, value, source), source)

    yield "LOOM_URL", "", url
    yield "LOOM_ENV", "", env
    yield "LOOM_GUARD", "", guard
    yield "LOOM_SEAL", "", seal
    for port in PORTS:
        yield f"LOOM_{port.upper()}_URL", port, port_url
    for name in OPTION_TYPES:
        yield f"LOOM_RUNTIME_{name.upper()}", name, option


def _number(name: str, text: str, source: Source) -> float:
    kind = OPTION_TYPES[name]
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ConfigurationError(f"{source} must be {wanted}, not {text!r}", option=name) from None


def _find_toml(given: str | Path | None) -> TomlFile | None:
    path = Path("loom.toml" if given is None else given)
    if given is None and not path.exists():
        return None
    return TomlFile(path)


def _from_toml(file: TomlFile) -> _Layer:
    file.table("", {"loom": dict, "runtime": dict})
    main = file.table("loom", {"url": str, "env": str, "guard": str, "seal": str, "urls": dict})
    urls = file.table("loom.urls", dict.fromkeys(PORTS, str))
    options = file.table("runtime", {n: int if kind is int else (int, float) for n, kind in OPTION_TYPES.items()})

    def source(table: str, key: str) -> Source:
        return Source("file", f"{file.path} [{table}] {key}")

    layer = _Layer()
    if "url" in main:
        layer.url = (main["url"], source("loom", "url"))
    if "env" in main:
        layer.env = (main["env"], source("loom", "env"))
    if "guard" in main:
        layer.guard = (main["guard"], source("loom", "guard"))
    if "seal" in main:
        layer.seal = (main["seal"], source("loom", "seal"))
    layer.urls = {port: (value, source("loom.urls", port)) for port, value in urls.items()}
    layer.options = {name: (value, source("runtime", name)) for name, value in options.items()}
    return layer


def _resolve_url(port: PortName, layers: list[_Layer]) -> tuple[LoomURL, Source]:
    found = _first(layers, lambda layer: layer.urls.get(port) or layer.url)
    assert found is not None, "the defaults hold a general URL"
    value, source = found
    if isinstance(value, LoomURL):
        return value, source
    try:
        return LoomURL.parse(value), source
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}", port=port, source=str(source)) from None


def _resolve_options(layers: list[_Layer], sources: dict[str, Source]) -> RuntimeOptions:
    values: dict[str, Any] = {}
    for name in OPTION_TYPES:
        found = _first(layers, lambda layer, name=name: layer.options.get(name))  # type: ignore[misc]
        if found is not None:
            values[name] = found[0]
        sources[name] = found[1] if found is not None else Source("default", name)
    try:
        return RuntimeOptions(**values)
    except ConfigurationError as error:
        name = str(error.context.get("option", ""))
        raise ConfigurationError(f"{error} ({sources[name]})", option=name, source=str(sources[name])) from None


def _first(layers: list[_Layer], pick: Callable[[_Layer], T | None]) -> T | None:
    return next((found for found in map(pick, layers) if found is not None), None)


def _check_port(port: str, where: str) -> None:
    if port not in PORTS:
        raise ConfigurationError(f"{where}: there is no port {port!r}; {did_you_mean(port, PORTS)}", port=port)


def _check_choice(value: tuple[str, Source], choices: tuple[str, ...], what: str) -> None:
    text, source = value
    if text not in choices:
        near = closest(text, choices, cutoff=0.5)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ConfigurationError(
            f"{source}: {what} must be {', '.join(choices[:-1])} or {choices[-1]}, not {text!r}{hint}",
            source=str(source),
        )
