"""A BlobStore against a dictionary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ...errors import BlobConflictError, BlobNotFoundError
from ...ports.blobs import BlobInfo, BlobStore
from .base import AdapterMachine

__all__ = ["blobs_machine"]

NAMES = ("a", "A", "a/", "a/b", "..", "ß\x00", "x" * 300, "x" * 300 + "y")
names = st.sampled_from(NAMES)
conditions = st.sampled_from(["none", "none", "current", "stale", "create"])


async def _chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class _BlobsMachine(AdapterMachine[BlobStore]):
    def __init__(self, open_adapter: Callable[[], BlobStore]) -> None:
        super().__init__(open_adapter)
        self.model: dict[str, tuple[BlobInfo, bytes]] = {}
        self.etags = {"stale"}

    def etag_for(self, name: str, condition: str) -> tuple[str | None, bool]:
        """An etag to ask for, and whether it is the current one."""
        found = self.model.get(name)
        if condition == "current" and found is not None:
            return found[0].etag, True
        if condition in ("current", "stale"):
            return min(self.etags - {found[0].etag if found else ""}), False
        return None, True

    @rule(
        name=names,
        data=st.binary(max_size=20),
        chunk=st.integers(0, 7),
        condition=conditions,
        metadata=st.dictionaries(st.sampled_from(["k", "é"]), st.text(max_size=3)),
    )
    def put(self, name: str, data: bytes, chunk: int, condition: str, metadata: dict[str, str]) -> None:
        etag, holds = self.etag_for(name, condition)
        create_only = condition == "create"
        holds = holds and not (create_only and name in self.model)
        content = _chunks(data, chunk) if chunk else data
        try:
            info = self.run(
                self.adapter.put(
                    name, content, if_match=etag, create_only=create_only, content_type="x/y", metadata=metadata
                )
            )
        except BlobConflictError:
            assert not holds
            return
        assert holds
        assert (info.name, info.size, info.content_type, info.metadata) == (name, len(data), "x/y", metadata)
        assert info.etag not in self.etags
        self.etags.add(info.etag)
        self.model[name] = (info, data)

    @rule(name=names, condition=st.sampled_from(["none", "current", "stale"]))
    def delete(self, name: str, condition: str) -> None:
        etag, holds = self.etag_for(name, condition)
        try:
            deleted = self.run(self.adapter.delete(name, if_match=etag))
        except BlobConflictError:
            assert not holds
            return
        assert holds
        assert deleted is (self.model.pop(name, None) is not None)

    @rule(name=names, start=st.integers(0, 25), length=st.one_of(st.none(), st.integers(0, 25)))
    def read(self, name: str, start: int, length: int | None) -> None:
        async def read() -> bytes:
            return b"".join([chunk async for chunk in self.adapter.stream(name, start=start, length=length)])

        if name not in self.model:
            try:
                self.run(read())
            except BlobNotFoundError:
                return
            raise AssertionError(f"{name!r} does not exist and was read")
        data = self.model[name][1]
        assert self.run(read()) == data[start : None if length is None else start + length]
        assert self.run(self.adapter.get(name)) == data

    @rule(prefix=st.sampled_from(["", "a", "a/", "x", "é"]), limit=st.integers(1, 4))
    def list(self, prefix: str, limit: int) -> None:
        found: list[BlobInfo] = []
        cursor: str | None = None
        while True:
            page = self.run(self.adapter.list(prefix, limit=limit, cursor=cursor))
            assert len(page.blobs) <= limit
            found += page.blobs
            cursor = page.cursor
            if cursor is None:
                break
        assert found == [self.model[name][0] for name in sorted(self.model) if name.startswith(prefix)]

    @invariant()
    def infos_agree(self) -> None:
        for name in NAMES:
            known = self.model.get(name)
            assert self.run(self.adapter.info(name)) == (None if known is None else known[0])


def blobs_machine(open_adapter: Callable[[], BlobStore]) -> type[RuleBasedStateMachine]:
    """A machine for adapters that ``open_adapter()`` builds, unstarted and each over empty data."""

    class BlobsMachine(_BlobsMachine):
        def __init__(self) -> None:
            super().__init__(open_adapter)

    return BlobsMachine
