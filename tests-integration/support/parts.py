"""An app in two parts that different processes serve: a desk that sends, and the books that it is written in."""

from __future__ import annotations

from loom import Actor, Context, Loom, workflow

__all__ = ["Book", "Desk", "audit", "make_app", "order"]

SHARDS = 16


class Book(Actor[list[int]]):
    """Part ``books``: remembers what it was told, in the order in which it was told."""

    def initial_state(self) -> list[int]:
        return []

    async def write(self, number: int) -> int:
        self.state.append(number)
        return len(self.state)

    async def pages(self) -> list[int]:
        return self.state


class Desk(Actor[int]):
    """Part ``desk``: hands out numbers, and sends each to the book of the same key."""

    def initial_state(self) -> int:
        return 0

    async def post(self, count: int) -> int:
        for _ in range(count):
            self.ctx.send(self.ctx.actor(Book, self.key).write, self.state)
            self.state += 1
        return self.state


@workflow
async def audit(ctx: Context, key: str) -> int:
    """Part ``books``."""
    return await ctx.actor(Book, f"audit-{key}").write(1)


@workflow
async def order(ctx: Context, key: str) -> int:
    """Part ``desk``: calls an actor and awaits a child of the other part."""
    written = await ctx.actor(Book, f"order-{key}").write(1)
    return written + await ctx.workflow(audit, f"of-{ctx.run_id}").run(key)


_PARTS = {"books": ([Book], [audit]), "desk": ([Desk], [order])}


def make_app(file: str, *parts: str) -> Loom:
    """The app with the named parts on a SQLite file; without any it only calls."""
    actors = [actor for part in parts for actor in _PARTS[part][0]]
    workflows = [flow for part in parts for flow in _PARTS[part][1]]
    return Loom(actors, workflows, url=f"sqlite:///{file}", env="test", options={"shards": SHARDS})  # type: ignore[arg-type]
