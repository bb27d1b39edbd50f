"""The demo as a user runs it: real processes, a real SIGKILL."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loom.demo import run_demo
from loom.demo.steps import LARGEST

SCRIPT = """
import sys
from pathlib import Path
from loom.demo import run_demo
sys.exit(run_demo(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    (root / "sub").mkdir(parents=True)
    for number in range(10):
        text = f"# Title {number}\n\n" + "word " * number + "\n## Part\n"
        (root / ("sub" if number % 2 else ".") / f"{number}.md").write_text(text)
    (root / "code.py").write_text("class A:\n    async def b(self): ...\ndef c(): ...\n")
    (root / ".hidden").write_text("not read")
    return root


def in_json(path: Path, folder: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[int, dict[str, Any]]:
    code = run_demo(path, folder, json=True, **options)
    return code, json.loads(capsys.readouterr().out)


def rows(report: str, heading: str) -> dict[str, list[str]]:
    part = report.split(f"## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in part.splitlines() if line.startswith("|")][2:]
    return {cell[0].strip(): [value.strip() for value in cell[1:]] for cell in cells}


@pytest.mark.slow
def test_kills_itself_and_handles_every_file_exactly_once(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, outcome = in_json(texts, tmp_path / "out", capsys)
    assert code == 0
    assert outcome["exactly_once"] is True
    assert outcome["exit_code_of_the_killed"] == -signal.SIGKILL
    assert 0 < outcome["killed_at"] < 11
    proof = outcome["proof"]
    assert (proof["files"], proof["turns"], proof["steps"]) == (11, 11, 33)
    # Every lane idles inside a step nearly all the time, so the kill meets at least one that has begun.
    assert proof["again"] >= 1
    assert proof["begun"] == 33 + proof["again"]
    processes = {line.split(" ")[1] for line in (tmp_path / "out" / "demo-1.steps.log").read_text().splitlines()}
    assert len(processes) == 2


@pytest.mark.slow
def test_the_report_is_what_an_independent_count_finds(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, outcome = in_json(texts, tmp_path / "out", capsys)
    assert code == 0
    report = (tmp_path / "out" / "report.md").read_text()
    expected = {}
    for path in texts.rglob("*"):
        if path.is_file() and path.name != ".hidden":
            data = path.read_bytes()
            names = "A, b, c" if path.name == "code.py" else f"Title {path.stem}, Part"
            sha = f"`{hashlib.sha256(data).hexdigest()[:12]}`"
            lines, words = str(data.count(b"\n")), str(len(data.split()))
            expected[path.relative_to(texts).as_posix()] = [str(len(data)), lines, words, sha, names]
    assert rows(report, "Files") == expected
    assert outcome["totals"] == {
        "files": 11,
        "size": sum(int(row[0]) for row in expected.values()),
        "lines": sum(int(row[1]) for row in expected.values()),
        "words": sum(int(row[2]) for row in expected.values()),
        "noted": 0,
    }
    assert "every file was handled exactly once: 11 files, 11 committed turns" in report


@pytest.mark.slow
def test_says_what_happens_in_plain_lines(texts: Path, tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", SCRIPT, texts, tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "was killed with SIGKILL at" in shown
    assert "resumes from the journal" in shown
    assert "every file was handled exactly once: 11 files" in shown
    assert "out/report.md" in shown
    assert f"export LOOM_URL=sqlite:///{tmp_path / 'out' / 'loom.db'}" in shown
    assert "loom journal run/read_folder/demo-1" in shown
    assert (tmp_path / "out" / "worker.log").read_text() == ""


@pytest.mark.slow
def test_files_that_are_no_texts_are_named_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    (root / "empty").write_bytes(b"")
    (root / "binary").write_bytes(b"\0\1")
    (root / "latin").write_bytes(b"caf\xe9")
    (root / "gone").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    with (root / "huge").open("wb") as file:
        file.truncate(LARGEST + 1)
    (root / "a|b\n`c`.md").write_text("# x | y\n")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_text("misnamed")
    code, outcome = in_json(root, tmp_path / "out", capsys)
    assert code == 0
    report = (tmp_path / "out" / "report.md").read_text()
    assert rows(report, "Not counted") == {
        "binary": ["not UTF-8 text; hashed, not counted"],
        "gone": ["can't be read: No such file or directory"],
        "huge": ["larger than 32 MiB; not read"],
        "latin": ["not UTF-8 text; hashed, not counted"],
        "pipe": ["not a regular file; not read"],
    }
    assert set(rows(report, "Files")) == {"empty", "binary", "latin", "gone", "pipe", "huge", "a\\|b�'c'.md"}
    assert "Left out, for names that are not UTF-8: 1 file." in report
    assert outcome["totals"]["noted"] == 5


@pytest.mark.slow
def test_more_files_than_one_run_takes_go_through_child_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(1005):
        (root / f"{number}.txt").write_text("one two\n")
    code, outcome = in_json(root, tmp_path / "out", capsys)
    assert code == 0
    assert outcome["proof"]["turns"] == 1005
    assert outcome["totals"]["words"] == 2010


@pytest.mark.slow
def test_a_rerun_starts_afresh_and_keeps_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "one", tmp_path / "out"
    root.mkdir()
    out.mkdir()
    (root / "a.txt").write_text("a\n")
    (root / "b.txt").write_text("b\n")
    (out / "report.md").write_text("# mine\n")
    (out / "notes.txt").write_text("mine too")
    _, first = in_json(root, out, capsys, files=1)
    assert run_demo(root, out, files=1) == 0
    assert "it holds 1 earlier run, untouched" in capsys.readouterr().out
    assert first["run"] == "demo-1"
    assert (out / "report.md").read_text() == "# mine\n"
    assert (out / "notes.txt").read_text() == "mine too"
    assert "Left out: 1 more file" in (out / "report-demo-2.md").read_text()


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run_demo(tmp_path / "empty", tmp_path / "out") == 0
    assert "there were no files, so there is nothing to prove" in capsys.readouterr().out
    assert "There are no files in this folder" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        ("nowhere", {}, "there is no folder"),
        ("file", {}, "is not a folder; give one with --path"),
        ("folder", {"files": 0}, "--files 0: take at least one"),
    ],
)
def test_what_can_not_begin_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, options: dict[str, Any], said: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    assert run_demo(tmp_path / path, tmp_path / "out", **options) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_database_that_is_none_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "loom.db").write_text("these are notes, not a database\n" * 100)
    assert run_demo(tmp_path / "texts", tmp_path / "out") == 1
    assert "loom demo:" in capsys.readouterr().err
    assert (tmp_path / "out" / "loom.db").read_text().startswith("these are notes")


@pytest.mark.slow
def test_its_worker_ends_with_it(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    demo = subprocess.Popen([sys.executable, "-c", SCRIPT, texts, out], stdout=subprocess.DEVNULL)
    log = out / "demo-1.steps.log"
    try:
        until = time.monotonic() + 20
        while not (log.exists() and log.read_text()) and time.monotonic() < until:
            time.sleep(0.02)
        worker = int(log.read_text().split(" ")[1])
    finally:
        demo.kill()
        demo.wait()
    until = time.monotonic() + 10
    while _runs(worker) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _runs(worker)


def _runs(pid: int) -> bool:
    """Whether the process does anything; one that has ended may wait for whoever adopted it to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        if sys.platform == "linux":
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
