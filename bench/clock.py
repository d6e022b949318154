"""The day's clock: so many seconds for the hours from eight to six.  It stands while nobody can go by it."""

import asyncio
import time

OPENS, CLOSES = 8.0, 18.0


class DayClock:
    """Tells the hour of a day that passes in `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._hour_s = seconds / (CLOSES - OPENS)
        self._began_s = time.monotonic()
        self._stood_s: float | None = None

    @property
    def hour(self) -> float:
        """The hour now: 13.5 is half past one."""
        now_s = time.monotonic() if self._stood_s is None else self._stood_s
        return OPENS + (now_s - self._began_s) / self._hour_s

    @property
    def label(self) -> str:
        """The hour as people read it."""
        minutes = int(self.hour * 60)
        return f"{minutes // 60:02}:{minutes % 60:02}"

    def stand(self) -> None:
        """Let the hour stand."""
        self._stood_s = time.monotonic()

    def go_on(self) -> None:
        """Let it go on from where it stood."""
        if self._stood_s is not None:
            self._began_s += time.monotonic() - self._stood_s
            self._stood_s = None

    async def until(self, hour: float) -> None:
        """Wait for an hour of the day."""
        while self.hour < hour:  # noqa: ASYNC110 - the clock may stand meanwhile
            await asyncio.sleep(min(max((hour - self.hour) * self._hour_s, 0.01), 0.1))
