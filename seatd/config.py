"""Flags and `SEATD_*` variables become one frozen settings object; nothing else reads the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STORE_SCHEMES: Final = ("redis://", "rediss://", "unix://")
DATABASE_SCHEMES: Final = ("sqlite", "postgresql", "postgres")


REVOKE_HOLD_MS_MAX: Final = 86_400_000
"""The longest that one revocation may keep its user off a seat: a day."""


class SettingError(Exception):
    """A setting is wrong; the message names it and says what it takes."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener listens; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as a URL has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str, setting: str) -> Address:
    """Read `HOST:PORT` (IPv6 in brackets); raises `SettingError` naming the setting."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise SettingError(f"{setting} takes HOST:PORT, as in 127.0.0.1:8470; {text!r} is not that.")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


@dataclass(frozen=True, slots=True)
class Settings:
    """All that `serve` needs to know.  Empty URLs mean the embedded store and SQLite under `data`.

    `q_ms` is the lock delay, `delta_ms` the largest offset between clocks of store nodes, `w_ms` how long an old
    primary may write on after a promotion.  For `revoke_hold_ms` a revoked user may not sit again.
    """

    data: Path = Path("var")
    listen: Address = Address("127.0.0.1", 8470)
    internal_listen: Address = Address("127.0.0.1", 8471)
    store: str = ""
    database: str = ""
    secret_file: Path | None = None
    issuer: str = "seatd"
    demo: bool = False
    log_level: str = "info"
    log_console: bool = False
    q_ms: int = 500
    delta_ms: int = 2_000
    w_ms: int = 0
    revoke_hold_ms: int = 60_000
    stream_max: int = 1_000_000
    recorder_every_ms: int = 500

    @property
    def secret_path(self) -> Path:
        """The file of the secret under which receipt keys lie in SQL."""
        return self.secret_file or self.data / "secret.key"

    @property
    def database_url(self) -> str:
        """The account database: what was named, else SQLite under `data`."""
        return self.database or f"sqlite:///{self.data.resolve() / 'seatd.db'}"


def checked(settings: Settings) -> Settings:
    """Return the settings, or raise `SettingError` where a URL cannot be served."""
    if settings.store and not settings.store.startswith(STORE_SCHEMES):
        raise SettingError(
            f"--store takes one of {', '.join(STORE_SCHEMES)}; {_scheme(settings.store)!r} is none."
        )
    scheme = _scheme(settings.database).partition("+")[0]
    if settings.database and scheme not in DATABASE_SCHEMES:
        raise SettingError(f"--database takes a sqlite or postgresql URL; {scheme!r} is neither.")
    if settings.q_ms < settings.w_ms:
        raise SettingError(f"--q-ms must not be less than --w-ms: {settings.q_ms} < {settings.w_ms}.")
    return settings


def _scheme(url: str) -> str:
    # What follows the scheme may hold a password: no message repeats it.
    return url.partition("://")[0]


def admin_key(key_file: Path | None, environ: Mapping[str, str] | None = None) -> str:
    """Read the admin key: `SEATD_ADMIN_KEY`, else the key file (default `var/admin.key`).

    Raises `SettingError` where there is none.
    """
    environ = os.environ if environ is None else environ
    if environ.get("SEATD_ADMIN_KEY"):
        return environ["SEATD_ADMIN_KEY"].strip()
    path = key_file or Path(environ.get("SEATD_DATA", "var")) / "admin.key"
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingError(
            f"No admin key: {path}: {error.strerror}. Name its file with --key-file, or set SEATD_ADMIN_KEY."
        ) from None
