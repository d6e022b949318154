"""Closed months: their files, the chain of usage rows, and triggers that keep what was billed as it was.

A month is frozen from the row in `months` on.  What lies in it is neither changed nor taken away; a lease that goes on
beyond its end may still end there.  The same conditions hold on both databases, only their wrapping differs.
"""

import json
from hashlib import sha256
from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"
branch_labels: Final = None
depends_on: Final = None

ID: Final = sa.String(length=128).with_variant(sa.String(length=128, collation="C"), "postgresql")
LOCK: Final = 0x5EA7F
"""What `seatd.database.freezing` takes: shared by whoever writes facts, alone by whoever freezes a month."""
SAID: Final = "this is of a closed month"

_SAME_LEASE: Final = (
    "OLD.tenant = NEW.tenant AND OLD.lease = NEW.lease AND OLD.person = NEW.person AND OLD.tariff = NEW.tariff"
    " AND COALESCE(OLD.started_ms, -1) = COALESCE(NEW.started_ms, -1)"
    " AND (OLD.ended_ms IS NULL OR OLD.ended_ms >= m.end_ms)"
    " AND (NEW.ended_ms IS NULL OR NEW.ended_ms >= m.end_ms)"
)
_FROZEN_END: Final = "(SELECT COALESCE(MAX(m.end_ms), -1) FROM months m)"
_SAME_BINDING: Final = (
    "OLD.tenant = NEW.tenant AND OLD.product = NEW.product AND OLD.person = NEW.person"
    " AND OLD.bound_ms = NEW.bound_ms AND OLD.unbound_ms IS NULL"
    f" AND (NEW.unbound_ms IS NULL OR NEW.unbound_ms >= {_FROZEN_END})"
)
_ALWAYS: Final = "1 = 1"


def upgrade() -> None:
    """Make the tables of closed months, then the triggers."""
    _tables()
    _chain_what_stands()
    for table, event, when in _refusals():
        _refuse(table, event, when)
    _note_late_meters()


def _chain_what_stands() -> None:
    """Begin each partition's chain with the leases that were recorded before there was one."""
    connection = op.get_bind()
    query = (
        "SELECT partition, tenant, lease, person, tariff, started_ms, ended_ms, end_reason"
        " FROM ledger_leases ORDER BY partition, COALESCE(started_ms, ended_ms, 0), tenant, lease"
    )
    heads: dict[int, tuple[int, str]] = {}
    for partition, *values in connection.execute(sa.text(query)).all():
        before, prev = heads.get(partition, (0, "0" * 64))
        pos = before + 1
        row = json.dumps(["lease", *values], separators=(",", ":"))
        hashed = sha256(f"{prev}:{partition}:{pos}:{row}".encode()).hexdigest()
        heads[partition] = (pos, hashed)
        given = {"partition": partition, "pos": pos, "row": row, "hash": hashed}
        connection.execute(sa.text(_LINK), given)
        connection.execute(sa.text(_PLACE), {"pos": pos, "tenant": values[0], "lease": values[1]})
    for partition, (pos, hashed) in heads.items():
        connection.execute(sa.text(_HEAD), {"partition": partition, "pos": pos, "hash": hashed})


_LINK: Final = (
    'INSERT INTO usage_chain ("partition", "pos", "row", "hash") VALUES (:partition, :pos, :row, :hash)'
)
_PLACE: Final = "UPDATE ledger_leases SET pos = :pos WHERE tenant = :tenant AND lease = :lease"
_HEAD: Final = 'INSERT INTO chain_heads ("partition", "pos", "hash") VALUES (:partition, :pos, :hash)'


def _refusals() -> list[tuple[str, str, str]]:
    """List on which table and event a row is refused, and when."""
    refusals = [
        ("ledger_leases", "INSERT", _in_month(_lies("NEW"))),
        (
            "ledger_leases",
            "UPDATE",
            _in_month(f"({_lies('OLD')} OR {_lies('NEW')}) AND NOT ({_SAME_LEASE})"),
        ),
        ("ledger_leases", "DELETE", _in_month(_lies("OLD"))),
        ("bindings", "UPDATE", f"OLD.bound_ms < {_FROZEN_END} AND NOT ({_SAME_BINDING})"),
        ("months", "UPDATE", "OLD.state = 'closed'"),
        ("months", "DELETE", "OLD.state = 'closed'"),
    ]
    for table, at in (("tariffs", "at_ms"), ("bookings", "effective_ms"), ("bindings", "bound_ms")):
        refusals.append((table, "INSERT", f"NEW.{at} < {_FROZEN_END}"))
        refusals.append((table, "DELETE", f"OLD.{at} < {_FROZEN_END}"))
        if table != "bindings":
            refusals.append((table, "UPDATE", f"OLD.{at} < {_FROZEN_END} OR NEW.{at} < {_FROZEN_END}"))
    for table, at in (("meters", "at_ms"), ("denials", "at_ms"), ("samples", "minute_ms")):
        inside = f"OLD.{at} >= m.start_ms AND OLD.{at} < m.end_ms"
        refusals += [(table, event, _in_month(inside)) for event in ("UPDATE", "DELETE")]
    refusals += [
        ("price_lists", event, _in_month("m.price_list = OLD.version")) for event in ("UPDATE", "DELETE")
    ]
    for table in ("usage_chain", "late_leases"):
        refusals += [(table, event, _ALWAYS) for event in ("UPDATE", "DELETE")]
    for event, row in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD")):
        of_closed = f"m.token = {row}.token AND m.state = 'closed'"
        refusals.append(("month_parts", event, _in_month(of_closed)))
    return refusals


