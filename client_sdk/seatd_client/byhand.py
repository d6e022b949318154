"""Seats by hand: `python -m seatd_client take|renew|free --user ana`, for login scripts and for a first look.

Each verb is one exchange with the server; what is kept between them, lease and receipt, lies in a private
file.  Nobody renews in the background: whoever takes a seat by hand renews it in time, or loses it.

Decides what is kept, and what a line says.  `hold` is what programs should use; no belief in a seat outlives
the line that was printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import secrets
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from seatd_client import wire
from seatd_client.clock import boottime_ms
from seatd_client.command import (
    EX_LOST,
    EX_WRONG,
    KEY_HELP,
    add_asking,
    add_wishes,
    ended,
    read_key,
    read_label,
    refused,
)
from seatd_client.errors import LeaseGone, SeatError, Transient
from seatd_client.identity import client_id, state_folder
from seatd_client.lease import RHO_PERCENT
from seatd_client.transport import HttpTransport
from seatd_client.waiting import sleep_until, within

ANSWER_MS = 10_000
PAUSE_MS = 500

T = TypeVar("T")

_HELP = f"""
exit codes: 0 done; 2 the command line is wrong; 69 there is no seat to renew (any more); 75 no seat now, or the
server is away: try again later; 77 refused: trying again will not help

