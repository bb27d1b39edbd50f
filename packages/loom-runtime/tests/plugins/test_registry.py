"""From a port and a URL to an adapter, or to an error that says what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loom.adapters.derived.state import DocumentStateStore
from loom.clock import Clock
from loom.errors import ConfigurationError, PluginError, UnknownSchemeError
from loom.plugins import PORTS, AdapterContext, AdapterRegistry, Durability, Feature, LoomURL, PluginLoader, Reach
from loom.plugins.registry import port_class
from loom.plugins.spec import UNBACKED_PORTS

Install = Callable[..., None]
Source = Callable[..., str]


@pytest.fixture
def builtin_only() -> AdapterRegistry:
    return AdapterRegistry(PluginLoader(find=list))


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
@pytest.mark.parametrize("port", [port for port in PORTS if port not in UNBACKED_PORTS])
def test_every_built_in_adapter_opens_without_io(
    builtin_only: AdapterRegistry, port: str, scheme: str, tmp_path: object
) -> None:
    url = "memory://" if scheme == "memory" else f"sqlite:///{tmp_path}/loom.db"
    adapter = builtin_only.open(port, url, AdapterContext())  # type: ignore[call-overload]
    assert isinstance(adapter, port_class(port))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())  # type: ignore[attr-defined]


def test_the_facts_of_the_built_in_adapters(builtin_only: AdapterRegistry) -> None:
    memory, sqlite = builtin_only.spec("queue", "memory"), builtin_only.spec("queue", "sqlite")
    assert (memory.durability, memory.reach) == (Durability.NONE, Reach.PROCESS)
    assert (sqlite.durability, sqlite.reach) == (Durability.MACHINE, Reach.HOST)
    assert sqlite.features == {Feature.ORDERED, Feature.DELAYED, Feature.PRIORITY}
    assert builtin_only.spec("blobs", "file").durability == Durability.MACHINE


@pytest.mark.parametrize(
    ("port", "scheme", "words"),
    [
        ("journal", "sqlit", "did you mean sqlite://?"),
        ("journal", "redis", "pip install loom-redis"),
        ("queue", "bullmq", "pip install loom-redis"),
        ("journal", "redis+sentinel", "pip install loom-redis"),
        ("journal", "cosmos+emulator", "pip install loom-cosmos"),
        ("blobs", "azblob", "pip install loom-azure"),
        ("tlsnotary", "tlsn", "pip install loom-tlsnotary"),
        ("journal", "file", "set LOOM_JOURNAL_URL to one of the schemes that do: memory, sqlite"),
        ("journal", "zzz", "schemes for journal: memory, sqlite"),
    ],
)
def test_an_unknown_scheme_says_what_to_do(builtin_only: AdapterRegistry, port: str, scheme: str, words: str) -> None:
    with pytest.raises(UnknownSchemeError) as caught:
        builtin_only.spec(port, scheme)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert not builtin_only.serves(port, scheme)  # type: ignore[arg-type]


def test_an_unknown_port_is_a_configuration_error(builtin_only: AdapterRegistry) -> None:
    with pytest.raises(ConfigurationError, match="there is no port 'jurnal'"):
        builtin_only.spec("jurnal", "sqlite")  # type: ignore[arg-type]


def test_a_package_that_is_installed_and_broken_is_not_suggested_again(install: Install) -> None:
    install("loom-redis", {"redis": "broken_redis"}, {"broken_redis.py": "raise ImportError('no redis here')"})
    with pytest.raises(UnknownSchemeError) as caught:
        AdapterRegistry().spec("journal", "redis")
    assert "no redis here" in str(caught.value)
    assert "pip install loom-redis" not in str(caught.value)


def test_a_plugin_for_another_api_says_so_when_its_scheme_is_used(install: Install, plugin_source: Source) -> None:
    install("loom-new", {"new": "new_plugin"}, {"new_plugin.py": plugin_source("new", extra=", api_version=9")})
    with pytest.raises(UnknownSchemeError, match="built for plugin API 9"):
        AdapterRegistry().spec("journal", "new")


def test_a_claim_by_two_is_an_error_naming_both_when_it_is_used(install: Install, plugin_source: Source) -> None:
    for name in ("one", "two"):
        install(f"loom-{name}", {name: f"{name}_plugin"}, {f"{name}_plugin.py": plugin_source("same", f"{name}.x:X")})
    registry = AdapterRegistry()
    assert registry.spec("journal", "sqlite").distribution == "loom-runtime"
    with pytest.raises(PluginError, match=r"loom-one.*loom-two"):
        registry.spec("journal", "same")


def test_a_claim_on_a_built_in_scheme_is_an_error_once_all_is_loaded(install: Install, plugin_source: Source) -> None:
    install("loom-thief", {"thief": "thief_plugin"}, {"thief_plugin.py": plugin_source("sqlite")})
    registry = AdapterRegistry()
    registry.load_all()
    with pytest.raises(PluginError, match=r"loom-runtime.*loom-thief"):
        registry.spec("journal", "sqlite")
    assert registry.spec("queue", "sqlite").distribution == "loom-runtime"


def test_what_documents_bring_is_derived_with_their_facts(install: Install, plugin_source: Source) -> None:
    source = plugin_source("docs", "loom.adapters.memory.documents:InMemoryCosmos", port="documents",
                           extra=", features=frozenset({Feature.TTL, Feature.TEST_ONLY})")  # fmt: skip
    install("loom-docs", {"docs": "docs_plugin"}, {"docs_plugin.py": "from loom.plugins import Feature\n" + source})
    registry = AdapterRegistry()
    for port in ("state", "idempotency", "coordination", "registry", "secrets"):
        spec = registry.spec(port, "docs")
        assert (spec.durability, spec.reach, spec.distribution) == (Durability.MACHINE, Reach.NETWORK, "loom-docs")
        # Members live by their heartbeats, whether or not documents expire.
        own = {"coordination": {Feature.TTL}, "secrets": {Feature.SOFT_DELETE}}
        assert spec.features == {Feature.TEST_ONLY} | own.get(port, set())
        assert isinstance(registry.open(port, "docs://", AdapterContext()), port_class(port))
    assert isinstance(registry.open("state", "docs://", AdapterContext()), DocumentStateStore)
    assert not registry.serves("queue", "docs")
    assert ("state", "docs") in {(spec.port, spec.scheme) for spec in registry.specs()}


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ("import a_driver_nobody_has", "a_driver_nobody_has"),
        ("", "does not exist"),
        ("raise OSError('wrong libc')", "wrong libc"),
        ("class Adapter: pass", "is not a JournalStore"),
        (
            "from loom.adapters.memory.journal import InMemoryJournalStore as B\n"
            "class Adapter(B):\n    @classmethod\n    def from_url(cls, url, context): return 5",
            "gave a int",
        ),
    ],
)
def test_a_driver_that_cannot_be_used_is_named(
    install: Install, plugin_source: Source, driver: str, words: str
) -> None:
    install("loom-d", {"d": "d_plugin"}, {"d_plugin.py": plugin_source("d", "d_driver:Adapter"), "d_driver.py": driver})
    with pytest.raises(PluginError) as caught:
        AdapterRegistry().open("journal", "d://host", AdapterContext())
    assert "loom-d" in str(caught.value)
    assert words in str(caught.value)


def test_credentials_stay_out_of_what_a_driver_says(install: Install, plugin_source: Source) -> None:
    driver = (
        "from loom.adapters.memory.journal import InMemoryJournalStore as B\n"
        "class Adapter(B):\n    @classmethod\n    def from_url(cls, url, context):\n"
        "        raise ValueError(f'cannot parse {url.raw} with {url.password} and {url.query}')"
    )
    install("loom-d", {"d": "d_plugin"}, {"d_plugin.py": plugin_source("d", "d_driver:Adapter"), "d_driver.py": driver})
    with pytest.raises(PluginError) as caught:
        AdapterRegistry().open("journal", "d://me:hunter2@host?token=t0psecret", AdapterContext())
    told = f"{caught.value} {caught.value!r} {caught.value.context} {caught.value.__cause__}"
    assert "hunter2" not in told
    assert "t0psecret" not in told


@pytest.mark.parametrize(
    "url", ["redis://:pa/ss@host:6379", "redis://:hunter2#x@host", "redis://:hunter2@host:9999999"]
)
def test_a_url_that_cannot_be_parsed_keeps_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        LoomURL.parse(url)
    told = f"{caught.value} {caught.value.context} {caught.value.__cause__}"
    assert "hunter2" not in told
    assert "pa" not in told.replace("password", "").replace("part", "")


def test_the_context_hands_its_clock_on(builtin_only: AdapterRegistry) -> None:
    class Stopped(Clock):
        def now(self) -> float:
            return 5.0

        def monotonic(self) -> float:
            return 5.0

        async def sleep(self, seconds: float) -> None: ...

    locks = builtin_only.open("locks", "memory://", AdapterContext(Stopped()))
    assert isinstance(locks._clock, Stopped)  # type: ignore[attr-defined]


def test_a_url_may_name_several_hosts() -> None:
    url = LoomURL.parse("redis+cluster://user:p%40ss@A.example:7000,b:7001,[::1]:7002,d/2?timeout=3")
    assert url.hosts == (("a.example", 7000), ("b", 7001), ("::1", 7002), ("d", None))
    assert (url.host, url.port, url.username, url.password) == (
        "a.example:7000,b:7001,[::1]:7002,d",
        None,
        "user",
        "p@ss",
    )
    assert str(url) == "redis+cluster://***@a.example:7000,b:7001,[::1]:7002,d/2?timeout=3"
    assert LoomURL.parse("redis://h:6379/0").hosts == (("h", 6379),)
    assert LoomURL.parse("memory://").hosts == ()


@pytest.mark.parametrize("hosts", ["a:1,b:99999", "a:1,b:x", "a,,b", ",a"])
def test_one_wrong_host_of_several_is_refused(hosts: str) -> None:
    with pytest.raises(ConfigurationError, match="host or the port"):
        LoomURL.parse(f"redis+cluster://{hosts}/0")
