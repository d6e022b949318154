"""The account plane's use cases, one method each: what admin routes, commands and flows call.

Every method is one transaction; every write holds its audit row, and the outbox row from which the seat plane
learns of it.  `actor` is the id of the key that asks.  All raise `Refusal`: `database_unavailable` or `busy`
where SQL does not answer, `not_found` for an unknown tenant, `invalid_request` for values out of bounds.  Whether
the key may ask is for the caller to have checked; nothing of the seat plane is known here.
"""

from seatd.accounts.access import Access
from seatd.accounts.contracts import Contracts
from seatd.accounts.projection import Projection


class Accounts(Contracts, Access, Projection):
    """Who may sit, by the truth of SQL: made of an engine, a clock and the zone in which months begin."""
