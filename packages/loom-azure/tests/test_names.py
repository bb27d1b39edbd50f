"""Names as Azure holds them: in one order with ours, never the same for two, and kind to Azure's own rules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom.testing.suites.keys import HOSTILE_KEYS
from loom_azure import names
from loom_azure.names import DEEPEST, LONGEST, decode, encode, group_of, prefix_of

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.text(
    st.sampled_from("a./!=^`~_-%Z0 \x00é😀"), min_size=1, max_size=12
)


@settings(max_examples=500, deadline=None)
@given(_TEXT, _TEXT)
def test_the_order_stays_and_the_name_comes_back(one: str, other: str) -> None:
    assert (one < other) == (encode(one) < encode(other))
    assert decode(encode(one)) == one
    assert encode(one + other).startswith(prefix_of(one))


@settings(max_examples=500, deadline=None)
@given(_TEXT)
def test_azure_takes_it_as_it_is(name: str) -> None:
    encoded = encode(name)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert not set(encoded) & set(" \\%?#\"'")
    assert all(part and not part.endswith(".") for part in encoded.split("/"))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.text(st.sampled_from("a/.-é"), min_size=1, max_size=12), unique=True, min_size=2))
def test_what_is_cut_at_one_place_stands_together(found: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "LONGEST", 6)
        patch.setattr(names, "DEEPEST", 1)
        listed = sorted((encode(name), name) for name in found)
        groups = [group_of(encoded) or encoded for encoded, _ in listed]
        assert len({encoded for encoded, _ in listed}) == len(found)
        # Sorted within each run of one group, the listing is in the order of the names.
        runs = [(groups.index(group), name) for group, (_, name) in zip(groups, listed, strict=True)]
        assert [name for _, name in sorted(runs)] == sorted(found)


def test_hostile_names_are_all_different() -> None:
    encoded = {encode(name) for name in HOSTILE_KEYS}
    assert len(encoded) == len(HOSTILE_KEYS)
    assert max(map(len, encoded)) == LONGEST + 66
    deep = encode("a/" * 2000)
    assert deep.count("/") == DEEPEST + 1
    assert group_of(deep) == "a/" * (DEEPEST + 1)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("reports/2026_x-y.pdf", "reports/2026_x-y.pdf"),
        ("a b", "a!20b"),
        ("..", ".e.!"),
        ("dir/", "dir/!"),
        ("é", "~c3~a9"),
        ("a\\b", "a^5cb"),
    ],
)
def test_how_names_look(name: str, encoded: str) -> None:
    assert encode(name) == encoded


@pytest.mark.parametrize(
    "foreign", ["a b", "é", "a//b", "a!", "a!2", "a!zz", "~ff", ".hidden", "x.", "", "a!!" + "0" * 64]
)
def test_names_that_are_not_ours(foreign: str) -> None:
    assert decode(foreign) is None
