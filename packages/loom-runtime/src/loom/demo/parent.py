"""The parent of the demo: starts the process that works, kills it half way, starts another, reads the journals."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGKILL
from urllib.parse import quote

import msgspec

from ..codec import decode
from ..errors import LoomError
from ..plugins import AdapterContext, AdapterRegistry
from ..ports import JournalStore
from .facts import Plan, Totals
from .flow import PAGE, lanes_of
from .inputs import DEFAULT_LIMIT, DemoError, Inputs, find_files, is_text, report_path
from .proof import Proof, prove
from .report import amount, proof_section
from .show import Show
from .watch import STEPS_PER_FILE, Watch, run_streams

__all__ = ["Outcome", "run"]

_SECONDS_TO_WATCH = 4.0
_LONGEST_PACE = 0.25
_POLL = 0.03
_PATIENCE = 60.0


class Outcome(msgspec.Struct, kw_only=True):
    """What ``--json`` prints."""

    run: str
    url: str
    report: str
    exactly_once: bool
    killed_at: int | None
    exit_code_of_the_killed: int | None
    proof: Proof
    totals: Totals


def run(path: Path | None, folder: Path | None, *, files: int | None, json: bool) -> int:
    """Run the demo; see ``run_demo``."""
    try:
        with contextlib.ExitStack() as stack:
            if path is None:
                package = importlib.resources.files("loom")
                path = stack.enter_context(importlib.resources.as_file(package))
            demo = _Demo(path.absolute(), (folder or Path("loom-demo")).absolute(), files, json)
            return asyncio.run(demo.run())
    except DemoError as error:
        sys.stderr.write(f"loom demo: {error}\n")
        return 2
    except (LoomError, OSError) as error:
        sys.stderr.write(f"loom demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("loom demo: interrupted; its worker is stopped, what was recorded stays\n")
        return 1


class _Demo:
    def __init__(self, root: Path, folder: Path, limit: int | None, json: bool) -> None:
        if limit is not None and limit < 1:
            raise DemoError(f"--files {limit}: take at least one")
        for path in (root, folder):
            if not is_text(path.as_posix()):
                raise DemoError(f"the name of the folder {str(path)!a} is not UTF-8")
        self.root = root
        self.folder = folder
        self.limit = limit
        self.json = json
        self.url = f"sqlite:///{quote(str(folder / 'loom.db'))}"
        self.killed_at: int | None = None
        self.exit_code: int | None = None

    async def run(self) -> int:
        inputs = find_files(self.root, self.folder, self.limit or DEFAULT_LIMIT)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DemoError(f"{self.folder} can't be made: {error.strerror or error}") from error
        journal = AdapterRegistry().open("journal", self.url, AdapterContext())
        async with journal:
            before = await _runs(journal)
            plan = self._plan(f"demo-{before + 1}", inputs)
            plan_path = self.folder / f"{plan.run}.plan.json"
            plan_path.write_bytes(msgspec.json.encode(plan))
            with Show(len(inputs.files), quiet=self.json) as show:
                self._introduce(show, plan, before)
                watch = Watch(journal, plan)
                await self._work(show, watch, plan_path)
            proof = await prove(journal, plan)
        return self._conclude(show, plan, proof, watch)

    def _plan(self, name: str, inputs: Inputs) -> Plan:
        count = max(1, len(inputs.files))
        pages, steps = -(-count // PAGE), count * STEPS_PER_FILE
        return Plan(
            run=name, root=str(self.root), files=inputs.files, left_out=inputs.left_out, misnamed=inputs.misnamed,
            pace=min(_LONGEST_PACE, _SECONDS_TO_WATCH * lanes_of(min(count, PAGE)) * pages / steps),
            log=str(self.folder / f"{name}.steps.log"), report=str(report_path(self.folder, name)),
        )  # fmt: skip

    def _introduce(self, show: Show, plan: Plan, before: int) -> None:
        show.say(f"{amount(len(plan.files), 'file')} below {self.root}", "bold")
        show.say(f"run {plan.run}, journal in {_near(self.folder / 'loom.db')}")
        if before:
            show.say(f"it holds {amount(before, 'earlier run')}, untouched; this one starts afresh")
        if plan.left_out:
            show.say(f"left out: {amount(plan.left_out, 'more file')}; --files takes another number")
        if plan.misnamed:
            show.say(f"left out, for names that are not UTF-8: {amount(plan.misnamed, 'file')}")

    async def _work(self, show: Show, watch: Watch, plan_path: Path) -> None:
        """One process up to half of the work, if there is any, and another for the rest."""
        if watch.half:
            show.say("there are no files here, so there is nothing to kill half way")
        else:
            async with self._worker(plan_path) as worker:
                show.say(f"process {worker.pid} works: an actor for every file, {STEPS_PER_FILE} steps each")
                await self._follow(show, watch, worker, half=True)
                worker.send_signal(SIGKILL)
                self.exit_code = await worker.wait()
                self.killed_at = watch.files
                show.say(
                    f"process {worker.pid} was killed with SIGKILL at {watch.files} of {amount(watch.total, 'file')}",
                    "red",
                )
        async with self._worker(plan_path) as worker:
            again = "resumes from the journal" if self.killed_at is not None else "works"
            show.say(f"process {worker.pid} {again}", "green")
            await self._follow(show, watch, worker, half=False)
            worker.stdin.close()  # type: ignore[union-attr]
            await worker.wait()

    async def _follow(self, show: Show, watch: Watch, worker: asyncio.subprocess.Process, *, half: bool) -> None:
        """Watch the journals until half of the work is recorded, or the run has ended and the process with it."""
        loop = asyncio.get_running_loop()
        changed = loop.time()
        while True:
            ended = worker.returncode is not None
            if await watch.look():
                changed = loop.time()
                show.progress(watch.files)
            if watch.half if half else watch.finished is not None and ended:
                return
            if ended:
                raise self._failed(f"process {worker.pid} ended by itself with exit code {worker.returncode}")
            if loop.time() - changed > _PATIENCE:
                raise self._failed(f"process {worker.pid} has recorded nothing for {_PATIENCE:g} s")
            await asyncio.sleep(_POLL)

    def _failed(self, what: str) -> LoomError:
        log = self.folder / "worker.log"
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        return LoomError(f"{what}; the end of {log}:\n{tail}")

    @contextlib.asynccontextmanager
    async def _worker(self, plan_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process that works, and that is gone afterwards. LOOM_* variables and loom.toml mean nothing to it."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOM_")}
        if paths := environment.get("PYTHONPATH"):  # relative ones would lead elsewhere from the demo's folder
            environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
        with (self.folder / "worker.log").open("ab") as log:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "loom.demo.worker", self.url, str(plan_path),
                stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder, env=environment,
            )  # fmt: skip
        try:
            yield worker
        finally:
            if worker.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    worker.kill()
                await worker.wait()

    def _conclude(self, show: Show, plan: Plan, proof: Proof, watch: Watch) -> int:
        assert watch.finished is not None
        value = watch.finished.value
        totals = Totals() if value is None else decode(value, Totals)
        if proof.holds and totals.files != len(plan.files):
            proof.problems.append(f"the run says that it read {totals.files} files, there were {len(plan.files)}")
        with contextlib.suppress(FileNotFoundError), Path(plan.report).open("a", encoding="utf-8") as report:
            report.write(proof_section(proof.sentences()))
        if self.json:
            outcome = Outcome(
                run=plan.run, url=self.url, report=plan.report, exactly_once=proof.holds, killed_at=self.killed_at,
                exit_code_of_the_killed=self.exit_code, proof=proof, totals=totals,
            )  # fmt: skip
            sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
            return 0 if proof.holds else 1
        show.say()
        for sentence in proof.sentences():
            show.say(sentence, "bold green" if proof.holds else "bold red")
        if totals.noted:
            show.say(f"{amount(totals.noted, 'file')} could not be counted; the report says why")
        show.say()
        self._how_to_go_on(show, plan)
        return 0 if proof.holds else 1

    def _how_to_go_on(self, show: Show, plan: Plan) -> None:
        show.say(f"the report:    {_near(Path(plan.report))}")
        show.say(f"to look on:    export LOOM_URL={self.url}")
        show.say("               loom runs list")
        show.say(f"               loom journal {run_streams(plan)[0]}")


async def _runs(journal: JournalStore) -> int:
    """The highest number of a demo run that the journal knows."""
    highest, after = 0, ""
    while names := await journal.streams("run/read_folder/demo-", after):
        after = names[-1]
        numbers = [name.rpartition("-")[2] for name in names]
        highest = max([highest, *(int(number) for number in numbers if number.isdecimal())])
    return highest


def _near(path: Path) -> str:
    """The path as a person in the working folder would write it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
