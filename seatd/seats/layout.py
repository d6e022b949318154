"""How policies and usage events lie in the store: what the scripts read and write, as the rest of seatd knows it.

Nothing is sent from here.
"""

from typing import Any, Final

import msgspec

from seatd.model import EventKind, Policy, UsageEvent

Operation = tuple[Any, ...]
"""One operation of a script; its first item is the tenant's id (the store turns it into a number)."""

ENTRY_MAX: Final = 32
"""Events that share an entry of the stream, at the most (`prelude.lua`)."""
_unpack: Final = msgspec.msgpack.Decoder(list[list[Any]]).decode


def usage_events(partition: int, entry: Any) -> list[UsageEvent]:
    """Read an entry of a usage stream: the events that share it."""
    stream_id, (_, epoch, _, last_seq, _, _, _, packed) = entry
    events = _unpack(packed)
    first_seq, epoch, name = int(last_seq) - len(events) + 1, int(epoch), stream_id.decode()
    return [_usage_event((partition, epoch, seq, name), *each) for seq, each in enumerate(events, first_seq)]


def _usage_event(
    place: tuple[int, int, int, str], kind: EventKind, tenant: str, at_ms: int, *rest: Any
) -> UsageEvent:
    told = (*place, kind, tenant, at_ms)
    if kind == "started":
        lease, user, tariff, labels = rest
        return UsageEvent(*told, lease, user, tariff, labels=labels or {})
    if kind == "ended":
        lease, user, reason = rest
        return UsageEvent(*told, lease, user, reason=reason)
    if kind == "denied":
        user, reason = rest
        return UsageEvent(*told, user=user, reason=reason)
    if kind == "adopted":
        lease, user, tariff = rest
        return UsageEvent(*told, lease, user, tariff)
    return UsageEvent(*told, numbers=rest)


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
