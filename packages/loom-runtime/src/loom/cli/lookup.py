"""From what a person types to the stream that is meant."""

from __future__ import annotations

from ..errors import InvalidKeyError, JournalError, LoomError, RunNotFoundError
from ..ports import JournalStore
from ..runtime.messages import run_stream

__all__ = ["find_run", "find_stream", "stream_types"]


async def stream_types(journal: JournalStore, kind: str) -> list[str]:
    """The names of the actor types or workflows that have written, found by skipping from one to the next."""
    names: list[str] = []
    after = ""
    while True:
        found = await journal.streams(f"{kind}/", after=after, limit=1)
        if not found:
            return names
        name = found[0].split("/", 2)[1]
        names.append(name)
        after = f"{kind}/{name}0"  # "0" is the character behind "/": past every stream of this name


async def find_run(journal: JournalStore, text: str) -> str:
    """The stream of the run ``WORKFLOW/RUN_ID``, or of the only run with the id ``text``. Raises RunNotFoundError."""
    text = text.removeprefix("run/") if text.count("/") >= 2 else text
    if "/" in text and not text.startswith("/"):
        stream = run_stream(*text.split("/", 1))
        if (await journal.head(stream)).seq:
            return stream
    found = await _existing(journal, [("run", name, text) for name in await stream_types(journal, "run")])
    if len(found) == 1:
        return found[0]
    if found:
        raise _ambiguous(text, found)
    raise RunNotFoundError(f"there is no run {text}; 'loom runs list' shows those there are", run=text)


async def find_stream(journal: JournalStore, text: str) -> str:
    """The stream ``text``, or the only one it is short for. Raises JournalError listing what there is."""
    if (await journal.head(text)).seq:
        return text
    candidates: list[tuple[str, str, str]] = []
    if "/" in text:
        name, key = text.split("/", 1)
        candidates = [(kind, name, key) for kind in ("actor", "run")]
    for kind in ("run", "actor"):
        candidates += [(kind, name, text) for name in await stream_types(journal, kind)]
    found = await _existing(journal, candidates)
    if len(found) == 1:
        return found[0]
    if found:
        raise _ambiguous(text, found)
    near = sorted([*await journal.streams(f"actor/{text}", limit=5), *await journal.streams(f"run/{text}", limit=5)])
    hint = f"; there are {', '.join(near)}" if near else "; 'loom journal' lists the streams"
    raise JournalError(f"there is no stream {text}{hint}", stream=text)


async def _existing(journal: JournalStore, candidates: list[tuple[str, str, str]]) -> list[str]:
    streams = list(dict.fromkeys(f"{kind}/{name}/{key}" for kind, name, key in candidates if name and key))
    if not streams:
        return []
    try:
        heads = await journal.heads(streams)
    except InvalidKeyError:
        return []
    return [stream for stream, head in zip(streams, heads, strict=True) if head.seq]


def _ambiguous(text: str, found: list[str]) -> LoomError:
    return RunNotFoundError(f"{text} may be any of {', '.join(found)}; say which", streams=found)
