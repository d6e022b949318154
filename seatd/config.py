"""Flags and `SEATD_*` variables become one frozen settings object; nothing else reads the environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote

SENTINEL_SCHEME: Final = "redis+sentinel://"
SENTINEL_PORT: Final = 26_379
SENTINEL_OPTIONS: Final = (
    "sentinel_username",
    "sentinel_password",
    "ssl",
    "sentinel_ssl",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
)
STORE_SCHEMES: Final = ("redis://", "rediss://", "unix://", SENTINEL_SCHEME)
SINGLE_Q_MS: Final = 500
SENTINEL_W_MS: Final = 11_000
"""The documented min-replicas-max-lag of ten seconds, and one more."""
DATABASE_SCHEMES: Final = ("sqlite", "postgresql", "postgres")


REVOKE_HOLD_MS_MAX: Final = 86_400_000
"""The longest that one revocation may keep its user off a seat: a day."""
WORKERS_MAX: Final = 64


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
class SentinelUrl:
    """A store that sentinels watch: where they are, what they call it, and how both are spoken to."""

    sentinels: tuple[Address, ...]
    service: str
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def asks(self, option: str, *, default: bool = False) -> bool:
        """Tell whether a yes-or-no option is on."""
        return _SAID.get(self.options.get(option, "").lower(), default)


_SERVICE: Final = re.compile(r"[A-Za-z0-9._-]+")
_DATABASE: Final = re.compile(r"[0-9]{0,4}")
_SENTINEL_FORM: Final = f"{SENTINEL_SCHEME}[USER:PASSWORD@]HOST:PORT,HOST:PORT,.../SERVICE[/DB][?OPTIONS]"
_SAID: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_YES_OR_NO: Final = ("ssl", "sentinel_ssl", "ssl_check_hostname")


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Read `redis+sentinel://[user:password@]host[:port],.../service[/db][?options]`.

    Raises `SettingError`, which repeats no password.
    """
    rest, _, query = url.removeprefix(SENTINEL_SCHEME).partition("?")
    where, _, path = rest.partition("/")
    login, at, hosts = where.rpartition("@")
    service, _, db = path.partition("/")
    # What is not as it should be may be part of a password with a character that was to be escaped: no word of it.
    if not hosts or not _SERVICE.fullmatch(service) or not _DATABASE.fullmatch(db):
        raise SettingError(f"--store takes {_SENTINEL_FORM}.")
    user, _, password = login.partition(":")
    return SentinelUrl(
        sentinels=tuple(_sentinel(host) for host in hosts.split(",")),
        service=service,
        db=int(db or 0),
        username=unquote(user) or None if at else None,
        password=unquote(password) or None if at else None,
        options=_sentinel_options(query),
    )


def _sentinel(host: str) -> Address:
    with_port = host if ":" in host.rpartition("]")[2] else f"{host}:{SENTINEL_PORT}"
    try:
        return parse_address(with_port, "")
    except SettingError:
        raise SettingError(f"--store takes {_SENTINEL_FORM}.") from None


def _sentinel_options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name not in SENTINEL_OPTIONS:
            raise SettingError(
                f"--store takes these options with {SENTINEL_SCHEME}: {', '.join(SENTINEL_OPTIONS)}."
            )
        if name in _YES_OR_NO and value.lower() not in _SAID:
            raise SettingError(f"--store: {name} is true or false.")
    return options


@dataclass(frozen=True, slots=True)
class Settings:
    """All that `serve` needs to know.  Empty URLs mean the embedded store and SQLite under `data`.

    `q_ms` is the lock delay, `delta_ms` the largest offset between clocks of store nodes, `w_ms` how long an old
    primary may write on after a promotion.  For `revoke_hold_ms` a revoked user may not sit again.
    Names of users who were not seen for `forget_users_after_days` are erased (0: never).  Leases of closed months older
    than `keep_usage_months` are archived under `data` (0: never).
    """

    data: Path = Path("var")
    listen: Address = Address("127.0.0.1", 8470)
    internal_listen: Address = Address("127.0.0.1", 8471)
    store: str = ""
    database: str = ""
    secret_file: Path | None = None
    issuer: str = "seatd"
    datev_accounts: Path | None = None
    workers: int = 1
    demo: bool = False
    log_level: str = "info"
    log_console: bool = False
    q_ms: int = SINGLE_Q_MS
    delta_ms: int = 2_000
    w_ms: int = 0
    revoke_hold_ms: int = 60_000
    forget_users_after_days: int = 0
    keep_usage_months: int = 0
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
    if not 1 <= settings.workers <= WORKERS_MAX:
        raise SettingError(f"--workers takes 1 to {WORKERS_MAX}; {settings.workers} is not that.")
    if settings.q_ms < settings.w_ms:
        raise SettingError(f"--q-ms must not be less than --w-ms: {settings.q_ms} < {settings.w_ms}.")
    if settings.keep_usage_months and settings.forget_users_after_days > settings.keep_usage_months * 28:
        raise SettingError(
            "--keep-usage-months must not be less than --forget-users-after-days: who sat in an archived month "
            "would count as not seen."
        )
    if settings.store.startswith(SENTINEL_SCHEME):
        parse_sentinel_url(settings.store)
        if settings.q_ms < 2 * settings.delta_ms:
            raise SettingError(
                f"--q-ms must not be less than twice --delta-ms where a store has several nodes: "
                f"{settings.q_ms} < 2 * {settings.delta_ms}."
            )
    return settings


def waits_of(store: str, delta_ms: int, q_ms: int | None, w_ms: int | None) -> tuple[int, int]:
    """Choose Q and W where they were not set: what suits one store, or one that sentinels watch."""
    several = store.startswith(SENTINEL_SCHEME)
    if w_ms is None:
        w_ms = SENTINEL_W_MS if several else 0
    if q_ms is None:
        q_ms = max(w_ms, 2 * delta_ms) if several else max(w_ms, SINGLE_Q_MS)
    return q_ms, w_ms


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
