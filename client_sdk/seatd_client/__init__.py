"""Hold a seat of a seatd server while a program runs.

`aio.SeatClient` for asyncio programs, `blocking.BlockingSeatClient` for the others, and
`python -m seatd_client hold -- CMD` for programs that cannot be changed.  Both are thin shells around
one core without I/O: `wire` (bytes), `states` and `lease` (when to believe, when to renew).
"""

from seatd_client import errors
from seatd_client.aio import SeatClient
from seatd_client.blocking import BlockingSeat, BlockingSeatClient
from seatd_client.errors import (
    AddonNotNamed,
    ConnectionFailed,
    LeaseGone,
    NoSeat,
    NotNamed,
    Refused,
    SeatElsewhere,
    SeatError,
    Transient,
)
from seatd_client.lease import Patience
from seatd_client.line import Standing
from seatd_client.notices import Callbacks
from seatd_client.seat import Lost, Seat
from seatd_client.states import State
from seatd_client.wire import VERSION, Grant

__version__ = VERSION

__all__ = [
    "AddonNotNamed",
    "BlockingSeat",
    "BlockingSeatClient",
    "Callbacks",
    "ConnectionFailed",
    "Grant",
    "LeaseGone",
    "Lost",
    "NoSeat",
    "NotNamed",
    "Patience",
    "Refused",
    "Seat",
    "SeatClient",
    "SeatElsewhere",
    "SeatError",
    "Standing",
    "State",
    "Transient",
    "__version__",
    "errors",
]
