"""Usage events that were acknowledged and may yet be lost: kept until they are committed, added again after a loss.

A store that is not fsynced always can forget what it acknowledged.  The seatd that heard of an event keeps it until the
recorder's cursor has passed it; when a later epoch answers, what was not committed is added to its stream.  Whose
event it is its lease and kind tell, so that adding one twice changes nothing.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from seatd.seats.store import Answers
from seatd.telemetry import log

KEPT_MAX: Final = 200_000
LOT: Final = 256
"""Events that are kept together where they came back from several answers."""


class Kept(NamedTuple):
    """Events of one answer as the script packed them: of `epoch`, numbered from `seq` on."""

    epoch: int
    seq: int
    events: list[bytes]


class Unrecorded:
    """What one seatd heard of one partition and does not know to be committed; the oldest first."""

    def __init__(self) -> None:
        self._kept: deque[Kept] = deque()
        self._count = 0
        self.epoch = 0

    def note(self, answers: Answers) -> None:
        """Keep the events of an answer; beyond a bound the oldest are given up, and the log says so."""
        self.epoch = max(self.epoch, answers.epoch)
        if answers.events:
            self._kept.append(Kept(answers.epoch, answers.first_seq, answers.events))
            self._count += len(answers.events)
            if self._count > KEPT_MAX:
                self._give_up()

    def _give_up(self) -> None:
        over = self._count - KEPT_MAX
        log.warning("acknowledged events are no longer kept", count=over)
        self._count = KEPT_MAX
        while over:
            oldest = self._kept.popleft()
            left = oldest.events[over:]
            if left:
                self._kept.appendleft(Kept(oldest.epoch, oldest.seq + over, left))
            over = max(over - len(oldest.events), 0)

    def committed(self, epoch: int, seq: int) -> None:
        """Forget what the recorder's cursor has passed in its epoch; of earlier ones a cursor says nothing."""
        kept = (each if each.epoch != epoch else _after(each, seq) for each in self._kept)
        self._keep(each for each in kept if each.events)

    def lost(self) -> list[bytes]:
        """Take out the events of epochs that are over: nobody else will bring them to the ledger."""
        lost = [event for each in self._kept if each.epoch < self.epoch for event in each.events]
        self._keep(each for each in self._kept if each.epoch >= self.epoch)
        return lost

    def keep_lost(self, events: list[bytes]) -> None:
        """Keep again what could not be added now, as of an epoch that no cursor names."""
        lots = [events[first : first + LOT] for first in range(0, len(events), LOT)]
        self._kept.extendleft(Kept(-1, 0, lot) for lot in reversed(lots))
        self._count += len(events)

    def _keep(self, kept: Iterable[Kept]) -> None:
        self._kept = deque(kept)
        self._count = sum(len(each.events) for each in self._kept)

    def __len__(self) -> int:
        """Count the events that are kept."""
        return self._count


def _after(kept: Kept, seq: int) -> Kept:
    """Leave out the events up to a number."""
    passed = max(seq - kept.seq + 1, 0)
    return Kept(kept.epoch, kept.seq + passed, kept.events[passed:]) if passed else kept
