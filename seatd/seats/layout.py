"""How policies and usage events lie in the store: what the scripts read and write, as the rest of seatd knows it.

Nothing is sent from here.
"""

from typing import Any

import msgpack

from seatd.model import Policy, UsageEvent

Operation = tuple[Any, ...]
"""One operation of a script; its first item is the tenant's id (the store turns it into a number)."""


def usage_event(partition: int, entry: Any) -> UsageEvent:
    """Read an entry of a usage stream."""
    stream_id, fields = entry[0].decode(), dict(zip(entry[1][::2], entry[1][1::2], strict=True))
    kind, tenant, at_ms, *rest = msgpack.unpackb(fields[b"e"])
    details: dict[str, Any] = {}
    if kind == "started":
        lease, user, tariff, labels = rest
        details = {"lease": lease, "user": user, "tariff": tariff, "labels": labels or {}}
    elif kind == "ended":
        details = dict(zip(("lease", "user", "reason"), rest, strict=True))
    elif kind == "denied":
        details = dict(zip(("user", "reason"), rest, strict=True))
    elif kind == "adopted":
        details = dict(zip(("lease", "user", "tariff"), rest, strict=True))
    else:
        details = {"numbers": tuple(rest)}
    return UsageEvent(
        partition, int(fields[b"p"]), int(fields[b"s"]), stream_id, kind, tenant, at_ms, **details
    )


def policy_operation(policy: Policy) -> Operation:
    """Lay a policy out as the project script reads it."""
    bindings = [part for user, products in policy.bindings.items() for part in (user, " ".join(products))]
    keys = [
        part
        for key_hash, grant in policy.keys.items()
        for part in (key_hash, f"{grant.scope} {grant.expires_ms or 0} {grant.id}")
    ]
    return (
        policy.tenant,
        policy.tenant,
        policy.version,
        policy.tariff or "",
        policy.cap,
        policy.ttl_ms,
        policy.no_tariff_since_ms,
        policy.suspended_since_ms or 0,
        policy.trial_until_ms or 0,
        " ".join(policy.open_addons),
        bindings,
        keys,
        policy.ended_version,
        policy.ended_reason,
        policy.learn_ttl_ms,
        [part for tombstone in policy.tombstones for part in tombstone],
        policy.epoch,
    )