{KEY_HELP}. Lease and receipt are kept in --state, which nobody else may read
(default: a file of this user's, for this server, key and user).
"""


class State:
    """What is kept between two verbs: a private file with one seat's lease and receipt."""

    def __init__(self, path: Path) -> None:
        """Keep it at `path`."""
        self.path = path

    def read(self) -> dict[str, Any] | None:
        """Read what is kept; None where there is nothing that could be a seat."""
        try:
            kept = json.loads(self.path.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        whole = isinstance(kept, dict) and all(
            isinstance(kept.get(name), str) for name in ("lease", "receipt")
        )
        return kept if whole else None

    def write(self, kept: Mapping[str, Any]) -> None:
        """Keep it whole or not at all, 0600 from its first moment; raises `OSError`."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=self.path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(dict(kept), file)
            os.replace(made, self.path)  # noqa: PTH105 - mkstemp gave a text
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(made)  # noqa: PTH108
            raise

    def forget(self) -> None:
        """Keep nothing any more."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class Exchange:
    """One verb's talk with the server, within a time that was set."""

    def __init__(self, url: str, key: str, within_s: float) -> None:
        """Remember whom to ask; raises `ValueError` for a URL or key that cannot be one."""
        self.transport = HttpTransport(url, wire.Writer(key))
        self._within_ms = int(within_s * 1000)
        self.asked_ms = 0

    def ask(self, request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Ask until there is an answer or the time is over; raises the last `SeatError`."""
        return asyncio.run(self._ask(request))

    async def _ask(self, request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        give_up_ms = boottime_ms() + self._within_ms
        await self.transport.open()
        try:
            while True:
                self.asked_ms = boottime_ms()
                by_ms = max(min(self.asked_ms + ANSWER_MS, give_up_ms), self.asked_ms + PAUSE_MS)
                try:
                    return await within(boottime_ms, by_ms, request())
                except Transient as error:
                    spread_ms = random.randint(0, PAUSE_MS)  # noqa: S311 - spreads load, guards nothing
                    again_ms = boottime_ms() + max(error.retry_after_ms or 0, PAUSE_MS) + spread_ms
                    if again_ms >= give_up_ms:
                        raise
                    await sleep_until(boottime_ms, again_ms)
        finally:
            await self.transport.close()

    def believe_ms(self, ttl_ms: int) -> int:
        """Tell for how long from now the seat may be believed in, counted from before the question."""
        return max(self.asked_ms + ttl_ms * 100 // (100 + RHO_PERCENT) - boottime_ms(), 0)


def take(options: argparse.Namespace, exchange: Exchange, state: State) -> int:
    """Take the seat, or take it again: then its time starts anew."""
    wish = wire.Acquire(
        user=options.user,
        client=options.client or client_id(),
        request_id=f"r_{secrets.token_hex(16)}",
        addons=options.addon,
        takeover=options.takeover,
        labels=dict(map(read_label, options.label)),
    )
    grant = exchange.ask(lambda: exchange.transport.acquire(wish))
    kept = {
        "tenant": grant.tenant,
        "tariff": grant.tariff,
        "addons": list(grant.addons),
        "client": grant.client,
    }
    try:
        _keep(state, options.user, grant, kept)
    except OSError:
        exchange.ask(lambda: exchange.transport.release(grant.lease, grant.receipt))
        raise
    addons = f" with {', '.join(grant.addons)}" if grant.addons else ""
    said = f"{options.user} has a {grant.tariff} seat of {grant.tenant}{addons}"
    return _show(options, exchange, grant, kept, said)


def renew(options: argparse.Namespace, exchange: Exchange, state: State) -> int:
    """Renew the seat that was taken."""
    kept = state.read()
    if kept is None:
        return ended(f"{options.user} has taken no seat here; take one first", EX_LOST)
    try:
        renewal = exchange.ask(lambda: exchange.transport.renew(kept["lease"], kept["receipt"]))
    except LeaseGone as error:
        state.forget()
        return ended(f"{options.user}'s seat is lost: {error.reason}", EX_LOST)
    _keep(state, options.user, renewal, kept)
    return _show(options, exchange, renewal, kept, f"{options.user} keeps the seat")


def free(options: argparse.Namespace, exchange: Exchange, state: State) -> int:
    """Give the seat back; where there is none, that is well too."""
    kept = state.read()
    if kept is None:
        return _print(options, {"freed": False}, f"{options.user} has no seat here to give back.")
    exchange.ask(lambda: exchange.transport.release(kept["lease"], kept["receipt"]))
    state.forget()
    return _print(
        options, {"freed": True, "lease": kept["lease"]}, f"{options.user} has given the seat back."
    )


VERBS: Mapping[str, Callable[[argparse.Namespace, Exchange, State], int]] = {
    "take": take,
    "renew": renew,
    "free": free,
}


def main(options: argparse.Namespace) -> int:
    """Do the verb of a parsed command line; returns the exit code."""
    try:
        key = read_key(options.key_file)
        exchange = Exchange(options.url, key, options.within)
        state = State(options.state or _usual_place(options.url, key, options.user))
        return VERBS[options.verb](options, exchange, state)
    except (OSError, RuntimeError, ValueError) as error:
        return ended(str(error), EX_WRONG)
    except SeatError as error:
        return refused(error)
    except KeyboardInterrupt:
        return 130


def add_verbs(commands: Any) -> None:
    """Add the verbs to the command's parsers."""
    for name, verb in VERBS.items():
        said = (verb.__doc__ or "").partition("\n")[0]
        parser = commands.add_parser(
            name,
            help=said[0].lower() + said[1:].rstrip("."),
            description=said,
            epilog=_HELP,
            allow_abbrev=False,  # a key given as --key must not pass for --key-file, and be repeated in an error
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_asking(parser)
        if verb is take:
            add_wishes(parser)
        parser.add_argument("--state", type=Path, metavar="FILE", help="where lease and receipt are kept")
        parser.add_argument("--json", action="store_true", help="print one JSON object, without the receipt")


def _usual_place(url: str, key: str, user: str) -> Path:
    named = hashlib.sha256("\n".join((url.rstrip("/"), key, user)).encode()).hexdigest()[:16]
    return state_folder(os.environ) / f"seat-{named}.json"


def _keep(state: State, user: str, renewal: wire.Renewal, kept: Mapping[str, Any]) -> None:
    state.write({**kept, "user": user, "lease": renewal.lease, "receipt": renewal.receipt})


def _show(
    options: argparse.Namespace,
    exchange: Exchange,
    renewal: wire.Renewal,
    kept: Mapping[str, Any],
    said: str,
) -> int:
    body = {
        **{name: value for name, value in kept.items() if name != "receipt"},
        "user": options.user,
        "lease": renewal.lease,
        "expires_ms": renewal.expires_ms,
        "ttl_ms": renewal.ttl_ms,
        "renew_after_ms": renewal.renew_after_ms,
        "believe_ms": exchange.believe_ms(renewal.ttl_ms),
    }
    until = datetime.fromtimestamp(renewal.expires_ms // 1000).astimezone().strftime("%H:%M:%S")
    soon = f"renew it in {renewal.renew_after_ms // 1000} s"
    return _print(options, body, f"{said} until {until} ({soon}).")


def _print(options: argparse.Namespace, body: Mapping[str, Any], said: str) -> int:
    print(json.dumps(body) if options.json else said)  # noqa: T201 - a command speaks to people
    return 0
