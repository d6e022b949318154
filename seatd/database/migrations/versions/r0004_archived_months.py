"""Archived months: a closed month whose leases left the database, and how much of each chain went with them.

The triggers of 0003 let go of what is archived, and of nothing else: leases that lie in archived months alone, rows of the
chain before the one where it was cut.  That a month is archived is written once, and never taken back.
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"
branch_labels: Final = None
depends_on: Final = None

SAID: Final = "this is of a closed month"
_LIES: Final = (
    "(COALESCE(OLD.started_ms, OLD.ended_ms, 0) < m.end_ms"
    " AND (OLD.ended_ms IS NULL OR OLD.ended_ms > m.start_ms))"
)
_SAME: Final = (
    "period",
    "state",
    "token",
    "start_ms",
    "end_ms",
    "timezone",
    "price_list",
    "began_ms",
    "closed_ms",
    "manifest",
)
_ONLY_ARCHIVED: Final = (
    "OLD.archived_ms IS NULL AND NEW.archived_ms IS NOT NULL AND NEW.archived_from_ms IS NOT NULL AND "
    + " AND ".join(f"OLD.{name} = NEW.{name}" for name in _SAME)
)
_REFUSALS: Final = (
    (
        "ledger_leases",
        "DELETE",
        f"EXISTS (SELECT 1 FROM months m WHERE m.archived_ms IS NULL AND {_LIES})",  # noqa: S608 - conditions of this file
    ),
    ("months", "UPDATE", f"OLD.state = 'closed' AND NOT ({_ONLY_ARCHIVED})"),
    (
        "usage_chain",
        "DELETE",
        "NOT EXISTS (SELECT 1 FROM archived_chains a WHERE a.partition = OLD.partition AND OLD.pos < a.pos)",
    ),
)


def upgrade() -> None:
    """Make the place where it is written, then the triggers that mind it."""
    op.add_column("months", sa.Column("archived_ms", sa.BigInteger(), nullable=True))
    op.add_column("months", sa.Column("archived_from_ms", sa.BigInteger(), nullable=True))
    op.create_table(
        "archived_chains",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pos", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("partition", name="pk_archived_chains"),
    )
    for table, event, when in _REFUSALS:
        _refuse(table, event, when)


def _refuse(table: str, event: str, when: str) -> None:
    name = f"frozen_{table}_{event.lower()}"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER {name}")
        body = f"BEGIN SELECT RAISE(ABORT, '{SAID}'); END"
        op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW WHEN {when} {body}")
        return
    back = "OLD" if event == "DELETE" else "NEW"
    raised = f"RAISE EXCEPTION '{SAID}' USING ERRCODE = 'check_violation'"
    op.execute(
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {when} THEN {raised}; END IF; RETURN {back}; END $$"
    )
