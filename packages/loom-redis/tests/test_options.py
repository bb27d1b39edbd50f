"""What the URLs mean, and what is said about wrong ones."""

from __future__ import annotations

import pytest

from loom.environment import is_loopback
from loom.errors import ConfigurationError
from loom.plugins import LoomURL
from loom.plugins.known import package_for
from loom_redis.options import MODES, RedisOptions
from loom_redis.plugin import loom_register_adapters


def _options(url: str) -> RedisOptions:
    return RedisOptions.from_url(LoomURL.parse(url))


def test_a_plain_url() -> None:
    options = _options("redis://user:p%40ss@h:7000/3?namespace=shop&timeout=2.5")
    assert (options.mode, options.hosts, options.db) == ("standalone", (("h", 7000),), 3)
    assert (options.username, options.password) == ("user", "p@ss")
    assert (options.namespace, options.timeout, options.tls) == ("shop", 2.5, False)
    assert "p@ss" not in repr(options)


def test_defaults() -> None:
    assert _options("redis://").hosts == (("localhost", 6379),)
    assert _options("rediss://h").tls


def test_a_socket() -> None:
    options = _options("unix:///run/redis.sock?db=2")
    assert (options.path, options.db, options.mode) == ("/run/redis.sock", 2, "standalone")


def test_sentinel() -> None:
    options = _options("redis+sentinel://a,b:1/mymaster/4")
    assert (options.mode, options.service, options.db) == ("sentinel", "mymaster", 4)
    assert options.hosts == (("a", 26379), ("b", 1))


def test_cluster() -> None:
    assert _options("rediss+cluster://a:1,b:2").tls
    assert _options("redis+cluster://a:1,b:2").hosts == (("a", 1), ("b", 2))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/x", "db must be a whole number"),
        ("redis://h/0/1", "nothing may follow"),
        ("redis://h/1?db=2", "given twice"),
        ("redis://h?tiemout=1", "did you mean 'timeout'"),
        ("redis://h?timeout=soon", "number of seconds"),
        ("redis://h?timeout=-1", "zero or more"),
        ("redis://h?timeout=inf", "zero or more"),
        ("redis://h?namespace=", "namespace is empty"),
        ("redis://a,b", "redis\\+sentinel"),
        ("redis+sentinel://a", "master's group"),
        ("redis+cluster://a/1", "only database 0"),
        ("unix://", "name the socket"),
        ("redis://h?wait_aof=2", "0 or 1"),
    ],
)
def test_wrong_urls(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        _options(url)


def test_no_credentials_in_errors() -> None:
    with pytest.raises(ConfigurationError) as raised:
        _options("redis://me:hush@h/x")
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster"])
def test_the_core_knows_what_stays_on_this_machine(scheme: str) -> None:
    assert is_loopback(LoomURL.parse(f"{scheme}://u:p@localhost:1/0"))
    assert is_loopback(LoomURL.parse(f"{scheme}://u:p@127.0.0.1:1,[::1]:2,localhost/m"))
    assert not is_loopback(LoomURL.parse(f"{scheme}://u:p@localhost:1,db.example.com:2/m"))
    assert "p@" not in str(LoomURL.parse(f"{scheme}://u:p@localhost:1,h/m"))


def test_rich_shows_no_password() -> None:
    assert "hush" not in str(list(_options("redis://me:hush@h").__rich_repr__()))


def test_every_scheme_is_declared_and_known() -> None:
    declared = {spec.scheme for spec in loom_register_adapters()}
    assert declared == set(MODES)
    assert all(package_for(scheme) == "loom-redis" for scheme in declared)
