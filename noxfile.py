"""The house's checks. ``nox -l`` lists them; ``./dev nox -s NAME`` runs one without nox being installed.

Every session works on what lies in ``packages/``, so a new package needs no edit here.
"""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "types", "imports", "docs"]

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
# The core first: pip would look for it on the index if it met a package that needs it before.
PACKAGES = sorted(
    (path.parent for path in ROOT.glob("packages/*/pyproject.toml")),
    key=lambda path: (path.name != "loom-runtime", path.name),
)
NO_TESTS_COLLECTED = 5


def group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PYPROJECT, name))


def extras(package: Path) -> str:
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    names = sorted(project.get("optional-dependencies", {}))
    return f"[{','.join(names)}]" if names else ""


def import_names(package: Path) -> list[str]:
    return sorted(path.parent.name for path in package.glob("src/*/__init__.py"))


def install_house(session: nox.Session, *groups: str) -> None:
    editables = [part for package in PACKAGES for part in ("-e", f"{package}{extras(package)}")]
    session.install(*editables, *[requirement for name in groups for requirement in group(name)])


def pytest(session: nox.Session, *arguments: str | Path) -> None:
    install_house(session, "test")
    session.run("python", str(ROOT / "scripts" / "install_redis.py"))
    codes = [0] if session.name == "tests" else [0, NO_TESTS_COLLECTED]
    side_by_side = ("-n", "2", "--dist", "worksteal")
    session.run("python", "-m", "pytest", *side_by_side, *map(str, arguments), *session.posargs, success_codes=codes)


@nox.session
def tests(session: nox.Session) -> None:
    """The fast tests of every package: under three minutes."""
    pytest(session, "-m", "not slow and not crash")


@nox.session
def slow(session: nox.Session) -> None:
    """The tests of every package that take long or kill processes."""
    pytest(session, "-m", "slow or crash")


@nox.session
def integration(session: nox.Session) -> None:
    """Tests across packages, against real servers."""
    pytest(session, ROOT / "tests-integration")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format of everything, the scripts included."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types of the sources, and of the typed-API tests in packages/*/tests/typing."""
    install_house(session, "types", "test")
    session.run("mypy", *[str(package / "src") for package in PACKAGES])
    for package in PACKAGES:
        if (package / "tests" / "typing").is_dir():
            session.run("mypy", str(package / "tests" / "typing"))


@nox.session
def imports(session: nox.Session) -> None:
    """The direction of imports: the contracts in the root pyproject.toml, and a package's own if it has any."""
    install_house(session, "imports")
    session.run("lint-imports", "--no-cache")
    for package in PACKAGES:
        config = package / "pyproject.toml"
        if "importlinter" in tomllib.loads(config.read_text()).get("tool", {}):
            session.run("lint-imports", "--no-cache", "--config", str(config))


@nox.session
def wheels(session: nox.Session) -> None:
    """Build every package; install each wheel alone, away from the checkout, and use it there."""
    session.install(*group("build"))
    with tempfile.TemporaryDirectory(prefix="loom-wheels-") as folder:
        dist = Path(folder) / "dist"
        for package in PACKAGES:
            session.run("python", "-m", "build", "--outdir", str(dist / package.name), str(package))
        for package in PACKAGES:
            _try_wheel(session, package, dist, Path(folder) / "try" / package.name)


def _try_wheel(session: nox.Session, package: Path, dist: Path, away: Path) -> None:
    away.mkdir(parents=True)
    (wheel,) = (dist / package.name).glob("*.whl")
    links = [part for other in PACKAGES for part in ("--find-links", str(dist / other.name))]
    session.run("python", "-m", "venv", str(away / "venv"))
    python = str(away / "venv" / "bin" / "python")
    with session.chdir(away):
        quiet = ("--quiet", "--disable-pip-version-check")
        session.run(python, "-m", "pip", "install", *quiet, *links, str(wheel), external=True)
        for name in import_names(package):
            session.run(python, "-I", "-c", f"import {name}; print({name}.__file__)", external=True)
        session.run(str(away / "venv" / "bin" / "loom"), "--help", external=True, silent=True)
        smoke = package / "tests" / "wheel_smoke.py"
        if smoke.exists():
            session.run(python, "-I", str(smoke), external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Links lead somewhere, and every generated document is what its generator writes today."""
    session.run("python", "scripts/check_links.py")
    generators = sorted(ROOT.glob("scripts/generate_*.py"))
    if generators:
        install_house(session)
    for generator in generators:
        session.run("python", str(generator), "--check")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks; names and options after ``--`` go to ``python -m benchmarks``."""
    install_house(session, "test")
    session.run("python", "-m", "benchmarks", *session.posargs)
