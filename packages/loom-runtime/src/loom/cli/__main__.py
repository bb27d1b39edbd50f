"""``python -m loom.cli`` is ``loom``."""

from . import main

main()
