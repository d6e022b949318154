"""The clock that belief in a seat is measured on: monotonic, and counting suspended time.

A laptop that slept through its lease must know it on waking, so the clock has to run on while the
machine is suspended; `time.monotonic` stops then on Linux and macOS.  Decides which clock that is on
each system; what the instants are used for is decided in `lease`.

| system  | clock                                      | resolution  |
| ------- | ------------------------------------------ | ----------- |
| Linux   | clock_gettime(CLOCK_BOOTTIME)              | 1 ns        |
| macOS   | clock_gettime(CLOCK_MONOTONIC)             | 1 us        |
| Windows | GetTickCount64, sleep and hibernation in   | 10 to 16 ms |
| others  | clock_gettime(CLOCK_MONOTONIC); whether it counts suspended time is theirs to say |

A reading is cut to whole milliseconds, so belief may overrun its deadline by one resolution; the 1 %
that `lease` takes off the ttl is 20 ms at the shortest ttl there is, and covers it.
"""

from __future__ import annotations

import sys
import time

if sys.platform == "win32":
    import ctypes

    _tick_count = ctypes.WinDLL("kernel32").GetTickCount64
    _tick_count.restype = ctypes.c_uint64  # the default, a C int, would wrap after 25 days
    _tick_count.argtypes = ()

    def boottime_ms() -> int:
        """Read the clock, in milliseconds since an arbitrary instant."""
        return int(_tick_count())

else:
    # macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC "will continue to increment while the system
    # is asleep" (clock_gettime(3) there), unlike the mach_absolute_time behind time.monotonic.
    CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def boottime_ms() -> int:
        """Read the clock, in milliseconds since an arbitrary instant."""
        return time.clock_gettime_ns(CLOCK) // 1_000_000
