"""Fail when a relative link in a Markdown file of this repository leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!`)\[[^\]\[]*\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def broken_links(document: Path) -> list[str]:
    """The targets in ``document`` that are neither a URL, an anchor nor an existing path."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in LINK.findall(text) if "://" not in target]
    return [target for target in targets if target and not target.startswith("mailto:")
            and not (document.parent / target).exists()]  # fmt: skip


def main() -> int:
    """Print each broken link; exit 1 if there is one."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    documents = [ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists()]
    found = [f"{document.relative_to(ROOT)}: {target}" for document in documents for target in broken_links(document)]
    print("\n".join(found) or f"{len(documents)} documents, no broken link")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
