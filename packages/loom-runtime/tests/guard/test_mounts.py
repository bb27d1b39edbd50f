"""The file system of a path, as the kernel lists it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.guard.mounts import filesystem_of, kind_of

MOUNTS = """overlay / overlay rw 0 0
/dev/sda1 /var/lib ext4 rw 0 0
tmpfs /var/lib/fast tmpfs rw 0 0
server:/x /mnt/with\\040space nfs4 rw 0 0
/dev/sdb1 /twice ext4 rw 0 0
tmpfs /twice tmpfs rw 0 0
broken line
"""


@pytest.mark.parametrize(
    ("path", "filesystem"),
    [
        ("/loom.db", "overlay"),
        ("/var/lib/loom.db", "ext4"),
        ("/var/library/loom.db", "overlay"),
        ("/var/lib/fast/a/b/loom.db", "tmpfs"),
        ("/mnt/with space/loom.db", "nfs4"),
        ("/twice/loom.db", "tmpfs"),
    ],
)
def test_the_longest_mount_wins_and_of_equal_ones_the_last(path: str, filesystem: str) -> None:
    found = filesystem_of(Path(path), MOUNTS)
    assert found is not None
    assert found[0] == filesystem


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    mounts = f"/dev/a / ext4 rw 0 0\ntmpfs {tmp_path.resolve()}/real tmpfs rw 0 0\n"
    assert filesystem_of(tmp_path / "link" / "loom.db", mounts) == ("tmpfs", f"{tmp_path.resolve()}/real")


def test_no_mounts_say_nothing() -> None:
    assert filesystem_of(Path("/loom.db"), "") is None


@pytest.mark.parametrize(
    ("filesystem", "kind"),
    [("ext4", "local"), ("xfs", "local"), ("tmpfs", "memory"), ("ramfs", "memory"), ("overlay", "layer"),
     ("nfs", "network"), ("nfs4", "network"), ("cifs", "network"), ("fuse.sshfs", "network"), ("fuseblk", "local")],
)  # fmt: skip
def test_kinds(filesystem: str, kind: str) -> None:
    assert kind_of(filesystem) == kind
