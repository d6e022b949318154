"""One caller's wish for a seat: the operation that it is, its turn in line, the lease or refusal that comes of it.

Decides what a refusal says of the caller's place.  Sends nothing.
"""

import hashlib
import secrets
import time
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

import msgpack

from seatd.model import Refusal
from seatd.seats import load, places, receipts
from seatd.seats.answers import REFUSALS
from seatd.seats.layout import Operation
from seatd.seats.model import Acquire, Caller, Lease
from seatd.seats.places import VALID_MS, Place
from seatd.seats.receipts import Keyring, Receipt
from seatd.seats.store import Answer
from seatd.telemetry import LINE_SECONDS

LEASE_ID_LENGTH: Final = 24
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz234567" * 8
"""For each byte the character of its lowest five bits."""
_FOR_EVER: Final = 1 << 53


class InLine(IntEnum):
    """What an acquire means to the line where no seat is free; numbers of the acquire script."""

    NO = 0
    WAITS = 1
    LAST = 2


def fingerprint(wanted: Acquire) -> str:
    """Digest what a request id stands for: the same id with another digest is another request; empty without an id."""
    if not wanted.request_id:
        return ""
    return _digest(wanted.addons, wanted.takeover, tuple(sorted(wanted.labels.items())))


@lru_cache(maxsize=1_024)
def _digest(*content: Any) -> str:
    return hashlib.blake2b(msgpack.packb(content), digest_size=8).hexdigest()


def _new_lease_id() -> str:
    # Letters and digits: an id that starts with a dash would be taken for a flag on a command line.
    return secrets.token_bytes(LEASE_ID_LENGTH).translate(_LETTERS).decode()


def lease_of(
    keyring: Keyring, receipt: Receipt, ttl_ms: int, addons: tuple[str, ...] = (), *, created: bool = False
) -> Lease:
    """Make the lease that a receipt is of, and seal the receipt."""
    # By position: a lease is made for every renewal, and names are looked up one by one.
    return Lease(
        receipt.tenant,
        receipt.user,
        receipt.client,
        receipt.lease,
        receipt.start_ms,
        receipt.expires_ms,
        ttl_ms,
        load.renew_after_ms(ttl_ms),
        receipt.kind,
        receipts.seal(keyring, receipt),
        addons,
        created,
    )


class Asking:
    """A wish, asked once or, where its caller waits, again and again.

    Raises `Refusal` `invalid_request` where the place that it comes with is not its user's.
    """

    def __init__(self, keyring: Keyring, caller: Caller, wanted: Acquire) -> None:
        self._keyring = keyring
        self._caller = caller
        self._wanted = wanted
        self._turn = (0, 0)
        self._clock: tuple[int, float] | None = None
        if wanted.place:
            place = places.unseal(keyring, wanted.place, tenant=caller.tenant, user=wanted.user)
            self._turn = (place.order_ms, place.valid_until_ms)

    def operation(self, in_line: InLine) -> Operation:
        """Lay the wish out as the acquire script reads it."""
        wanted = self._wanted
        return (
            self._caller.tenant,
            self._caller.key_hash,
            wanted.user,
            wanted.client,
            wanted.request_id,
            fingerprint(wanted),
            int(wanted.takeover),
            False if wanted.addons is None else wanted.addons,
            _new_lease_id(),
            dict(wanted.labels) or False,
            int(in_line),
            *self._turn,
        )

    def _waited_ms(self, start_ms: int) -> int | None:
        order_ms, valid_until_ms = self._turn
        return max(start_ms - order_ms, 0) if valid_until_ms > start_ms else None

    def settled(self, answer: Answer) -> Lease:
        """Make the lease that an answer is, with its receipt; raises the `Refusal` that it is."""
        if answer[0] != "granted":
            raise self._refused(answer)
        created, lease, start_ms, expires_ms, ttl_ms, kind, cap, addons, version = answer[1:]
        waited_ms = self._waited_ms(start_ms)
        if waited_ms is not None:
            LINE_SECONDS.observe(waited_ms / 1000)
        tenant, wanted = self._caller.tenant, self._wanted
        ids = (tenant, wanted.user, wanted.client, lease)
        receipt = Receipt(*ids, start_ms, expires_ms, kind, cap, version)
        return lease_of(self._keyring, receipt, ttl_ms, tuple(addons), created=bool(created))

    def _refused(self, answer: Answer) -> Refusal:
        """Make the refusal that an answer is, with a place where the caller stands in line."""
        refusal = REFUSALS[answer[0]](answer)
        if answer[0] == "no_seat":
            now_ms, order_ms = answer[4], answer[8]
            valid_until_ms = now_ms + VALID_MS
        elif answer[0] == "learning":
            until_ms, now_ms, order_ms = answer[1:]
            valid_until_ms = until_ms + VALID_MS
        else:
            return refusal
        self._turn = (order_ms, _FOR_EVER) if order_ms else (0, 0)
        self._clock = (now_ms, time.monotonic())
        return self._with_place(refusal, order_ms, valid_until_ms) if order_ms else refusal

    def unanswered(self, refusal: Refusal) -> Refusal:
        """Give the place along with a refusal that the script did not make: the caller may ask again with it."""
        if not self._turn[0]:
            return refusal
        if self._clock is None:
            return Refusal(refusal.code, refusal.detail, **refusal.fields, place=self._wanted.place)
        now_ms = self._clock[0] + int((time.monotonic() - self._clock[1]) * 1000)
        return self._with_place(refusal, self._turn[0], now_ms + VALID_MS)

    def _with_place(self, refusal: Refusal, order_ms: int, valid_until_ms: int) -> Refusal:
        place = Place(self._caller.tenant, self._wanted.user, order_ms, valid_until_ms)
        # A new one: the refusal of a whole batch is shared by all who were in it.
        return Refusal(
            refusal.code, refusal.detail, **refusal.fields, place=places.seal(self._keyring, place)
        )
