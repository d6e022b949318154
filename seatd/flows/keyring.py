"""Follow the keys of receipts and proofs: from SQL, or while it is away from the sealed copy beside the seats.

Decides when a running seatd looks: every two seconds, and at once where a receipt came whose key it may not know
yet, as after a long pause of the process.  So a key that another seatd made is known here before it signs, no
renewal is refused over a rotation, and a key whose overlap is over verifies nothing, even while nobody can be asked.
"""

import asyncio
import time
from typing import Any, Final

from seatd.accounts.base import wall_clock_ms
from seatd.accounts.changes import Clock
from seatd.accounts.receipt_keys import ReceiptKeys, WrongSecretError, open_ring, seal_ring
from seatd.accounts.records import NewReceiptKey
from seatd.accounts.service import Accounts
from seatd.model import Refusal
from seatd.seats.model import Lease
from seatd.seats.proofs import Prover
from seatd.seats.receipts import Keyring
from seatd.seats.service import Seats
from seatd.seats.store import Store, StoreAwayError
from seatd.telemetry import log

KEPT_AS: Final = "receipt-ring"
LOOK_EVERY_S: Final = 2.0
LOOK_AGAIN_S: Final = 1.0
"""How soon a receipt that is not ours may make seatd look again."""
SIGNS_IN_MS: Final = 60_000
SIGNS_IN_MS_MIN: Final = 5_000
"""How soon a new key may sign: twice `LOOK_EVERY_S`, and a second for clocks that differ."""


class Keys:
    """The keys as this seatd knows them now; call `load` first, then `serve`."""

    prover: Prover

    def __init__(
        self, accounts: Accounts, store: Store, secret: bytes, issuer: str, clock: Clock = wall_clock_ms
    ) -> None:
        """Take keys of `accounts`, with copies in `store`, both sealed under `secret`."""
        self._accounts = accounts
        self._store = store
        self._secret = secret
        self._issuer = issuer
        self._clock = clock
        self._seats: Seats | None = None
        self._ring = ReceiptKeys(())
        self.keyring = Keyring(b"", {})
        self._looking = asyncio.Lock()
        self._looked_s = 0.0
        self._from_copy = False

    async def load(self) -> None:
        """Load the keys.

        Raises `Refusal` `database_unavailable` where SQL is away and the store has no copy, and
        `WrongSecretError` where the secret does not fit.
        """
        self._looked_s = time.monotonic()
        try:
            self._ring = await self._accounts.receipt_keys(self._secret)
        except Refusal as refusal:
            self._ring = await self._copied(refusal)
        else:
            self._from_copy = False
            await self._keep()
        self._apply()

    def serve(self, seats: Seats) -> None:
        """Give `seats` every later keyring."""
        self._seats = seats
        seats.keyring = self.keyring

    def prove(self, lease: Lease) -> str:
        """Make the proof of a lease that was just granted."""
        return self.prover.prove(lease, self._clock())

    @property
    def jwks(self) -> dict[str, Any]:
        """Tell the public keys of proofs that can still be worth something."""
        return self.prover.jwks

    async def newer(self, than: Keyring) -> bool:
        """Tell whether the keys are others than these, having looked at most a second ago."""
        async with self._looking:
            if self.keyring is than and time.monotonic() >= self._looked_s + LOOK_AGAIN_S:
                await self._look()
        return self.keyring is not than

    async def rotate(self, *, signs_in_ms: int, actor: str) -> NewReceiptKey:
        """Make a key that signs in `signs_in_ms`, when every seatd has loaded it; the one before it is retired.

        Raises `Refusal`: what `Accounts.rotate_receipt_key` raises, and `database_unavailable`.
        """
        new = await self._accounts.rotate_receipt_key(self._secret, signs_in_ms=signs_in_ms, actor=actor)
        async with self._looking:
            await self._look()
        return new

    async def follow_for_ever(self) -> None:
        """Look every two seconds, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            async with self._looking:
                await self._look()

    async def _look(self) -> None:
        """Load the keys; where they cannot be, go on with those that are known."""
        try:
            await self.load()
        except Refusal as refusal:
            log.debug("receipt keys not looked at", code=refusal.code)
            self._apply()
        except WrongSecretError as error:
            log.error("receipt keys not readable", error=str(error))
            self._apply()

    def _apply(self) -> None:
        """Put into force what holds at this instant of the keys that are known."""
        now_ms = self._clock()
        signing = self._ring.signing(now_ms)
        ring = Keyring.of(signing, self._ring.verifying(now_ms))
        if ring == self.keyring:
            return
        self.keyring, self.prover = ring, Prover(ring, self._issuer)
        if self._seats is not None:
            self._seats.keyring = ring
        log.info("receipt keys", signing=signing, verifying=len(ring.keys))

    async def _keep(self) -> None:
        """Keep a sealed copy beside the seats, if the store answers and has another or none."""
        try:
            if await self._copy() != self._ring:
                await self._store.keep(KEPT_AS, seal_ring(self._ring, self._secret))
        except StoreAwayError as error:
            log.debug("receipt keys not kept beside the seats", error=str(error))

    async def _copied(self, refusal: Refusal) -> ReceiptKeys:
        """Read the copy; where it lacks what is known here, as after a failover, make it good instead."""
        try:
            copy = await self._copy()
            if self._ring.keys and not copy.knows(self._ring):
                await self._store.keep(KEPT_AS, seal_ring(self._ring, self._secret))
                return self._ring
        except StoreAwayError:
            raise refusal from None
        if not copy.keys:
            raise refusal
        if not self._from_copy:
            self._from_copy = True
            log.warning("receipt keys taken from the store: the database is away")
        return copy

    async def _copy(self) -> ReceiptKeys:
        """Open the copy; none at all where there is none, or once keys are known one that cannot be read."""
        sealed = await self._store.kept(KEPT_AS)
        try:
            return ReceiptKeys(()) if sealed is None else open_ring(sealed, self._secret)
        except WrongSecretError:
            if self._ring.keys:
                return ReceiptKeys(())
            raise
