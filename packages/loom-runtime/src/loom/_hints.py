"""Did-you-mean: the sentence that follows a name nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["closest", "did_you_mean"]


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name that ``name`` most resembles, ignoring case, or None when none comes near."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean 'journal'?``, or all that is known when nothing comes near."""
    known = list(known)
    found = closest(name, known)
    if found is not None:
        return f"did you mean {found!r}?"
    return f"known: {', '.join(known)}" if known else "none is known"
