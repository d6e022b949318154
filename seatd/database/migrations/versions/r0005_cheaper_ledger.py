"""A ledger that costs less to write: no index that nobody searches, and closed months minded once a statement on PostgreSQL.

A trigger that runs for every row of thousands is most of what a batch of usage events costs there.  What is refused is what
0003 says; SQLite has triggers of rows only, which are cheap in it.
"""

from typing import Final

from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"
branch_labels: Final = None
depends_on: Final = None

SAID: Final = "this is of a closed month"
_FROZEN_END: Final = "(SELECT MAX(end_ms) FROM months)"


def _begin(row: str) -> str:
    return f"COALESCE({row}.started_ms, {row}.ended_ms, 0)"


def _lies(row: str) -> str:
    """Tell whether a row stands there, of a lease that lies in month m."""
    return (
        f"({row}.tenant IS NOT NULL AND {_begin(row)} < m.end_ms"
        f" AND ({row}.ended_ms IS NULL OR {row}.ended_ms > m.start_ms))"
    )


_SAME: Final = (
    "((pair.was).tenant IS NOT NULL AND (pair.fresh).tenant IS NOT NULL"
    " AND (pair.was).person = (pair.fresh).person AND (pair.was).tariff = (pair.fresh).tariff"
    " AND COALESCE((pair.was).started_ms, -1) = COALESCE((pair.fresh).started_ms, -1)"
    " AND ((pair.was).ended_ms IS NULL OR (pair.was).ended_ms >= m.end_ms)"
    " AND ((pair.fresh).ended_ms IS NULL OR (pair.fresh).ended_ms >= m.end_ms))"
)
# What began after the last frozen month, before and now, needs no further look, and that is nearly everything.
_INSERTED: Final = f"""
    SELECT 1 FROM (SELECT * FROM new_rows fresh WHERE {_begin("fresh")} < {_FROZEN_END}) AS fresh
    JOIN months m ON {_lies("fresh")}
"""  # noqa: S608 - conditions of this file
_UPDATED: Final = f"""
    SELECT 1 FROM (
        SELECT was, fresh FROM old_rows was
        FULL JOIN new_rows fresh ON was.tenant = fresh.tenant AND was.lease = fresh.lease
        WHERE LEAST({_begin("was")}, {_begin("fresh")}) < {_FROZEN_END}
    ) AS pair
    JOIN months m ON ({_lies("(pair.was)")} OR {_lies("(pair.fresh)")}) AND NOT {_SAME}
"""  # noqa: S608 - conditions of this file


def upgrade() -> None:
    """Drop the index; on PostgreSQL, put triggers of statements in the place of triggers of rows."""
    op.drop_index("ix_ledger_leases_started_ms", "ledger_leases")
    if op.get_bind().dialect.name == "postgresql":
        _mind("INSERT", "NEW TABLE AS new_rows", _INSERTED)
        _mind("UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows", _UPDATED)


def _mind(event: str, referencing: str, refused: str) -> None:
    name = f"frozen_ledger_leases_{event.lower()}"
    op.execute(f"DROP TRIGGER {name} ON ledger_leases")
    op.execute(
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF EXISTS ({refused})"
        f" THEN RAISE EXCEPTION '{SAID}' USING ERRCODE = 'check_violation'; END IF; RETURN NULL; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {name} AFTER {event} ON ledger_leases REFERENCING {referencing}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
    )


def downgrade() -> None:
    """Refuse: what was booked, used and audited is not thrown away; restore a backup instead."""
    raise NotImplementedError("restore a backup instead")
