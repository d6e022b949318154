"""How commands speak to the admin API: one blocking connection, one sentence where it does not work out.

Decides where the key comes from (a file or the environment, never a flag) and how commands end: exit status 1 for
what seatd refused or could not answer, 2 for what the caller got wrong.  No proxy is ever asked: it would see the key.
"""

import functools
import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import click

from seatd.cli.output import Output
from seatd.config import SettingError, admin_key

URL_DEFAULT: Final = "http://127.0.0.1:8471"
TIMEOUT_S: Final = 30.0
PAGE: Final = 1_000
CHUNK: Final = 1 << 16


class SettingFault(click.ClickException):
    """The caller has to set something else; exit status 2."""

    exit_code = 2


class ApiError(click.ClickException):
    """seatd refused, or did not answer; exit status 1.  `code` is the problem's, empty without one."""

    def __init__(self, message: str, *, code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `body` is decoded, None where there was none."""

    status: int
    body: Any
    headers: Mapping[str, str]


def path(*parts: str) -> str:
    """Write `/v1/...` of parts that may hold anything."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


class Api:
    """The admin API at a URL, opened by a key."""

    def __init__(self, url: str, key: str) -> None:
        """Take the internal listener's URL; raises `SettingFault` where it is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise SettingFault(f"--url takes http://HOST:PORT of the internal listener, as in {URL_DEFAULT}.")
        try:
            self._port = parts.port
        except ValueError:
            raise SettingFault(f"--url: {parts.netloc} names no port from 0 to 65535.") from None
        self._secure, self._host, self._prefix = (
            parts.scheme == "https",
            parts.hostname,
            parts.path.rstrip("/"),
        )
        self.url = url
        self.timeout_s = TIMEOUT_S
        self._key = key

    def call(
        self,
        method: str,
        route: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        content_type: str = "application/json",
        **query: Any,
    ) -> Answer:
        """Ask, with `body` as JSON or `raw` as `content_type`; parameters that are None are left out.

        Raises `ApiError` for a problem, and where nobody answers.
        """
        sent = raw if raw is not None else None if body is None else json.dumps(body).encode()
        asked = {name: value for name, value in query.items() if value is not None}
        target = route + (f"?{urlencode(asked)}" if asked else "")
        more = {} if sent is None else {"Content-Type": content_type}
        with self._answer(method, target, sent, more) as answer:
            return self._checked(answer.status, dict(answer.getheaders()), answer.read())

    def download(self, route: str) -> Iterator[bytes]:
        """Give the bytes of a file as they come; raises what `call` raises, also where they end too soon."""
        with self._answer("GET", route, None, {}) as answer:
            if answer.status >= 400:
                self._checked(answer.status, dict(answer.getheaders()), answer.read())
            left = answer.length  # None: in chunks, whose end the library looks for
            while chunk := answer.read(CHUNK):
                left = None if left is None else left - len(chunk)
                yield chunk
            if left:
                raise http.client.IncompleteRead(b"", left)

    @contextmanager
    def _answer(
        self, method: str, target: str, sent: bytes | None, more: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json", **more}
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self.timeout_s)
        try:
            connection.request(method, self._prefix + target, body=sent, headers=headers)
            yield connection.getresponse()
        except http.client.IncompleteRead:
            raise ApiError(f"{self.url} broke off in the middle of its answer: ask again.") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ApiError(
                f"No seatd answers at {self.url} ({reason}): start it, or name another with --url or SEATD_URL."
            ) from None
        finally:
            connection.close()

    def _checked(self, status: int, headers: Mapping[str, str], raw: bytes) -> Answer:
        try:
            kind = headers.get("Content-Type", "").partition(";")[0]
            body = json.loads(raw) if raw and kind.endswith(("/json", "+json")) else raw or None
        except ValueError:
            body = raw
        if status < 400:
            return Answer(status, body, headers)
        if not isinstance(body, dict):
            raise ApiError(
                f"{self.url} answered {status} and is no seatd's internal listener.", status=status
            )
        code = str(body.get("code", ""))
        raise ApiError(f"{body.get('detail', body.get('title', status))} ({code})", code=code, status=status)

    def pages(self, route: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Give every item of a list, page by page."""
        after: str | None = None
        while True:
            page = self.call("GET", route, limit=PAGE, after=after, **query).body
            yield from page["items"]
            after = page.get("next")
            if after is None:
                return


def read_key(key_file: Path | None) -> str:
    """Read the key; a file that was named goes before the environment.  Raises `SettingFault`."""
    try:
        key = admin_key(key_file, {} if key_file else os.environ)
    except SettingError as error:
        raise SettingFault(str(error)) from None
    except UnicodeDecodeError:
        key = ""
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        raise SettingFault("What should be the admin key is no key: it is one word of letters and digits.")
    return key


def speaks_api(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all that speak the admin API; it is called with `api` and `out`."""

    @click.option(
        "--url",
        envvar="SEATD_URL",
        default=URL_DEFAULT,
        show_default=True,
        show_envvar=True,
        help="Internal listener of seatd.",
    )
    @click.option(
        "--key-file",
        type=click.Path(path_type=Path),
        envvar="SEATD_KEY_FILE",
        show_envvar=True,
        help="File of the key; else SEATD_ADMIN_KEY, else admin.key under SEATD_DATA or var.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    @functools.wraps(function)
    def command(*args: Any, url: str, key_file: Path | None, as_json: bool, **options: Any) -> None:
        function(*args, api=Api(url, read_key(key_file)), out=Output(as_json=as_json), **options)

    return command
