"""Get the keys of receipts: from SQL, or while it is away from the sealed copy beside the seats."""

from seatd.accounts.receipt_keys import ReceiptKeys, open_ring, seal_ring
from seatd.accounts.service import Accounts
from seatd.model import Refusal
from seatd.seats.receipts import Keyring
from seatd.seats.store import Store, StoreAwayError
from seatd.telemetry import log

KEPT_AS = "receipt-keys"


async def load(accounts: Accounts, store: Store, secret: bytes) -> Keyring:
    """Load the keyring; the sealed copy is renewed whenever SQL answered.

    Raises `Refusal` `database_unavailable` where SQL is away and the store has no copy, and
    `receipt_keys.WrongSecretError` where the secret does not fit.
    """
    try:
        ring = await accounts.receipt_keys(secret)
    except Refusal as refusal:
        ring = await _kept(store, secret, refusal)
        log.warning("receipt keys taken from the store: the database is away")
        return Keyring.of(ring.current, ring.keys)
    await keep(store, ring, secret)
    return Keyring.of(ring.current, ring.keys)


async def keep(store: Store, ring: ReceiptKeys, secret: bytes) -> None:
    """Keep a sealed copy beside the seats, if the store answers."""
    try:
        await store.keep(KEPT_AS, seal_ring(ring, secret))
    except StoreAwayError as error:
        log.warning("receipt keys not kept beside the seats", error=str(error))


async def _kept(store: Store, secret: bytes, refusal: Refusal) -> ReceiptKeys:
    try:
        sealed = await store.kept(KEPT_AS)
    except StoreAwayError:
        raise refusal from None
    if sealed is None:
        raise refusal
    return open_ring(sealed, secret)
