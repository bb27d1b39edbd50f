"""Resources: what the app's lifespan yields, found by type, replaceable in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

__all__ = ["Resources"]

T = TypeVar("T")


class Resources:
    """Objects by type. An override hides what the lifespan yielded for as long as it is in force."""

    def __init__(self, own: Mapping[type, Callable[[], Any]] | None = None) -> None:
        """``own`` is what the app itself has, made when it is asked for; what the lifespan yields goes before it."""
        self._own = dict(own or {})
        self._provided: dict[Any, Any] = {}
        self._overrides: dict[Any, list[Any]] = {}

    def provide(self, yielded: Any) -> None:
        """Take what a lifespan yielded: None, one object, a list of objects, or a mapping of type to object."""
        if yielded is None:
            self._provided = {}
        elif isinstance(yielded, Mapping):
            self._provided = dict(yielded)
        elif isinstance(yielded, list | tuple):
            self._provided = {type(item): item for item in yielded}
        else:
            self._provided = {type(yielded): yielded}

    def get(self, kind: type[T]) -> T:
        """The resource of this type, or of a subclass of it. Raises LookupError naming what there is."""
        overriding = self._overrides.get(kind)
        if overriding:
            return cast(T, overriding[-1])
        if kind in self._provided:
            return cast(T, self._provided[kind])
        for offered, resource in self._provided.items():
            if isinstance(offered, type) and issubclass(offered, kind):
                return cast(T, resource)
        if kind in self._own:
            return cast(T, self._own[kind]())
        names = ", ".join(sorted(getattr(k, "__name__", str(k)) for k in self._provided)) or "nothing"
        raise LookupError(
            f"no resource {getattr(kind, '__name__', kind)}: the lifespan yielded {names}. "
            "Yield it from Loom(lifespan=…), or use app.override in a test"
        )

    @contextmanager
    def override(self, kind: type[T], replacement: Any) -> Iterator[None]:
        """Give ``replacement`` for ``kind`` while the context is open. Overrides nest."""
        stack = self._overrides.setdefault(kind, [])
        stack.append(replacement)
        try:
            yield
        finally:
            stack.remove(replacement)
