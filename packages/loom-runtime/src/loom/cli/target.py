"""MODULE:APP on the command line, and the app behind it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..app import Loom

__all__ = ["load_app"]


def load_app(text: str) -> Loom:
    """The app that ``MODULE:APP`` names, found from the working folder too. Raises ConfigurationError."""
    from ..app import Loom

    module_name, _, name = text.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigurationError(f"{text!r} is a file; name the module: {dotted}:{name or 'app'}", target=text)
    module = _import(module_name, text)
    if not name:
        apps = [found for found, value in vars(module).items() if isinstance(value, Loom)]
        if len(apps) != 1:
            raise ConfigurationError(f"{module_name} has {_several(apps)}; say which: {module_name}:NAME", target=text)
        name = apps[0]
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Loom):
        apps = [other for other, value in vars(module).items() if isinstance(value, Loom)]
        what = "does not exist" if found is None else f"is a {type(found).__name__}, not a Loom"
        raise ConfigurationError(f"{text}: {name} {what}; {module_name} has {_several(apps)}", target=text)
    return found


def _import(name: str, text: str) -> Any:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"there is no module {error.name!r} in the working folder or installed; MODULE:APP is what Python "
                "imports, for example bank:app for bank.py", target=text,
            ) from error  # fmt: skip
        raise ConfigurationError(f"{name} cannot be imported: it needs {error.name!r}", target=text) from error
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{name} cannot be imported: {type(error).__name__}: {error}{_where(error)}; LOOM_TRACEBACK=1 shows more",
            target=text,
        ) from error


def _where(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return ""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"


def _several(apps: list[str]) -> str:
    return f"the apps {', '.join(apps)}" if len(apps) > 1 else f"the app {apps[0]}" if apps else "no Loom in it"
