"""What people see of the day: a live table on a terminal, plain lines elsewhere."""

import contextlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

KEPT_LINES = 12


class Screen:
    """Shows how full the tenants are, and what happens; use with `with` while the day lasts."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, markup=False, emoji=False)
        self._lines: deque[tuple[str, str]] = deque(maxlen=KEPT_LINES)
        self._rows: Mapping[str, Mapping[str, Any]] = {}
        self._hour = ""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(self._drawn(), console=self.console, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.update(self._drawn(), refresh=True)
            self._live.stop()
            self._live = None

    def tell(self, hour: str, line: str) -> None:
        """Tell what happened."""
        if self._live is None:
            self.console.print(Text(f"{hour}  {line}"), soft_wrap=True)
        else:
            self._lines.append((hour, line))

    def show(self, hour: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Show how full each tenant is: `in_use` (None: nobody answers), `capacity`, `peak`, `held`, `refused`."""
        self._hour, self._rows = hour, rows
        if self._live is not None:
            self._live.update(self._drawn())

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; a column whose name ends with # stands to the right."""
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(
                column.removesuffix("#"), justify="right" if column.endswith("#") else "left", no_wrap=True
            )
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        with contextlib.ExitStack() as stack:
            if not self.console.is_terminal:
                self.console.width, before = 200, self.console.width
                stack.callback(setattr, self.console, "width", before)
            self.console.print(table)

    def _drawn(self) -> Group:
        table = Table(title=f"{self._hour or '08:00'}  seats, as the server says", box=box.SIMPLE_HEAD)
        for column in ("tenant", "in use", "", "peak", "believed", "refused"):
            table.add_column(column, justify="left" if column in {"tenant", ""} else "right")
        for tenant, row in self._rows.items():
            away = row["in_use"] is None
            table.add_row(
                tenant,
                "away" if away else f"{row['in_use']} of {row['capacity']}",
                ProgressBar(total=row["capacity"] or 1, completed=row["in_use"] or 0, width=40),
                str(row["peak"]),
                str(row["held"]),
                str(row["refused"]),
            )
        return Group(table, *(Text(f"{hour}  {line}") for hour, line in self._lines))
