"""Note when keys were last used: gathered in memory, written to SQL now and then, never on a request's path."""

import asyncio
from typing import Final

from seatd.accounts.base import wall_clock_ms
from seatd.accounts.service import Accounts
from seatd.model import Refusal

EVERY_S: Final = 15.0
KEYS_MAX: Final = 10_000


class KeysUsed:
    """The latest use of each key since the last note, by the SHA-256 of the key."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._used: dict[str, int] = {}

    def add(self, key_hash: str) -> None:
        """Say that a key has just opened something."""
        if len(self._used) < KEYS_MAX or key_hash in self._used:
            self._used[key_hash] = wall_clock_ms()

    async def note(self) -> None:
        """Write what was gathered; what cannot be written now is kept for the next time."""
        used, self._used = self._used, {}
        try:
            await self._accounts.touch_keys(used)
        except Refusal:
            self._used = used | self._used

    async def note_for_ever(self) -> None:
        """Note now and then, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.note()
