"""The tables of the account plane and of the ledger, as both SQLite and PostgreSQL hold them.

Decides names, types, keys and indexes; every instant is a BIGINT of milliseconds since the UTC epoch.
History is never overwritten: tariffs, bookings and bindings are rows with the instant from which they
hold, and one that was replaced before it took effect is marked `cancelled_ms`.  The ledger's tables know
people by a random id only, and do not refer to `tenants` by foreign key, so that no usage event can be
refused by the account plane.  No query and no rule may live here.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

metadata: Final = MetaData(naming_convention=NAMING)

# Ids are compared and sorted by code point on both databases, whatever the server's locale.
Id: Final = String(128).with_variant(String(128, collation="C"), "postgresql")
# SQLite numbers rows by itself only where the column is called INTEGER.
Serial: Final = BigInteger().with_variant(Integer(), "sqlite")
Instant: Final = BigInteger


def _tenant() -> Column[str]:
    return Column("tenant", Id, ForeignKey("tenants.id"), nullable=False)


tenants: Final = Table(
    "tenants",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False),
    Column("customer", Id, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("lease_ttl_ms", BigInteger, nullable=False),
    Column("suspended_since_ms", Instant),
    Column("trial_until_ms", Instant),
    Column("policy_version", BigInteger, nullable=False),
    Column("created_ms", Instant, nullable=False),
    # The instant of the latest change: no later change of the tenant is given an earlier one.
    Column("changed_ms", Instant, nullable=False),
    # The longest ttl that may still be running, and since when the seat plane knows of a shorter one.
    Column("longest_ttl_ms", BigInteger, nullable=False, server_default="0"),
    Column("shorter_since_ms", Instant),
    # The version that ended every lease of the tenant last, and why.
    Column("ended_version", BigInteger, nullable=False, server_default="0"),
    Column("ended_reason", String(32), nullable=False, server_default=""),
)
"""One customer project each; `policy_version` rises with every change of the tenant."""

tariffs: Final = Table(
    "tariffs",
    metadata,
    Column("id", Serial, primary_key=True),
    _tenant(),
    Column("tariff", String(16)),
    Column("trial", Boolean, nullable=False),
    Column("at_ms", Instant, nullable=False),
    Column("decided_ms", Instant, nullable=False),
    Column("cancelled_ms", Instant),
    Index(None, "tenant", "at_ms", "id"),
)
"""In force from `at_ms` to the next row's; `tariff` null: none.  Null with `trial`: a trial ran out."""

bookings: Final = Table(
    "bookings",
    metadata,
    Column("id", Serial, primary_key=True),
    _tenant(),
    Column("product", Id, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("effective_ms", Instant, nullable=False),
    Column("decided_ms", Instant, nullable=False),
    Column("cancelled_ms", Instant),
    Index(None, "tenant", "product", "effective_ms", "id"),
)
"""An absolute quantity in force from `effective_ms` to the product's next row that was not cancelled."""

people: Final = Table(
    "people",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("person", String(32), primary_key=True),
    Column("name", Id),
    UniqueConstraint("tenant", "name"),
)
"""The only place where a user's name stands; null: erased, and the id stays without a name."""

bindings: Final = Table(
    "bindings",
    metadata,
    Column("id", Serial, primary_key=True),
    _tenant(),
    Column("product", Id, nullable=False),
    Column("person", String(32), nullable=False),
    Column("bound_ms", Instant, nullable=False),
    Column("unbound_ms", Instant),
    ForeignKeyConstraint(["tenant", "person"], ["people.tenant", "people.person"]),
    Index(None, "tenant", "product", "person", "bound_ms"),
    Index(
        "uq_bindings_standing",
        "tenant",
        "product",
        "person",
        unique=True,
        sqlite_where=text("unbound_ms IS NULL"),
        postgresql_where=text("unbound_ms IS NULL"),
    ),
)
"""A person was named for a product over [bound_ms, unbound_ms); at most one row of them stands."""

keys: Final = Table(
    "keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", Id, ForeignKey("tenants.id")),
    Column("scope", String(16), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("created_ms", Instant, nullable=False),
    Column("expires_ms", Instant),
    Column("revoked_ms", Instant),
    Column("last_used_ms", Instant),
    UniqueConstraint("hash"),
    Index(None, "tenant", "id"),
)
"""Bearer keys, by the SHA-256 (hex) of the whole text; the text itself is nowhere."""

receipt_keys: Final = Table(
    "receipt_keys",
    metadata,
    Column("kid", String(32), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_ms", Instant, nullable=False),
    Column("retired_ms", Instant),
)
"""Keys that make and check receipts, encrypted under the secret file."""

audit: Final = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", Instant, nullable=False),
    Column("actor", Id, nullable=False),
    Column("action", String(64), nullable=False),
    Column("tenant", Id),
    Column("detail", Text, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index(None, "tenant", "seq"),
)
"""Append-only, `seq` gap-free from 1, each row's hash over the one before; `detail`: canonical JSON."""

outbox: Final = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True),
    _tenant(),
    Column("due_ms", Instant, nullable=False),
    # Something decided earlier takes effect at `due_ms`: the policy's version has yet to rise for it.
    Column("scheduled", Boolean, nullable=False),
    Index(None, "due_ms", "id"),
    sqlite_autoincrement=True,
)
"""Policies to be projected to the seat plane, from `due_ms` on; the row goes when it is done."""

partitions: Final = Table(
    "partitions",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("opened_ms", Instant, nullable=False),
)
"""The newest epoch of each partition of the seat plane."""

