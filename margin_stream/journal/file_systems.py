"""On which file system a store lies: over a network a lock may be granted twice, and what was synced be lost."""

from __future__ import annotations

from pathlib import Path

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "lustre"}
)
NO_NETWORK = "Put the store on a disk of this machine: on network file systems neither locks nor syncs are certain."


def file_system(place: Path) -> str:
    """Return the kind of the file system that holds a place, where the machine states so; else nothing."""
    try:
        rows = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return ""
    best, kind = "", ""
    for left, right in (row for row in rows if len(row) == 2):
        mount = left.split()[4].encode().decode("unicode_escape")
        if place.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind
