"""URLs: what they mean, and what is refused without showing the key."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loom.errors import ConfigurationError
from loom.plugins import LoomURL
from loom_cosmos.names import field_property, item_id, order_key, ordered
from loom_cosmos.options import EMULATOR_KEY, CosmosOptions


def parse(text: str) -> CosmosOptions:
    return CosmosOptions.from_url(LoomURL.parse(text))


def test_an_account() -> None:
    options = parse("cosmos://acme.documents.azure.com/loom?namespace=blue&region=West%20Europe&timeout=3")
    assert options.endpoint == "https://acme.documents.azure.com/"
    assert (options.account, options.database, options.key) == ("acme", "loom", "")
    assert (options.namespace, options.region, options.timeout) == ("blue", "West Europe", 3.0)


@pytest.mark.parametrize("text", ["cosmos://:a%2Bb%2FAA%3D%3D@h.example/db", "cosmos://h.example/db?key=a+b/AA=="])
def test_a_key_is_read_from_password_or_query_and_never_shown(text: str) -> None:
    options = parse(text)
    assert options.key == "a+b/AA=="
    assert "a+b" not in repr(options)
    assert "a+b" not in options.where


def test_an_emulator_is_on_this_machine_and_has_its_key() -> None:
    options = parse("cosmos+emulator://127.0.0.1:9000/db")
    assert (options.endpoint, options.key, options.emulator) == ("https://127.0.0.1:9000/", EMULATOR_KEY, True)
    assert parse("cosmos+emulator://localhost/db").endpoint == "https://localhost:8081/"
    assert parse("cosmos+emulator://[::1]:1/db").endpoint == "https://[::1]:1/"
    with pytest.raises(ConfigurationError, match="this machine only"):
        parse("cosmos+emulator://db.example.com/db")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cosmos:///db", "name one account"),
        ("cosmos://a.example,b.example/db", "name one account"),
        ("cosmos://a.example", "name the database"),
        ("cosmos://a.example/one/two", "name the database"),
        ("cosmos://:secretke@a.example/db?key=secretke", "twice"),
        ("cosmos://:secretke!@a.example/db", "the key is not one"),
        ("cosmos://:secretke@a.example/db?namespce=x", "did you mean 'namespace'"),
        ("cosmos://:secretke@a.example/db?namespace=a:b", "a namespace has"),
        ("cosmos://:secretke@a.example/db?timeout=soon", "a number of seconds"),
        ("cosmos://:secretke@a.example/db?concurrency=0", "out of range"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        parse(text)
    assert "secretke" not in str(caught.value)


def test_ids_are_apart_and_within_the_limits() -> None:
    names = [
        "a",
        "A",
        "a/b",
        "a~2fb",
        "a b",
        "~",
        "é",
        "x" * 255,
        "x" * 256,
        "x" * 257,
        "." * 86,
        "..",
        "~h" + "0" * 64,
    ]
    ids = [item_id(name) for name in names]
    assert len(set(ids)) == len(names)
    assert all(len(id) <= 255 and not set(id) & set("/\\?#.% ") for id in ids)
    fields = ["a", "a.b", "a_b", "a__b", "_", "é", "", "x" * 300]
    assert len({field_property(field) for field in fields}) == len(fields)
    assert all(field_property(field).isidentifier() for field in fields)


def test_order_keys_sort_as_names_do() -> None:
    names = ["a", "a\x00", "a!", "a b", "a~", "b", "é", "日本", "\uffee", "😀", "\U0010ffff", " ", "~", "!"]
    assert sorted(names, key=ordered) == sorted(names)
    pairs = [(partition, id) for partition in names for id in names]
    assert sorted(pairs, key=lambda pair: order_key(*pair)) == sorted(pairs)
    assert all(order_key(*pair).isascii() and order_key(*pair).isprintable() for pair in pairs)


def test_the_plugin_imports_no_driver() -> None:
    code = (
        "import sys, loom_cosmos.plugin as p; list(p.loom_register_adapters()); p.loom_guard_rules();"
        "import loom_cosmos.guard as g; g.cosmos_of(object()); g.cosmos_of(None);"
        "print([m for m in sys.modules if m.split('.')[0] in ('azure', 'aiohttp')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
