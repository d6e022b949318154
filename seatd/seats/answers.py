"""What the scripts' refusals mean to a caller: the code of the contract, a sentence, and the code's own fields."""

from collections.abc import Callable, Mapping
from typing import Final

from seatd.model import Refusal
from seatd.seats.batch import RETRY_AFTER_MS, store_unavailable
from seatd.seats.load import retry_after_ms
from seatd.seats.store import Answer

IN_LINE_AGAIN_MS: Final = 1_000


def _forbidden() -> Refusal:
    return Refusal("forbidden", "This key does not open the client routes.")


def _refusals() -> Mapping[str, Callable[[Answer], Refusal]]:
    return {
        "unauthorized": lambda _: Refusal("unauthorized"),
        "forbidden": lambda _: _forbidden(),
        "no_seat": _no_seat,
        "seat_elsewhere": lambda a: Refusal("seat_elsewhere", client=a[1], since_ms=a[2]),
        "not_named": lambda a: Refusal("not_named", product=a[1]),
        "addon_not_named": lambda a: Refusal("addon_not_named", product=a[1]),
        "suspended": lambda a: Refusal("suspended", since_ms=a[1]),
        "trial_expired": lambda a: Refusal("trial_expired", since_ms=a[1]),
        "no_tariff": lambda a: Refusal("no_tariff", since_ms=a[1]),
        "request_id_reused": lambda _: Refusal("request_id_reused"),
        "lease_gone": lambda a: Refusal("lease_gone", reason=a[1]),
        "conflict": _own_lease_ended,
        "stream_full": lambda _: store_unavailable(),
        "learning": lambda a: Refusal("learning", retry_after_ms=max(a[1] - a[2], 1)),
        "busy": lambda _: Refusal("busy", retry_after_ms=retry_after_ms(RETRY_AFTER_MS)),
        "not_found": lambda _: Refusal("not_found"),
        "unknown_tenant": lambda _: Refusal("unauthorized"),
    }


def _no_seat(answer: Answer) -> Refusal:
    in_use, capacity, next_expiry_ms, now_ms, q_ms, waiting, position, order_ms, eta_ms = answer[1:]
    wait_ms = max(next_expiry_ms + q_ms - now_ms, 1_000) if next_expiry_ms else 60_000
    fields = {
        "capacity": capacity,
        "in_use": in_use,
        "waiting": waiting,
        "next_expiry_ms": next_expiry_ms,
        # A place is kept for whoever keeps asking.
        "retry_after_ms": IN_LINE_AGAIN_MS if order_ms else min(wait_ms, 60_000),
    }
    if order_ms:
        fields["position"] = position
    if eta_ms:
        fields["eta_ms"] = eta_ms
    taken = (
        f"All {capacity} seats are taken." if in_use >= capacity else "The free seats are for those in line."
    )
    return Refusal("no_seat", taken, **fields)


def _own_lease_ended(answer: Answer) -> Refusal:
    return Refusal(
        "conflict",
        "This user's lease was ended: no new one before its client has stopped and a revocation's hold is over.",
        reason=answer[1],
        retry_after_ms=max(answer[2] - answer[3], 1),
    )


REFUSALS: Final = _refusals()
"""The refusal that an answer of the scripts means, by its code; what succeeded is not here."""
