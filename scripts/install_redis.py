"""See that redis-server is there for the tests: install it where this may, else say what to install.

    python scripts/install_redis.py

Exit code 0 when it is there, 1 with the command to run when it is not and this could not install it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_APT = {"DEBIAN_FRONTEND": "noninteractive"}
_HOW = """redis-server is not installed, and the tests start real servers. Install it and try again:
    Debian, Ubuntu:  sudo apt-get install redis-server
    Fedora:          sudo dnf install redis
    macOS:           brew install redis"""


def main() -> int:
    """Install redis-server through apt as root, or through sudo where it asks for no password."""
    if shutil.which("redis-server"):
        return 0
    if shutil.which("apt-get"):
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        if not sudo or shutil.which("sudo"):
            print("installing redis-server through apt", file=sys.stderr, flush=True)
            _run([*sudo, "apt-get", "update", "-qq"])
            # It comes with a service of its own, which the tests do not need and which would take port 6379.
            _run(
                [
                    *sudo,
                    "env",
                    "RUNLEVEL=1",
                    "apt-get",
                    "install",
                    "-y",
                    "-qq",
                    "--no-install-recommends",
                    "redis-server",
                ]
            )
    if shutil.which("redis-server"):
        return 0
    print(_HOW, file=sys.stderr)
    return 1


def _run(command: list[str]) -> None:
    subprocess.run(command, check=False, env={**os.environ, **_APT}, stdin=subprocess.DEVNULL, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
