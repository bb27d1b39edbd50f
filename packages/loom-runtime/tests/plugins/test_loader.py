"""A plugin that is broken in any way is a named line in the report and hurts nobody else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import count

import pytest

from loom.plugins import FoundPlugin, PluginLoader, PluginProblem, find_plugins

Install = Callable[..., None]
Source = Callable[..., str]


def load() -> PluginLoader:
    loader = PluginLoader()
    loader.load_all()
    return loader


def only_problem(loader: PluginLoader, distribution: str) -> PluginProblem:
    [problem] = [p for p in loader.report().problems if p.distribution == distribution]
    return problem


def test_an_installed_plugin_is_found_loaded_and_named(install: Install, plugin_source: Source) -> None:
    install("loom-good", {"good": "good_plugin"}, {"good_plugin.py": plugin_source("good")}, version="2.1")
    loader = load()
    [info] = [plugin for plugin in loader.report().plugins if plugin.distribution == "loom-good"]
    assert (info.loaded, info.version, [spec.scheme for spec in info.adapters]) == (True, "2.1", ["good"])
    [claim] = loader.claims("journal", "good")
    assert claim.spec.distribution == "loom-good"
    assert loader.report().ok


@pytest.mark.parametrize(
    ("value", "files", "code", "words"),
    [
        ("bad_plugin", {"bad_plugin.py": "raise RuntimeError('on fire')"}, "broken", "on fire"),
        ("bad_plugin", {"bad_plugin.py": "import sys; sys.exit(3)"}, "broken", "SystemExit"),
        ("bad_plugin", {"bad_plugin.py": "def ("}, "broken", "SyntaxError"),
        ("bad_plugin", {"bad_plugin.py": "import a_driver_nobody_has"}, "broken", "a_driver_nobody_has"),
        ("bad_plugin_that_is_not_there", {}, "not-found", "does not exist"),
        ("bad_plugin:nothing", {"bad_plugin.py": ""}, "not-found", "nothing"),
        ("not a module!", {}, "broken", "not a module!"),
        ("bad_plugin", {"bad_plugin.py": "x = 1"}, "no-hooks", "hookimpl"),
        (
            "bad_plugin",
            {"bad_plugin.py": "from loom.plugins import hookimpl\n@hookimpl\ndef loom_register_adaptors(): pass"},
            "invalid",
            "loom_register_adaptors",
        ),
        (
            "bad_plugin",
            {"bad_plugin.py": "from loom.plugins import hookimpl\n@hookimpl\ndef loom_register_adapters(app): pass"},
            "invalid",
            "app",
        ),
        (
            "bad_plugin",
            {"bad_plugin.py": "from loom.plugins import hookimpl\n@hookimpl\ndef loom_register_adapters(): yield 1/0"},
            "hook-failed",
            "ZeroDivisionError",
        ),
        (
            "bad_plugin",
            {"bad_plugin.py": "from loom.plugins import hookimpl\n@hookimpl\ndef loom_register_adapters(): return [7]"},
            "invalid",
            "int",
        ),
    ],
)
def test_a_broken_plugin_is_reported_and_hurts_nobody(
    install: Install, plugin_source: Source, value: str, files: dict[str, str], code: str, words: str
) -> None:
    install("loom-bad", {"bad": value}, files)
    install("loom-good", {"good": "good_plugin"}, {"good_plugin.py": plugin_source("good")})
    loader = load()
    problem = only_problem(loader, "loom-bad")
    assert (problem.code, problem.plugin) == (code, "bad")
    assert words in problem.message
    assert loader.claims("journal", "good")
    assert loader.claims("journal", "sqlite")
    assert not loader.report().ok
    assert any("loom-bad" in line for line in loader.report().lines())


def test_unreadable_entry_points_are_reported(install: Install, plugin_source: Source) -> None:
    install("loom-bad", "[loom.plugins]\nthis line has no equals sign\n")
    install("loom-good", {"good": "good_plugin"}, {"good_plugin.py": plugin_source("good")})
    loader = load()
    assert only_problem(loader, "loom-bad").code == "broken"
    assert loader.claims("journal", "good")


@pytest.mark.parametrize(
    ("scheme", "target", "port", "extra", "code", "words"),
    [
        ("odd", "a.b:C", "journal", ", api_version=99", "api-version", "upgrade Loom"),
        ("odd", "a.b:C", "journal", ", api_version=0", "api-version", "upgrade loom-odd"),
        ("odd", "a.b:C", "jurnal", "", "invalid", "no port 'jurnal'"),
        ("Odd://", "a.b:C", "journal", "", "invalid", "scheme"),
        ("odd", "a.b.C", "journal", "", "invalid", "package.module:Class"),
        ("odd", "a.b:C", "journal", ", features=frozenset({'MAGIC'})", "invalid", "Feature"),
    ],
)
def test_a_wrong_spec_is_refused_by_name(
    install: Install, plugin_source: Source, scheme: str, target: str, port: str, extra: str, code: str, words: str
) -> None:
    install("loom-odd", {"odd": "odd_plugin"}, {"odd_plugin.py": plugin_source(scheme, target, port, extra)})
    loader = load()
    problem = only_problem(loader, "loom-odd")
    assert problem.code == code
    assert words in problem.message
    assert scheme not in {spec.scheme for spec in loader.specs()}


def test_a_slow_import_is_measured_and_reported_and_the_plugin_used(install: Install, plugin_source: Source) -> None:
    install("loom-slow", {"slow": "slow_plugin"}, {"slow_plugin.py": plugin_source("slow")})
    ticks = count(0.0, 3.0)
    loader = PluginLoader(timer=lambda: next(ticks))
    loader.load_all()
    problem = only_problem(loader, "loom-slow")
    assert problem.code == "slow"
    assert "3.00 s" in problem.message
    assert loader.claims("journal", "slow")
    assert loader.report().ok


def test_two_claims_on_one_scheme_name_both(install: Install, plugin_source: Source) -> None:
    for name in ("one", "two"):
        install(f"loom-{name}", {name: f"{name}_plugin"}, {f"{name}_plugin.py": plugin_source("same", f"{name}.x:X")})
    [problem] = load().report().problems
    assert problem.code == "duplicate"
    assert "loom-one" in problem.message
    assert "loom-two" in problem.message


def test_a_distribution_installed_twice_counts_once_and_the_first_wins(install: Install, plugin_source: Source) -> None:
    install("loom-good", {"good": "good_plugin"}, {"good_plugin.py": plugin_source("good")}, version="1.0")
    install("loom_good", {"good": "good_plugin"}, version="2.0")
    assert len([found for found in find_plugins() if found.name == "good"]) == 1
    assert load().report().ok


def test_two_entry_points_of_one_module_are_one_plugin(install: Install, plugin_source: Source) -> None:
    install("loom-good", {"a": "good_plugin", "b": "good_plugin"}, {"good_plugin.py": plugin_source("good")})
    loader = load()
    assert len(loader.claims("journal", "good")) == 1
    assert loader.report().ok


def test_a_hook_that_raises_does_not_stop_the_next_plugin() -> None:
    from loom.plugins import hookimpl

    class Raises:
        @hookimpl
        def loom_runtime_started(self, app: object) -> None:
            raise ValueError("no")

    class Answers:
        @hookimpl
        def loom_runtime_started(self, app: object) -> object:
            return app

    loader = PluginLoader(find=list)
    loader.register(Raises(), name="raises")
    loader.register(Answers(), name="answers")
    assert loader.call("loom_runtime_started", app=5) == [5]
    assert only_problem(loader, "this program").code == "hook-failed"


def test_load_all_looks_once() -> None:
    looks: list[int] = []

    def find() -> list[FoundPlugin]:
        looks.append(1)
        return []

    loader = PluginLoader(find=find)
    assert not looks
    loader.load_all()
    loader.load_all()
    assert looks == [1]


def test_fifty_plugins_import_no_driver_and_nothing_is_imported_before_it_is_needed(
    install: Install, plugin_source: Source
) -> None:
    for n in range(50):
        files = {
            f"p{n}/__init__.py": "",
            f"p{n}/plugin.py": plugin_source(f"p{n}", f"p{n}.driver:Adapter"),
            f"p{n}/driver.py": "raise RuntimeError('the driver was imported')",
        }
        install(f"loom-p{n}", {f"p{n}": f"p{n}.plugin"}, files)
    from loom.plugins import AdapterRegistry

    registry = AdapterRegistry()
    registry.spec("journal", "sqlite")
    assert not [f"p{n}.plugin" for n in range(50) if f"p{n}.plugin" in sys.modules]
    assert registry.spec("journal", "p7").distribution == "loom-p7"
    assert not [f"p{n}.driver" for n in range(50) if f"p{n}.driver" in sys.modules]
    assert registry.plugins.report().ok


def test_importing_the_plugins_package_imports_no_metadata_reader_and_no_adapter() -> None:
    code = (
        "import sys; sys.modules['loom'] = type(sys)('loom'); import importlib.util as u; "
        f"sys.modules['loom'].__path__ = {[str(p) for p in __import__('loom').__path__]!r}; import loom.plugins; "
        "print([m for m in sys.modules if m in ('importlib.metadata', 'sqlite3') or m.startswith('loom.adapters')])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == "[]"
