"""Names that break adapters which join, escape, truncate or pattern-match them."""

from __future__ import annotations

__all__ = ["BAD_KEYS", "HOSTILE_KEYS"]

HOSTILE_KEYS: tuple[str, ...] = (
    "a", "A", "a/", "a/b", "a//b", "/a", "a:b", "a::b", "a{b}", "{a}b", "{}", "a%", "a%2Fb", "a_b", "aXb", "a*", "a?b",
    "a#b", "a\\b", "a'b", 'a"b', "a`b", "a;b--", "a b", " a", "a ", "a\t", "a\n", "\x00", "a\x00", "a\x00b", "a|b",
    ".", "..", "a.b", "é", "e\u0301", "ß", "SS", "日本", "😀", "\ufeffa", "\u200b", "\U0010ffff", "[a-b]", "$a", "~",
    "x" * 4096, "x" * 4095 + "y", "日" * 1365,
)  # fmt: skip
"""All different, all allowed: none may be refused, changed, or taken for another."""

BAD_KEYS: tuple[str, ...] = ("", "x" * 4097, "日" * 1366, "a\ud800b")
"""Empty, too long in UTF-8, and not text: each is an InvalidKeyError."""
