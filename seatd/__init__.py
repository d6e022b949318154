"""seatd rents software by the seat: it serves seats, and turns use into money.

Two planes.  The *account plane* (SQL) holds who may sit: tenants, tariffs, bookings, bindings,
keys, and what happened: the usage ledger.  It is the truth and never on the path of a renewal.
The *seat plane* (Valkey or Redis) holds who sits now: a projection of each tenant's policy, the
live leases, the usage stream.  It is fast, and it may be lost.

Three flows, each read top to bottom, with no way back up::

    seat     client -> web -> seats.service -> batch -> Lua script (lease AND usage event) -> reply
    account  admin  -> web/cli -> accounts.service -> SQL -> policy projected to the seat plane
    money    usage stream -> recorder -> ledger -> rating (pure) -> charges -> exports
"""

__version__ = "0.1.0"
