"""The report, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from .facts import FileFacts, Plan, Totals
from .inputs import REPORT_HEADING

__all__ = ["amount", "proof_section", "render"]


def amount(number: int, thing: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def render(plan: Plan, facts: Sequence[FileFacts], totals: Totals) -> str:
    """The report of a run."""
    lines = [
        f"{REPORT_HEADING}, run {plan.run}",
        "",
        f"Folder: `{_cell(plan.root)}`",
        "",
    ]
    if not facts:
        misnamed = f", apart from {plan.misnamed} with names that are not UTF-8" if plan.misnamed else ""
        return "\n".join([*lines, f"There are no files in this folder{misnamed}, so nothing was read.", ""])
    text = f"{amount(totals.files, 'file')}, {amount(totals.size, 'byte')}, {amount(totals.lines, 'line')}, "
    lines += [text + f"{amount(totals.words, 'word')}."]
    if plan.left_out:
        lines += ["", f"Left out: {amount(plan.left_out, 'more file')}; `--files` takes another number."]
    if plan.misnamed:
        lines += ["", f"Left out, for names that are not UTF-8: {amount(plan.misnamed, 'file')}."]
    noted = [fact for fact in facts if fact.digest.note]
    if noted:
        lines += ["", "## Not counted", "", "| file | why |", "|---|---|"]
        lines += [f"| {_cell(fact.path)} | {_cell(fact.digest.note)} |" for fact in noted]
    lines += [
        "",
        "## Files",
        "",
        "| file | bytes | lines | words | SHA-256 | first names |",
        "|---|---:|---:|---:|---|---|",
    ]
    for fact in facts:
        digest, counts = fact.digest, fact.counts
        short = f"`{digest.sha256[:12]}`" if digest.sha256 else ""
        names = ", ".join(map(_cell, fact.names))
        lines.append(f"| {_cell(fact.path)} | {digest.size} | {counts.lines} | {counts.words} | {short} | {names} |")
    return "\n".join([*lines, ""])


def proof_section(sentences: Sequence[str]) -> str:
    """What is put under the report when the journal has been read."""
    return "\n".join(["", "## What the journal says", "", *[f"- {sentence}" for sentence in sentences], ""])


def _cell(text: str) -> str:
    """Text that can't break the table it stands in."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