tombstones: Final = Table(
    "tombstones",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("person", String(32), primary_key=True),
    Column("start_ms", Instant, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("until_ms", Instant, nullable=False),
    Index(None, "until_ms"),
)
"""Receipts of a person with a start up to `start_ms` are void; kept until none of them can matter any more."""

recorder_cursors: Final = Table(
    "recorder_cursors",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("stream_id", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
"""Up to where each partition's stream is in the ledger; moved in the transaction that writes the rows."""

seq_gaps: Final = Table(
    "seq_gaps",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("from_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("to_seq", BigInteger, nullable=False),
    Column("noticed_ms", Instant, nullable=False),
    # Somebody took the loss upon themselves, and said why: no month waits for it any more.
    Column("accepted_ms", Instant),
    Column("accepted_reason", Text),
    Index(None, "noticed_ms"),
)
"""Events that a partition numbered and the recorder never saw: `from_seq` to `to_seq`, both included."""

ledger_leases: Final = Table(
    "ledger_leases",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("lease", Id, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("person", String(32), nullable=False),
    Column("tariff", String(16), nullable=False),
    # Null only where the start fell into a gap and the end was seen.
    Column("started_ms", Instant),
    Column("start_epoch", BigInteger),
    Column("ended_ms", Instant),
    Column("end_epoch", BigInteger),
    Column("end_reason", String(32)),
    Column("labels", JSON, nullable=False),
    # Where the latest version of the row stands in its partition's chain.
    Column("pos", BigInteger),
    # A month asks for `started_ms < its end and (ended_ms is null or ended_ms > its start)`.
    Index(None, "tenant", "ended_ms", "started_ms"),
    Index(None, "tenant", "started_ms"),
)
"""Leases as the ledger folds their events; `tariff` is team, agent or service; no end: open."""

late_leases: Final = Table(
    "late_leases",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("lease", Id, primary_key=True),
    Column("pos", BigInteger, primary_key=True, autoincrement=False),
    Column("partition", Integer, nullable=False),
    Column("person", String(32), nullable=False),
    Column("tariff", String(16), nullable=False),
    Column("started_ms", Instant),
    Column("start_epoch", BigInteger),
    Column("ended_ms", Instant),
    Column("end_epoch", BigInteger),
    Column("end_reason", String(32)),
    Column("labels", JSON, nullable=False),
    Index(None, "tenant", "ended_ms", "started_ms"),
)
"""What became known of a lease after a month that it lies in was frozen; the version of the highest `pos` holds."""

usage_chain: Final = Table(
    "usage_chain",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("pos", BigInteger, primary_key=True, autoincrement=False),
    Column("row", Text, nullable=False),
    Column("hash", String(64), nullable=False),
)
"""Every version of every usage row, append-only, `pos` gap-free from 1; each hash is over the one before it."""

chain_heads: Final = Table(
    "chain_heads",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("pos", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)
"""Where each partition's chain ends; whoever appends holds the row to the end of the transaction."""

CLOSED: Final = "closed"
months: Final = Table(
    "months",
    metadata,
    Column("period", String(7), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("token", String(32), nullable=False),
    Column("start_ms", Instant, nullable=False),
    Column("end_ms", Instant, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("price_list", Id, nullable=False),
    Column("began_ms", Instant, nullable=False),
    Column("closed_ms", Instant),
    Column("manifest", Text),
    # Since when its leases are archived, those that begin at `archived_from_ms` or later and end within it.
    Column("archived_ms", Instant),
    Column("archived_from_ms", Instant),
)
"""Months that are frozen: `closing`, while its files are made under `token`, or `closed`, and then for ever."""

archived_chains: Final = Table(
    "archived_chains",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("pos", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)
"""Rows of the chain before `pos` are archived; `hash` is that of the last of them."""

month_parts: Final = Table(
    "month_parts",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("tenant", Id, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index(None, "token", "tenant"),
)
"""The files of a month, in parts (zlib): what lines of one tenant, or of none, come one after the other."""

late_facts: Final = Table(
    "late_facts",
    metadata,
    Column("period", String(7), primary_key=True),
    Column("tenant", Id, primary_key=True),
)
"""Of which tenants something of a frozen month became known after it was frozen."""

samples: Final = Table(
    "samples",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("minute_ms", Instant, primary_key=True, autoincrement=False),
    Column("in_use", BigInteger, nullable=False),
    Column("peak", BigInteger, nullable=False),
    Column("capacity", BigInteger, nullable=False),
    Column("waiting", BigInteger, nullable=False),
    Column("denied", BigInteger, nullable=False),
)
"""How full a tenant was in the minute that begins at `minute_ms`, where something changed."""

denials: Final = Table(
    "denials",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("person", String(32), primary_key=True),
    Column("reason", String(32), primary_key=True),
    Column("minute_ms", Instant, primary_key=True, autoincrement=False),
    Column("at_ms", Instant, nullable=False),
    Index(None, "tenant", "at_ms"),
)
"""Refused acquires, at most one a person, reason and minute."""

meters: Final = Table(
    "meters",
    metadata,
    Column("tenant", Id, primary_key=True),
    Column("product", Id, primary_key=True),
    Column("id", Id, primary_key=True),
    Column("quantity", String(32), nullable=False),
    Column("at_ms", Instant, nullable=False),
    Index(None, "tenant", "at_ms"),
)
"""Reported quantities (decimal text), once an id within a product."""

price_lists: Final = Table(
    "price_lists",
    metadata,
    Column("version", Id, primary_key=True),
    Column("valid_from", String(10), nullable=False),
    Column("toml", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("added_ms", Instant, nullable=False),
    Index(None, "valid_from"),
)
"""Price lists as they were sent; `valid_from` is a local date `YYYY-MM-DD`, `digest` hex SHA-256."""
