"""The states of a seat at its holder, and which event leads from which to which.  Only the table.

                   granted            renew sent            renewed
    ACQUIRING ---------------> HELD ---------------> RENEWING ----> HELD
        | granted, but too late  ^ renewed              | failed      | deadline: LOST
        +--> CONFIRMING ---------+                      v             | stop: RELEASED
        | refused: REFUSED                           AT_RISK --renewed--> HELD
                                                        | deadline, gone or ended: LOST

What the events mean in time, and what goes with them, is decided in `lease`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class State(enum.Enum):
    """Where a seat stands at its holder."""

    ACQUIRING = "acquiring"
    CONFIRMING = "confirming"  # granted, but the grant came too late to believe: a renewal decides
    HELD = "held"
    RENEWING = "renewing"
    AT_RISK = "at_risk"  # still believed in, but the last renewal failed
    LOST = "lost"
    RELEASED = "released"
    REFUSED = "refused"


class Event(enum.Enum):
    """What can happen to a seat."""

    ACQUIRE_SENT = "acquire_sent"
    GRANTED = "granted"
    GRANTED_LATE = "granted_late"
    ACQUIRE_FAILED = "acquire_failed"
    REFUSED = "refused"
    RENEW_SENT = "renew_sent"
    RENEWED = "renewed"
    RENEWED_LATE = "renewed_late"
    RENEW_FAILED = "renew_failed"
    GONE = "gone"
    ENDED = "ended"
    DEADLINE = "deadline"
    STOP = "stop"


class Step(enum.Enum):
    """What is to be done now."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    WAIT = "wait"
    OVER = "over"


BELIEVING = frozenset({State.HELD, State.RENEWING, State.AT_RISK})
"""The states in which a seat may be believed in, until the deadline."""

TRANSITIONS: Mapping[State, Mapping[Event, State]] = MappingProxyType(
    {
        State.ACQUIRING: {
            Event.ACQUIRE_SENT: State.ACQUIRING,
            Event.GRANTED: State.HELD,
            Event.GRANTED_LATE: State.CONFIRMING,
            Event.ACQUIRE_FAILED: State.ACQUIRING,
            Event.REFUSED: State.REFUSED,
            Event.STOP: State.RELEASED,
        },
        State.CONFIRMING: {
            Event.RENEW_SENT: State.CONFIRMING,
            Event.RENEWED: State.HELD,
            Event.RENEWED_LATE: State.CONFIRMING,
            Event.RENEW_FAILED: State.CONFIRMING,
            Event.REFUSED: State.REFUSED,
            Event.ENDED: State.REFUSED,
            Event.STOP: State.RELEASED,
        },
        State.HELD: {
            Event.RENEW_SENT: State.RENEWING,
            Event.ENDED: State.LOST,
            Event.DEADLINE: State.LOST,
            Event.STOP: State.RELEASED,
        },
        State.RENEWING: {
            Event.RENEW_SENT: State.RENEWING,
            Event.RENEWED: State.HELD,
            Event.RENEWED_LATE: State.LOST,
            Event.RENEW_FAILED: State.AT_RISK,
            Event.GONE: State.LOST,
            Event.ENDED: State.LOST,
            Event.DEADLINE: State.LOST,
            Event.STOP: State.RELEASED,
        },
        State.AT_RISK: {
            Event.RENEW_SENT: State.AT_RISK,
            Event.RENEWED: State.HELD,
            Event.RENEWED_LATE: State.LOST,
            Event.RENEW_FAILED: State.AT_RISK,
            Event.GONE: State.LOST,
            Event.ENDED: State.LOST,
            Event.DEADLINE: State.LOST,
            Event.STOP: State.RELEASED,
        },
        State.LOST: {Event.STOP: State.LOST},
        State.RELEASED: {Event.STOP: State.RELEASED},
        State.REFUSED: {Event.STOP: State.REFUSED},
    }
)
"""Which event is legal in which state, and where it leads."""