def _lies(row: str) -> str:
    begin = f"COALESCE({row}.started_ms, {row}.ended_ms, 0)"
    return f"({begin} < m.end_ms AND ({row}.ended_ms IS NULL OR {row}.ended_ms > m.start_ms))"


def _in_month(condition: str) -> str:
    return f"EXISTS (SELECT 1 FROM months m WHERE {condition})"  # noqa: S608 - conditions of this file


def _refuse(table: str, event: str, when: str) -> None:
    name = f"frozen_{table}_{event.lower()}"
    # After an INSERT, not before: an upsert that ends as an UPDATE has not inserted anything.
    moment = "AFTER" if event == "INSERT" else "BEFORE"
    if op.get_bind().dialect.name == "sqlite":
        body = f"BEGIN SELECT RAISE(ABORT, '{SAID}'); END"
        op.execute(f"CREATE TRIGGER {name} {moment} {event} ON {table} FOR EACH ROW WHEN {when} {body}")
        return
    back = "OLD" if event == "DELETE" else "NEW"
    raised = f"RAISE EXCEPTION '{SAID}' USING ERRCODE = 'check_violation'"
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {when} THEN {raised}; END IF; RETURN {back}; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} {moment} {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")


def _note_late_meters() -> None:
    """Let what is reported for a frozen month be noted, whoever reports it."""
    note = (
        "INSERT INTO late_facts (period, tenant) SELECT m.period, NEW.tenant FROM months m"
        " WHERE NEW.at_ms >= m.start_ms AND NEW.at_ms < m.end_ms ON CONFLICT DO NOTHING"
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TRIGGER late_meters AFTER INSERT ON meters FOR EACH ROW BEGIN {note}; END")
        return
    op.execute(
        "CREATE FUNCTION late_meters() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_advisory_xact_lock_shared({LOCK}); {note}; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER late_meters AFTER INSERT ON meters FOR EACH ROW EXECUTE FUNCTION late_meters()"
    )


def _tables() -> None:
    op.add_column("seq_gaps", sa.Column("accepted_ms", sa.BigInteger(), nullable=True))
    op.add_column("seq_gaps", sa.Column("accepted_reason", sa.Text(), nullable=True))
    op.add_column("ledger_leases", sa.Column("pos", sa.BigInteger(), nullable=True))
    _late_tables()
    op.create_table(
        "usage_chain",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pos", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("row", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("partition", "pos", name="pk_usage_chain"),
    )
    op.create_table(
        "chain_heads",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pos", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("partition", name="pk_chain_heads"),
    )
    op.create_table(
        "months",
        sa.Column("period", sa.String(length=7), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("price_list", ID, nullable=False),
        sa.Column("began_ms", sa.BigInteger(), nullable=False),
        sa.Column("closed_ms", sa.BigInteger(), nullable=True),
        sa.Column("manifest", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("period", name="pk_months"),
    )
    op.create_table(
        "month_parts",
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("token", "name", "part", name="pk_month_parts"),
    )
    op.create_index("ix_month_parts_token_tenant", "month_parts", ["token", "tenant"])


def _late_tables() -> None:
    op.create_table(
        "late_leases",
        sa.Column("tenant", ID, nullable=False),
        sa.Column("lease", ID, nullable=False),
        sa.Column("pos", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("tariff", sa.String(length=16), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=True),
        sa.Column("start_epoch", sa.BigInteger(), nullable=True),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("end_epoch", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.String(length=32), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "lease", "pos", name="pk_late_leases"),
    )
    op.create_index(
        "ix_late_leases_tenant_ended_ms_started_ms", "late_leases", ["tenant", "ended_ms", "started_ms"]
    )
    op.create_table(
        "late_facts",
        sa.Column("period", sa.String(length=7), nullable=False),
        sa.Column("tenant", ID, nullable=False),
        sa.PrimaryKeyConstraint("period", "tenant", name="pk_late_facts"),
    )
