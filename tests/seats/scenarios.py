"""What the state machine would come upon in the end, told at once: each is a few of its rules in a row."""

from collections.abc import Callable
from typing import Final

from tests.seats.machine import SeatMachine

Scenario = Callable[[SeatMachine], None]


def renew_late(m: SeatMachine) -> None:
    """A lease that ran out, and that nobody has swept, is renewed: the minute's sample is to count it."""
    m.acquire_simply("acme", "bob", "pc1", "", 0)
    m.wait(11_000)
    m.renew_the_newest("acme", "bob")
    m.wait(70_000)
    m.sweep(256)


def two_leave_at_once(m: SeatMachine) -> None:
    """The minute's sample tells how many sit after both have gone."""
    m.change_policy("acme", ("cap", 3))
    m.all_want_in("acme", 0)
    m.release_together("acme", ("ana", "bob"))
    m.wait(70_000)
    m.sweep(256)


SCENARIOS: Final[tuple[Scenario, ...]] = (
    lambda m: m.come_back_to_the_line("acme", "bob", "newest", others=True, anew=False),
    lambda m: m.come_back_to_the_line("acme", "bob", "run out", others=True, anew=False),
    lambda m: m.come_back_to_the_line("acme", "bob", "none", others=False, anew=True),
    lambda m: m.a_seat_falls_free_while_they_wait("acme", "cy", 0, 1_000, fewer=False),
    lambda m: m.a_seat_falls_free_while_they_wait("acme", "bob", 1, 1_000, fewer=True),
    lambda m: m.a_seat_falls_free_while_they_wait("acme", "dan", 2, 999, fewer=False),
    lambda m: m.unname_who_works("beta", "bob", ()),
    lambda m: m.revoke_who_comes_back("acme", "bob", "word", 30_000, 1),
    lambda m: m.revoke_who_comes_back("acme", "bob", "force", 700, 699),
    lambda m: m.revoke_who_comes_back("acme", "bob", "released", 700, 700),
    renew_late,
    two_leave_at_once,
)


def play(machine: type[SeatMachine]) -> None:
    """Play every scenario, each in a world of its own with one seat a tenant."""
    for scenario in SCENARIOS:
        played = machine()
        try:
            played.two_tenants((1, 1))
            scenario(played)
        finally:
            played.teardown()
