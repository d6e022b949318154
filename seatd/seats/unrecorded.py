"""Usage events that were acknowledged and may yet be lost: kept until they are committed, added again after a loss.

A store that is not fsynced always can forget what it acknowledged.  The seatd that heard of an event keeps it until the
recorder's cursor has passed it; when a later epoch answers, what was not committed is added to its stream.  Whose
event it is its lease and kind tell, so that adding one twice changes nothing.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from seatd.seats.store import Answers
from seatd.telemetry import log

KEPT_MAX: Final = 200_000


@dataclass(frozen=True, slots=True)
class Kept:
    """An event as the script packed it, with its number in its epoch."""

    epoch: int
    seq: int
    event: bytes


class Unrecorded:
    """What one seatd heard of one partition and does not know to be committed; the oldest first."""

    def __init__(self) -> None:
        self._kept: deque[Kept] = deque()
        self.epoch = 0

    def note(self, answers: Answers) -> None:
        """Keep the events of an answer; beyond a bound the oldest are given up, and the log says so."""
        self.epoch = max(self.epoch, answers.epoch)
        for number, event in enumerate(answers.events):
            self._kept.append(Kept(answers.epoch, answers.first_seq + number, event))
        if len(self._kept) > KEPT_MAX:
            log.warning("acknowledged events are no longer kept", count=len(self._kept) - KEPT_MAX)
            while len(self._kept) > KEPT_MAX:
                self._kept.popleft()

    def committed(self, epoch: int, seq: int) -> None:
        """Forget what the recorder's cursor has passed in its epoch; of earlier ones a cursor says nothing."""
        self._kept = deque(kept for kept in self._kept if kept.epoch != epoch or kept.seq > seq)

    def lost(self) -> list[bytes]:
        """Take out the events of epochs that are over: nobody else will bring them to the ledger."""
        lost = [kept for kept in self._kept if kept.epoch < self.epoch]
        self._kept = deque(kept for kept in self._kept if kept.epoch >= self.epoch)
        return [kept.event for kept in lost]

    def keep_lost(self, events: list[bytes]) -> None:
        """Keep again what could not be added now, as of an epoch that no cursor names."""
        self._kept.extendleft(Kept(-1, 0, event) for event in reversed(events))

    def __len__(self) -> int:
        """Count what is kept."""
        return len(self._kept)
