"""The ``loom`` command. A command's file has its name; ``output``, ``options`` and ``session`` serve them all."""

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and exit: 0 done, 1 it failed or was refused, 2 it was called wrongly."""
    from .tree import build

    build()()
