"""A small disk that can be filled: a tmpfs where mounting is allowed, else a folder and a limit on the size of files."""

import contextlib
import os
import resource
import shutil
import subprocess
from pathlib import Path

SIZE_MB = 48


class Disk:
    """A folder; with `mounted`, on a file system of its own where that may be."""

    def __init__(self, path: Path, *, mounted: bool) -> None:
        self.path = path
        path.mkdir()
        self.own = mounted and _mount(path)
        self._filler = path / "filler"

    def fill(self, pids: list[int]) -> None:
        """Leave no byte: writes fail with ENOSPC (a disk of its own), or beyond a file's present size with EFBIG."""
        if self.own:
            with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 12))
            return
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def empty(self, pids: list[int]) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def remove(self) -> None:
        if self.own:
            subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)
        shutil.rmtree(self.path, ignore_errors=True)


def _mount(path: Path) -> bool:
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        return False
    command = [mount, "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=700", "tmpfs", str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
