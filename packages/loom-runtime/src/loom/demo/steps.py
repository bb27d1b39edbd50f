"""The steps: functions that touch files. Each may run more than once, and says so in a log."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from ..runtime.steps import step_info
from .facts import Counts, Digest, FileFacts, Plan, Totals
from .report import render

__all__ = ["LARGEST", "count", "extract", "files_of", "hash_file", "load_plan", "pages_of", "write_report"]

LARGEST = 32 * 1024 * 1024
"""Files of more bytes than this are named in the report and not read."""
_MOST_NAMES = 8
_LONGEST_NAME = 80
_PATTERNS = {
    ".py": re.compile(r"^[ \t]*(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE),
    "": re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE),
}

P = ParamSpec("P")
T = TypeVar("T")


@lru_cache(maxsize=4)
def load_plan(path: str) -> Plan:
    """The plan of a run. It is written once, before the run begins."""
    return msgspec.json.decode(Path(path).read_bytes(), type=Plan)


async def pages_of(plan: str, size: int) -> int:
    """How many pages of ``size`` files the plan has."""
    return -(-len(load_plan(plan).files) // size)


async def files_of(plan: str, page: int, size: int) -> list[str]:
    """The files of one page."""
    return load_plan(plan).files[page * size : (page + 1) * size]


async def hash_file(plan: str, path: str) -> Digest:
    """Hash a file. A file that can't be read gives a note instead."""
    return await _work(plan, _hash, path)


async def count(plan: str, path: str) -> Counts:
    """Count lines and words."""
    return await _work(plan, _count, path)


async def extract(plan: str, path: str) -> list[str]:
    """The first definitions of a Python file, or headings of another."""
    return await _work(plan, _extract, path)


async def write_report(plan: str, facts: list[FileFacts], totals: Totals) -> str:
    """Write the report, whole or not at all, so that writing it twice is the same as once."""

    def write() -> str:
        loaded = load_plan(plan)
        target = Path(loaded.report)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        draft.write_text(render(loaded, facts, totals), encoding="utf-8")
        draft.replace(target)
        return str(target)

    return await asyncio.to_thread(write)


async def _work(plan: str, function: Callable[[Path], T], path: str) -> T:
    loaded = load_plan(plan)
    _log(loaded.log)
    await asyncio.sleep(loaded.pace)
    return await asyncio.to_thread(function, Path(loaded.root) / path)


def _log(path: str) -> None:
    """One line for every time that a step begins: what really ran, whatever the journal says."""
    info = step_info()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, f"{info.idempotency_key} {os.getpid()} {info.name!a}\n".encode())
    finally:
        os.close(file)


def _hash(path: Path) -> Digest:
    try:
        # Before opening: opening a pipe would wait for its writer.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return Digest(note="not a regular file; not read")
        if status.st_size > LARGEST:
            return Digest(size=status.st_size, note=f"larger than {LARGEST >> 20} MiB; not read")
        data = path.read_bytes()
    except OSError as error:
        return Digest(note=f"can't be read: {error.strerror or error}")
    note = "" if _text(data) is not None else "not UTF-8 text; hashed, not counted"
    return Digest(hashlib.sha256(data).hexdigest(), len(data), note)


def _count(path: Path) -> Counts:
    text = _read(path)
    return Counts() if text is None else Counts(len(text.splitlines()), len(text.split()))


def _extract(path: Path) -> list[str]:
    text = _read(path)
    if text is None:
        return []
    pattern = _PATTERNS.get(path.suffix, _PATTERNS[""])
    names: list[str] = []
    for match in pattern.finditer(text):
        names.append(match[1][:_LONGEST_NAME])
        if len(names) == _MOST_NAMES:
            break
    return names


def _read(path: Path) -> str | None:
    """The text of a file that is one, and None of anything else."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            return None
        return _text(path.read_bytes())
    except OSError:
        return None


def _text(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
