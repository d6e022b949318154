r"""Who this client is when the program does not say: a random id, kept per user and machine.

Decides where the id lies and that all programs of one user on one machine read the same one, even
when they first start at once.  Nothing of the user or the machine can be read from it.  It is no
secret and opens nothing; still the file is the user's alone (0600).

| system  | file                                                                              |
| ------- | --------------------------------------------------------------------------------- |
| Linux   | $XDG_STATE_HOME/seatd/client-<machine>, else ~/.local/state/seatd/...             |
| macOS   | ~/Library/Application Support/seatd/client-<machine>                              |
| Windows | %LOCALAPPDATA%\seatd\client-<machine>                                             |

<machine> is a hash, so that a home folder shared by several machines holds one id for each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_CLIENT = re.compile(r"^[A-Za-z0-9._@:+\-]{1,128}\Z", re.ASCII)
_MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_FALLBACK: dict[int, str] = {}


def client_id(folder: Path | None = None) -> str:
    """Return this user's client id on this machine, making it at the first call ever.

    `folder` replaces the system's usual place.  Where nothing can be kept there, the id is random
    and lasts as long as the process: its seat is then elsewhere for the next one until it expires.
    """
    try:
        return _kept((folder or state_folder(os.environ)) / f"client-{_machine()}")
    except (OSError, RuntimeError):  # RuntimeError: no home folder can be told
        return _FALLBACK.setdefault(os.getpid(), _new())


def state_folder(environ: Mapping[str, str]) -> Path:
    """Tell the folder that seatd's clients keep their state in; raises `RuntimeError` without a home."""
    if sys.platform == "win32":
        base = environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "seatd"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "seatd"
    base = environ.get("XDG_STATE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state") / "seatd"


def _kept(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        found = _read(path)
        if found:
            return found
        path.unlink()  # empty or garbled: make it anew
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _create(path, _new())
    # Whoever came first has won, and everybody reads theirs.
    found = _read(path)
    if not found:
        raise OSError(f"{path} does not keep what is written to it")
    return found


def _read(path: Path) -> str:
    text = path.read_text("ascii", "replace").strip()
    return text if _CLIENT.match(text) else ""


def _create(path: Path, text: str) -> None:
    """Write the file whole or not at all, and never over one that another program made."""
    handle, made = tempfile.mkstemp(dir=path.parent)  # 0600 from its first moment
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            _place(made, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)  # noqa: PTH108 - mkstemp gave a text


def _place(made: str, path: Path) -> None:
    if sys.platform == "win32":
        os.rename(made, path)  # noqa: PTH104 - refuses to replace there, which is the point
    else:
        os.link(made, path)  # refuses to replace, where a rename would not


def _new() -> str:
    return f"c_{secrets.token_hex(16)}"


def _machine() -> str:
    name = platform.node()
    for path in _MACHINE_IDS:
        with contextlib.suppress(OSError):
            name = Path(path).read_text("ascii", "replace").strip() or name
            break
    return hashlib.sha256(f"seatd-client {name}".encode()).hexdigest()[:16]
