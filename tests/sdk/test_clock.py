"""The clock, the waits on it, and what the SDK promises about the Python it runs on."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
import seatd_client
from seatd_client import clock
from seatd_client.errors import ConnectionFailed, NotFound
from seatd_client.waiting import SLICE_MS, sleep_until, within

SDK = Path(seatd_client.__file__).parent


@pytest.mark.skipif(sys.platform != "linux", reason="each system has its own clock")
def test_on_linux_the_clock_counts_suspended_time():
    assert time.CLOCK_BOOTTIME == clock.CLOCK
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    now = clock.boottime_ms()
    assert before <= now <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def test_the_clock_runs_in_whole_milliseconds():
    before = clock.boottime_ms()
    time.sleep(0.05)
    assert isinstance(before, int)
    assert 50 <= clock.boottime_ms() - before < 1_000


async def test_a_sleep_ends_soon_after_a_suspension():
    suspended_ms = 0

    def now_ms():
        return clock.boottime_ms() + suspended_ms

    began = time.monotonic()
    sleeper = asyncio.ensure_future(sleep_until(now_ms, now_ms() + 60_000))
    await asyncio.sleep(0.05)
    suspended_ms = 3_600_000
    await sleeper
    assert time.monotonic() - began < 2 * SLICE_MS / 1000


async def test_a_request_is_given_up_soon_after_a_suspension():
    suspended_ms = 0

    def now_ms():
        return clock.boottime_ms() + suspended_ms

    never = asyncio.Event()
    asker = asyncio.ensure_future(within(now_ms, now_ms() + 60_000, never.wait()))
    await asyncio.sleep(0.05)
    suspended_ms = 3_600_000
    with pytest.raises(ConnectionFailed):
        await asyncio.wait_for(asker, 2 * SLICE_MS / 1000)


async def test_what_is_given_up_is_ended():
    ended = []

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    with pytest.raises(ConnectionFailed):
        await within(clock.boottime_ms, clock.boottime_ms() + 20, work())
    await asyncio.sleep(0)
    assert ended == [True]
    asker = asyncio.ensure_future(within(clock.boottime_ms, clock.boottime_ms() + 60_000, work()))
    await asyncio.sleep(0.02)
    asker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asker
    await asyncio.sleep(0)
    assert ended == [True, True]


async def test_results_and_failures_pass():
    async def works():
        return 7

    async def fails():
        raise NotFound

    assert await within(clock.boottime_ms, clock.boottime_ms() + 1_000, works()) == 7
    with pytest.raises(NotFound):
        await within(clock.boottime_ms, clock.boottime_ms() + 1_000, fails())


def test_the_sdk_runs_on_the_oldest_python_it_names():
    vermin = Path(sys.executable).with_name("vermin")
    ran = subprocess.run(
        [
            vermin,
            "-t=3.9-",
            "--no-tips",
            "--violations",
            "--eval-annotations",
            "--backport",
            "typing",
            str(SDK),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout


def test_one_version_is_named():
    # tomllib is younger than the oldest Python these tests run on.
    project = (SDK.parent / "pyproject.toml").read_text()
    assert f'\nversion = "{seatd_client.__version__}"\n' in project


def test_only_the_named_dependencies_are_imported():
    script = (
        f"import sys; sys.path.insert(0, {str(SDK.parent)!r}); before = set(sys.modules)\n"
        "import seatd_client, seatd_client.__main__\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/")
    assert "seatd" not in ran.stdout.split()
