"""The first schema: the account plane, the outbox, the recorder's cursors and the ledger."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None
branch_labels: Final = None
depends_on: Final = None

ID: Final = sa.String(length=128).with_variant(sa.String(length=128, collation="C"), "postgresql")
SERIAL: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table of the first schema."""
    _tenants()
    _rights()
    _keys()
    _outbox_and_cursors()
    _ledger()
    _price_lists()


def _tenants() -> None:
    """Make tenants, their people and their tariffs."""
    op.create_table(
        "tenants",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("customer", ID, nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("lease_ttl_ms", sa.BigInteger(), nullable=False),
        sa.Column("suspended_since_ms", sa.BigInteger(), nullable=True),
        sa.Column("trial_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("policy_version", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
    )
    op.create_table(
        "people",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("name", ID, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "person", name="pk_people"),
        sa.UniqueConstraint("tenant", "name", name="uq_people_tenant_name"),
    )
    op.create_table(
        "tariffs",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("tariff", sa.String(length=16), nullable=True),
        sa.Column("trial", sa.Boolean(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("decided_ms", sa.BigInteger(), nullable=False),
        sa.Column("cancelled_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name="fk_tariffs_tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_tariffs"),
    )
    op.create_index("ix_tariffs_tenant_at_ms_id", "tariffs", ["tenant", "at_ms", "id"])


def _rights() -> None:
    """Make bookings and bindings."""
    op.create_table(
        "bookings",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("product", ID, nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("effective_ms", sa.BigInteger(), nullable=False),
        sa.Column("decided_ms", sa.BigInteger(), nullable=False),
        sa.Column("cancelled_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name="fk_bookings_tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_bookings"),
    )
    op.create_index(
        "ix_bookings_tenant_product_effective_ms_id", "bookings", ["tenant", "product", "effective_ms", "id"]
    )
    op.create_table(
        "bindings",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("product", ID, nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("bound_ms", sa.BigInteger(), nullable=False),
        sa.Column("unbound_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant", "person"], ["people.tenant", "people.person"], name="fk_bindings_tenant_person"
        ),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name="fk_bindings_tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_bindings"),
    )
    op.create_index(
        "ix_bindings_tenant_product_person_bound_ms", "bindings", ["tenant", "product", "person", "bound_ms"]
    )
    op.create_index(
        "uq_bindings_standing",
        "bindings",
        ["tenant", "product", "person"],
        unique=True,
        sqlite_where=sa.text("unbound_ms IS NULL"),
        postgresql_where=sa.text("unbound_ms IS NULL"),
    )


def _keys() -> None:
    """Make the keys and the audit log."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant", ID, nullable=True),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_used_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name="fk_keys_tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("hash", name="uq_keys_hash"),
    )
    op.create_index("ix_keys_tenant_id", "keys", ["tenant", "id"])
    op.create_table(
        "receipt_keys",
        sa.Column("kid", sa.String(length=32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("retired_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("kid", name="pk_receipt_keys"),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", ID, nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("tenant", ID, nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_tenant_seq", "audit", ["tenant", "seq"])


def _outbox_and_cursors() -> None:
    """Make what stands between the planes."""
    op.create_table(
        "outbox",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("scheduled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.id"], name="fk_outbox_tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_due_ms_id", "outbox", ["due_ms", "id"])
    op.create_table(
        "partitions",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partition", name="pk_partitions"),
    )
    op.create_table(
        "recorder_cursors",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stream_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partition", name="pk_recorder_cursors"),
    )
    op.create_table(
        "seq_gaps",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("from_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("to_seq", sa.BigInteger(), nullable=False),
        sa.Column("noticed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partition", "epoch", "from_seq", name="pk_seq_gaps"),
    )
    op.create_index("ix_seq_gaps_noticed_ms", "seq_gaps", ["noticed_ms"])


def _ledger() -> None:
    """Make the ledger."""
    op.create_table(
        "ledger_leases",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("lease", ID, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("tariff", sa.String(length=16), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=True),
        sa.Column("start_epoch", sa.BigInteger(), nullable=True),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("end_epoch", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.String(length=32), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "lease", name="pk_ledger_leases"),
    )
    op.create_index("ix_ledger_leases_started_ms", "ledger_leases", ["started_ms"])
    op.create_index(
        "ix_ledger_leases_tenant_ended_ms_started_ms", "ledger_leases", ["tenant", "ended_ms", "started_ms"]
    )
    op.create_index("ix_ledger_leases_tenant_started_ms", "ledger_leases", ["tenant", "started_ms"])
    op.create_table(
        "samples",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("minute_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("in_use", sa.BigInteger(), nullable=False),
        sa.Column("peak", sa.BigInteger(), nullable=False),
        sa.Column("capacity", sa.BigInteger(), nullable=False),
        sa.Column("waiting", sa.BigInteger(), nullable=False),
        sa.Column("denied", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "minute_ms", name="pk_samples"),
    )
    op.create_table(
        "denials",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("minute_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "person", "reason", "minute_ms", name="pk_denials"),
    )
    op.create_index("ix_denials_tenant_at_ms", "denials", ["tenant", "at_ms"])
    op.create_table(
        "meters",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("product", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("quantity", sa.String(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "product", "id", name="pk_meters"),
    )
    op.create_index("ix_meters_tenant_at_ms", "meters", ["tenant", "at_ms"])


def _price_lists() -> None:
    """Make the price lists."""
    op.create_table(
        "price_lists",
        sa.Column("version", ID, nullable=False),
        sa.Column("valid_from", sa.String(length=10), nullable=False),
        sa.Column("toml", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_price_lists"),
    )
    op.create_index("ix_price_lists_valid_from", "price_lists", ["valid_from"])


def downgrade() -> None:
    """Refuse: what was booked, used and audited is not thrown away; restore a backup instead."""
    raise NotImplementedError("there is nothing before the first schema")
