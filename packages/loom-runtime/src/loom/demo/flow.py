"""The demo's actor and workflows."""

from __future__ import annotations

from hashlib import sha256

from ..actor import Actor, read_only
from ..app import Loom
from ..context import Context
from ..ports import MAX_KEY_BYTES
from ..workflow import workflow
from .facts import FileFacts, Totals
from .steps import count, extract, files_of, hash_file, pages_of, write_report

__all__ = ["PAGE", "DemoFile", "file_key", "lanes_of", "make_app", "page_id", "read_chunk", "read_folder"]

PAGE = 1000
"""How many files one run takes itself; more go through a child run for every so many."""


class DemoFile(Actor[FileFacts]):
    """One file of one run."""

    async def record(self, facts: FileFacts) -> FileFacts:
        """Store what the steps found."""
        self.state = facts
        return facts

    @read_only
    async def facts(self) -> FileFacts:
        """What is stored."""
        return self.state


def file_key(run: str, path: str) -> str:
    """The key of a file's actor: the run and the path, or the path's hash where that is too long for a key."""
    fits = len(path.encode()) <= MAX_KEY_BYTES // 2
    return f"{run}/{path if fits else sha256(path.encode()).hexdigest()}"


def lanes_of(files: int) -> int:
    """How many files of a page of so many are under way at a time."""
    return max(1, min(8, files // 4))


def page_id(run: str, page: int) -> str:
    """The id of the child run that reads a page."""
    return f"{run}.{page}"


async def _read_file(ctx: Context, plan: str, run: str, path: str) -> FileFacts:
    digest = await ctx.step(hash_file, name=f"hash {path}")(plan, path)
    counts = await ctx.step(count, name=f"count {path}")(plan, path)
    names = await ctx.step(extract, name=f"extract {path}")(plan, path)
    return await ctx.actor(DemoFile, file_key(run, path)).record(FileFacts(path, digest, counts, names))


async def _read_page(ctx: Context, plan: str, run: str, page: int) -> list[FileFacts]:
    files = await ctx.step(files_of, name=f"files of page {page}")(plan, page, PAGE)

    lanes = lanes_of(len(files))

    async def lane(paths: list[str]) -> list[FileFacts]:
        return [await _read_file(ctx, plan, run, path) for path in paths]

    parts = await ctx.gather(*[lane(files[start::lanes]) for start in range(lanes)])
    return sorted((facts for part in parts for facts in part), key=lambda facts: facts.path)


@workflow
async def read_chunk(ctx: Context, plan: str, run: str, page: int) -> list[FileFacts]:
    """Read the files of one page."""
    return await _read_page(ctx, plan, run, page)


@workflow
async def read_folder(ctx: Context, plan: str) -> Totals:
    """Scatter the files of a plan, gather what is found, write the report."""
    run = ctx.run_id
    pages = await ctx.step(pages_of)(plan, PAGE)
    if pages <= 1:
        facts = await _read_page(ctx, plan, run, 0) if pages else []
    else:
        children = [ctx.workflow(read_chunk, page_id(run, page)).run(plan, run, page) for page in range(pages)]
        facts = [found for part in await ctx.gather(*children) for found in part]
    totals = Totals(
        files=len(facts),
        size=sum(f.digest.size for f in facts),
        lines=sum(f.counts.lines for f in facts),
        words=sum(f.counts.words for f in facts),
        noted=sum(bool(f.digest.note) for f in facts),
    )
    await ctx.step(write_report, retries=3)(plan, facts, totals)
    return totals


def make_app(url: str) -> Loom:
    """The demo's app over the database at ``url``; also for a shell that wants to look at it."""
    return Loom(actors=[DemoFile], workflows=[read_folder, read_chunk], url=url, env="development")
