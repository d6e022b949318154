"""The blocking twin: the same seat, from threads."""

import asyncio
import queue
import threading
import time

import pytest
from seatd_client import BlockingSeatClient, Callbacks, Patience, State
from seatd_client.errors import ConnectionFailed, NoSeat
from seatd_client.lease import DEADLINE

from tests.sdk.scripted import after, never, problem, serving

KEY = "sc.acme.Zm9vYmFy"
PATIENCE = Patience(acquire_ms=1_000, answer_ms=1_000, release_ms=500, pause_ms=50)


def client_of(script):
    return BlockingSeatClient(script.url, KEY, client="desk", patience=PATIENCE)


def no_thread_is_left():
    return not [one for one in threading.enumerate() if one.name.startswith("seatd-")]


async def test_a_seat_is_taken_renewed_and_given_back():
    def program(script):
        with client_of(script).seat(user="ana") as seat:
            assert seat.held
            assert seat.grant.tariff == "team"
            assert not seat.lost.wait(0.7)
            assert 0 < seat.left_ms <= 1_981
            assert seat.addon("social") is True
            assert seat.state in {State.HELD, State.RENEWING}
        assert not seat.held
        assert not seat.lost.is_set()
        with pytest.raises(ConnectionFailed):
            seat.addon("social")

    async with serving() as script:
        await asyncio.to_thread(program, script)
    assert [op for op in script.ops() if op != "renew"] == ["acquire", "addon", "release"]
    assert script.ops().count("renew") >= 2
    assert no_thread_is_left()


async def test_a_refusal_is_raised_where_the_seat_is_entered():
    def program(script):
        with pytest.raises(NoSeat) as caught, client_of(script).seat(user="ana"):
            raise AssertionError
        assert caught.value.in_use == 50

    async with serving() as script:
        script.line_up("acquire", problem(409, "no_seat", in_use=50))
        await asyncio.to_thread(program, script)
    assert no_thread_is_left()


async def test_a_lost_seat_wakes_who_waits_and_calls_back_apart_from_renewals():
    heard: queue.Queue[object] = queue.Queue()
    dialog_closed = threading.Event()

    def on_held():
        heard.put(threading.current_thread().name)
        dialog_closed.wait(20)  # as a dialog would, that nobody answers

    def program(script):
        callbacks = Callbacks(on_held=on_held, on_lost=heard.put)
        with client_of(script).seat(user="ana", callbacks=callbacks) as seat:
            assert heard.get(timeout=5) == "seatd-callbacks"
            time.sleep(0.7)
            assert script.ops().count("renew") >= 2, "a callback delays no renewal"
            script.always["renew"] = problem(410, "lease_gone", reason="suspended")
            assert seat.lost.wait(5)
            assert seat.lost.is_set()
            assert (seat.held, seat.reason) == (False, "suspended")
            dialog_closed.set()
        told = []
        while not heard.empty():
            told.append(heard.get())
        assert told[-1] == "suspended"

    async with serving() as script:
        await asyncio.to_thread(program, script)
    assert script.ops()[-1] == "release"
    assert no_thread_is_left()


async def test_a_callback_that_raises_harms_nothing(caplog):
    def fail(*_told):
        raise ValueError("a fault of the program")

    def program(script):
        with client_of(script).seat(user="ana", callbacks=Callbacks(fail, fail, fail, fail)) as seat:
            time.sleep(0.7)
            assert seat.held

    async with serving() as script:
        await asyncio.to_thread(program, script)
    assert "callback" in caplog.text
    assert script.ops()[-1] == "release"


async def test_a_server_that_went_away_loses_the_seat_at_its_deadline():
    def program(script):
        with client_of(script).seat(user="ana") as seat:
            script.always["renew"] = never
            left_s = seat.left_ms / 1000
            began = time.monotonic()
            assert seat.lost.wait(10)
            assert left_s - 0.1 < time.monotonic() - began < left_s + 2.3
            assert seat.reason == DEADLINE

    async with serving() as script:
        await asyncio.to_thread(program, script)


async def test_an_exception_in_the_entering_thread_leaves_no_seat_behind(monkeypatch):
    def program(script):
        seat = client_of(script).seat(user="ana")

        def interrupted(_timeout):
            while not script.ops():
                time.sleep(0.01)
            raise KeyboardInterrupt

        monkeypatch.setattr(seat._entered, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt), seat:
            raise AssertionError

    async with serving() as script:
        script.line_up("acquire", after(0.2, script.granted))
        await asyncio.to_thread(program, script)
    assert script.ops() == ["acquire", "release"]
    assert no_thread_is_left()


async def test_leaving_before_the_thread_has_begun_ends_it():
    def program(script):
        seat = client_of(script).seat(user="ana")

        def interrupted(_timeout):
            raise KeyboardInterrupt

        seat._entered.wait = interrupted
        with pytest.raises(KeyboardInterrupt), seat:
            raise AssertionError

    async with serving() as script:
        for _ in range(20):
            await asyncio.to_thread(program, script)
        assert script.ops().count("release") == script.ops().count("acquire")
    assert no_thread_is_left()


def test_a_wrong_address_or_key_is_told_at_once():
    with pytest.raises(ValueError, match="address"):
        BlockingSeatClient("nowhere", KEY)
    with pytest.raises(ValueError, match="key"):
        BlockingSeatClient("http://localhost", "two words")


async def test_a_seat_is_entered_once():
    def program(script):
        seat = client_of(script).seat(user="ana")
        with seat:
            pass
        with pytest.raises(RuntimeError), seat:
            raise AssertionError

    async with serving() as script:
        await asyncio.to_thread(program, script)
