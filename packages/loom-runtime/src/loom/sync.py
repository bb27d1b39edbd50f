"""The app for code without an event loop: scripts, Django, notebooks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .errors import NotRunningError

if TYPE_CHECKING:
    from types import TracebackType

    from .app import Loom
    from .client import RunHandle
    from .runtime.run_status import RunStatus
    from .workflow import Workflow

__all__ = ["SyncApp", "SyncRunHandle"]

P = ParamSpec("P")
T = TypeVar("T")


class SyncApp:
    """An app that runs on a thread of its own; any thread may call it.
    ``with app.sync as loom:`` starts and stops it.
    """

    def __init__(self, app: Loom) -> None:
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> SyncApp:
        """Host until ``stop``. Raises what starting the app raises."""
        if self._loop is not None:
            return self
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="loom sync", daemon=True)
        self._thread.start()
        try:
            self.run(self._app.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def stop(self) -> None:
        """Drain and stop; harmless when it is stopped."""
        if self._loop is not None:
            try:
                self.run(self._app.__aexit__(None, None, None))
            finally:
                self._end()

    def __enter__(self) -> SyncApp:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def actor(self, actor: type[Any], key: str, *, idempotency_key: str | None = None) -> Any:
        """A reference whose handlers block until they answer."""
        return _SyncRef(self, lambda: self._app.actor(actor, key, idempotency_key=idempotency_key))

    def workflow(self, workflow: Workflow[Any, Any], run_id: str) -> SyncRunHandle:
        """A handle to a run whose methods block."""
        return SyncRunHandle(self, self._app.workflow(workflow, run_id))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run any coroutine of the app on its thread and wait for it."""
        if self._loop is None:
            work.close()
            raise NotRunningError("app.sync is not started; use 'with app.sync:' or app.sync.start()")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()


class _SyncRef:
    def __init__(self, app: SyncApp, reference: Callable[[], Any]) -> None:
        self._app = app
        self._reference = reference()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._reference, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            async def work() -> Any:
                return await method(*args, **kwargs)

            return self._app.run(work())

        return call


class SyncRunHandle:
    """``RunHandle`` with blocking methods."""

    def __init__(self, app: SyncApp, handle: RunHandle[Any, Any]) -> None:
        self._app = app
        self._handle = handle

    def start(self, *args: Any, **kwargs: Any) -> SyncRunHandle:
        """See ``RunHandle.start``."""
        self._app.run(self._handle.start(*args, **kwargs))
        return self

    def result(self, timeout: float | None = None) -> Any:
        """See ``RunHandle.result``."""
        return self._app.run(self._handle.result(timeout))

    def signal(self, name: str, value: Any = None) -> None:
        """See ``RunHandle.signal``."""
        self._app.run(self._handle.signal(name, value))

    def cancel(self, reason: str = "") -> bool:
        """See ``RunHandle.cancel``."""
        return self._app.run(self._handle.cancel(reason))

    def status(self) -> RunStatus:
        """See ``RunHandle.status``."""
        return self._app.run(self._handle.status())

    def get(self, name: str, type: type[Any] = object) -> Any:
        """See ``RunHandle.get``."""
        return self._app.run(self._handle.get(name, type))
