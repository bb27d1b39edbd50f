"""The conformance run: what it judges, where it puts its data, what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loom.errors import ConfigurationError, UnknownSchemeError
from loom.plugins import (
    AdapterContext,
    AdapterRegistry,
    AdapterSpec,
    Durability,
    Feature,
    LoomURL,
    PluginLoader,
    Reach,
    hookimpl,
)
from loom.testing.conformance import ConformanceReport, Status, run_conformance
from loom.testing.conformance.files import json_text, junit_xml
from loom.testing.conformance.places import Places
from loom.testing.conformance.text import text_lines

from .mutants import journal

pytestmark = pytest.mark.slow


class Broken:
    """A plugin whose journal ignores fences, forgets at its end, and promises the contrary."""

    target = "loom_broken:BrokenJournal"
    durability = Durability.MACHINE
    features = frozenset({Feature.FENCING, Feature.SIGNED_URLS, Feature.TEST_ONLY})

    @hookimpl
    def loom_register_adapters(self) -> Iterator[AdapterSpec]:
        yield AdapterSpec(
            port="journal", scheme="broken", target=self.target, durability=self.durability,
            reach=Reach.PROCESS, features=self.features, distribution="loom-broken",
        )  # fmt: skip


class BrokenJournal(journal.IgnoresFences):
    async def close(self) -> None:
        await journal.IsNotDurable.close(self)  # type: ignore[arg-type]


def registry_of(*plugins: object) -> AdapterRegistry:
    loader = PluginLoader(find=list)
    for plugin in plugins:
        loader.register(plugin, name="broken", distribution="loom-broken")
    return AdapterRegistry(loader)


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "loom_broken", sys.modules[__name__])
        yield


@pytest.fixture(scope="module")
def broken() -> ConformanceReport:
    return run_conformance(["broken://u:secret@h/{namespace}?a=1"], registry=registry_of(Broken()))


def test_what_is_broken_is_told_by_fact_and_by_test(broken: ConformanceReport) -> None:
    [url] = broken.urls
    [port] = url.ports
    assert {fact.name: fact.status for fact in port.facts} == {
        "contract": Status.PROVEN,
        "durability MACHINE": Status.BROKEN,
        "reach PROCESS": Status.UNDECLARED,
        "FENCING": Status.BROKEN,
        "SIGNED_URLS": Status.UNTESTED,
    }
    failed = {test.name: test.reason for test in port.tests if test.outcome == "failed"}
    assert set(failed) == {
        "a_lower_fence_is_refused_and_a_higher_one_stays",
        "concurrent_histories_with_fences_are_linearizable",
        "everything_is_there_after_reopening",
    }
    assert "DID NOT RAISE FencedError" in failed["a_lower_fence_is_refused_and_a_higher_one_stays"]
    assert not broken.ok
    assert not port.ok


def test_the_same_report_as_text_json_and_junit(broken: ConformanceReport) -> None:
    text = "\n".join(line for line, _ in text_lines(broken))
    assert "broken      FENCING               2 failed" in text
    assert "untested    SIGNED_URLS           the suite has no test of it" in text
    assert "DID NOT RAISE FencedError" in text
    value = json.loads(json_text(broken))
    assert (value["ok"], value["urls"][0]["ports"][0]["ok"]) == (False, False)
    assert value["urls"][0]["ports"][0]["facts"][1] == {
        "name": "durability MACHINE", "status": "broken", "passed": 0, "failed": 1, "skipped": 1,
    }  # fmt: skip
    [suite] = ElementTree.fromstring(junit_xml(broken))
    assert (suite.get("failures"), suite.get("skipped")) == ("3", "4")
    assert len(suite.findall("testcase")) == int(suite.get("tests", ""))
    assert len(suite.findall("testcase/failure")) == 3
    assert {one.get("name"): one.get("value") for one in suite.iter("property")}["FENCING"] == "broken"
    assert all("secret" not in shown for shown in (text, json_text(broken), junit_xml(broken)))


def test_an_undeclared_promise_is_skipped_and_breaks_nothing() -> None:
    class Honest(Broken):
        durability = Durability.NONE
        features = frozenset()

    report = run_conformance(["broken://"], registry=registry_of(Honest()), ports=["journal"])
    [port] = report.urls[0].ports
    assert [test.reason for test in port.tests if test.outcome == "failed"] == []
    statuses = [fact.status for fact in port.facts]
    assert statuses == [Status.PROVEN, Status.UNDECLARED, Status.UNDECLARED, Status.UNDECLARED]
    assert report.ok


def test_surroundings_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing")
    seen: list[tuple[int, int]] = []
    report = run_conformance(["memory://"], ports=["state"], progress=lambda *now: seen.append(now))
    assert [test.outcome for test in report.urls[0].ports[0].tests].count("passed") == 5
    assert seen[-1] == (7, 7)
    assert os.environ["PYTEST_ADDOPTS"] == "-k nothing"
    assert os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD") != "1"


def test_urls_that_serve_nothing_are_refused() -> None:
    with pytest.raises(UnknownSchemeError, match="pip install loom-redis"):
        run_conformance(["redis://localhost"], registry=registry_of())
    with pytest.raises(UnknownSchemeError, match="file:// serves blobs, not journal"):
        run_conformance(["file:///x"], ports=["journal"], registry=registry_of())
    with pytest.raises(ConfigurationError):
        run_conformance(["no url"], registry=registry_of())


def test_data_never_goes_where_the_url_points(tmp_path: Path) -> None:
    for given, fresh in (
        ("sqlite:///data/my.db?synchronous=OFF", f"sqlite:///{tmp_path}/my.db?synchronous=OFF"),
        ("sqlite:////var/lib/my.db", f"sqlite:///{tmp_path}/my.db"),
        ("sqlite://", f"sqlite:///{tmp_path}/loom.db"),
        ("file:///var/lib/blobs", f"file://{tmp_path}/blobs"),
        ("memory://name", "memory://name"),
        ("other:///{folder}/x?a=1", f"other:///{tmp_path}/x?a=1"),
    ):
        places = Places(LoomURL.parse(given))
        assert places.local
        assert places.fresh(tmp_path) == fresh
    assert Places(LoomURL.parse("other:///0")).fresh(tmp_path).startswith("other:///0?namespace=")
    places = Places(LoomURL.parse("redis://u:p%40@h:1/2?tls=1"))
    urls = [LoomURL.parse(places.fresh(tmp_path)) for _ in range(2)]
    assert not places.local
    assert len({url.query["namespace"] for url in urls}) == 2
    for url in urls:
        assert (url.username, url.password, url.host, url.port, url.path) == ("u", "p@", "h", 1, "/2")
        assert url.query["tls"] == "1"


class Watchful(BrokenJournal):
    """Keeps namespaces apart, and says so by asking for them."""

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Watchful:
        assert url.query.get("namespace", "").startswith("loom-conformance-")
        return super().from_url(url, context)


class Strict(BrokenJournal):
    """Knows its options, and takes no other."""

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Strict:
        for name in [name for name, _ in url.query.items()]:
            if name != "namespace":
                raise ConfigurationError(f"there is no option {name}")
        return super().from_url(url, context)


def test_an_adapter_that_would_write_where_the_url_points_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not look at its option") as caught:
        run_conformance(["broken://u:secret@h/x"], registry=registry_of(Broken()))
    assert "secret" not in str(caught.value)

    class Apart(Broken):
        target = "loom_broken:Watchful"

    class Exact(Broken):
        target = "loom_broken:Strict"

    for plugin in (Apart(), Exact()):
        assert run_conformance(["broken://h/x"], registry=registry_of(plugin)).urls[0].ports


def loom(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environ}
    command = [sys.executable, "-m", "loom.cli", "conformance", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_command_reports_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = loom(
        "memory://", "sqlite:///my.db", "--port", "state", "--port", "journal",
        "--json", "report.json", "--junit", "report.xml", cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "journal: loom.adapters.sqlite.journal:SqliteJournalStore (loom-runtime, beta)" in done.stdout
    assert "proven      durability MACHINE" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.xml"]
    value = json.loads((tmp_path / "report.json").read_text())
    assert [(url["url"], len(url["ports"])) for url in value["urls"]] == [("memory://", 2), ("sqlite:///my.db", 2)]
    assert len(ElementTree.parse(tmp_path / "report.xml").getroot()) == 4


def test_wrong_calls_end_with_2(tmp_path: Path) -> None:
    for arguments, told in (
        (["nope://"], "no adapter serves"),
        (["memory://", "--port", "nope"], "there is no port"),
        (["memory://", "--junit", "no/folder/x"], "there is no folder"),
        ([], "Missing argument"),
    ):
        done = loom(*arguments, cwd=tmp_path, COLUMNS="300")
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr


def test_without_pytest_the_remedy_is_told(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pytest'] = None\n")
    environ = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = loom("memory://", cwd=tmp_path, **environ)
    assert done.returncode == 2
    assert "pip install 'loom-runtime[testing]'" in done.stderr


def test_memory_and_sqlite_are_proven(tmp_path: Path) -> None:
    done = loom("memory://", "sqlite:///my.db", "--json", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    ports = [port for url in json.loads(done.stdout)["urls"] for port in url["ports"]]
    assert len(ports) == 20
    statuses = [fact["status"] for port in ports for fact in port["facts"]]
    assert set(statuses) == {"proven", "undeclared"}
