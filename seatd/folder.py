"""The data folder: one seatd at a time, private files written whole."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from seatd.config import SettingError


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; raises `SettingError` where another has it or it cannot be made."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise SettingError(f"The data folder {folder} cannot be used: {error.strerror}.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingError(
                f"Another seatd serves from {folder}; name another folder with --data."
            ) from None
        yield


def write_once(path: Path, make: Callable[[], str]) -> str:
    """Read a private file, or make it with mode 0600: never half a file, never readable by others.

    Raises `SettingError` where it can be neither read nor made.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return path.read_text().strip()
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(make() + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        return path.read_text().strip()
    except OSError as error:
        raise SettingError(f"{path} cannot be read or made: {error.strerror}.") from None
