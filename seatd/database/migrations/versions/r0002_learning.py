"""What outlives a loss of the seat store: tombstones, the longest ttl, the latest end of every lease."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"
branch_labels: Final = None
depends_on: Final = None

ID: Final = sa.String(length=128).with_variant(sa.String(length=128, collation="C"), "postgresql")


def upgrade() -> None:
    """Add what learning mode needs."""
    _add_to_tenants("longest_ttl_ms", sa.BigInteger(), "0")
    op.add_column("tenants", sa.Column("shorter_since_ms", sa.BigInteger(), nullable=True))
    _add_to_tenants("ended_version", sa.BigInteger(), "0")
    _add_to_tenants("ended_reason", sa.String(length=32), "")
    op.execute("UPDATE tenants SET longest_ttl_ms = lease_ttl_ms")
    op.create_table(
        "tombstones",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "person", name="pk_tombstones"),
    )
    op.create_index("ix_tombstones_until_ms", "tombstones", ["until_ms"])


def _add_to_tenants(name: str, kind: "sa.types.TypeEngine[Any]", default: str) -> None:
    op.add_column("tenants", sa.Column(name, kind, nullable=False, server_default=default))
