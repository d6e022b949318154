"""What commands print: tables and sentences for people, JSON for programs.

Decides how instants look (local time with its offset), that a pipe gets no colours and no cut-off cells, and that nothing
a server sent is taken for markup.  What is drawn with is imported only when something is drawn.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress

Row = Sequence[object]


def instant(at_ms: int | None) -> str:
    """Write an instant in local time with its offset; nothing for None."""
    if at_ms is None:
        return ""
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone().isoformat(sep=" ", timespec="seconds")


def instant_ms(text: str) -> int:
    """Read an instant: ISO 8601 (local time without an offset), or milliseconds since the epoch.

    Gives milliseconds since the UTC epoch; raises `click.BadParameter`.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{text!r} is no instant: write 2026-03-01T08:00, or with an offset."
        ) from None


class Output:
    """Prints for people, or as JSON for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def answer(self, body: Any, draw: Callable[[], None]) -> None:
        """Print `body` as one JSON text, or let `draw` print it for people."""
        if self.as_json:
            click.echo(json.dumps(body, ensure_ascii=False, indent=2))
        else:
            draw()

    def table(self, columns: Sequence[str], rows: Iterable[Row], *, empty: str) -> None:
        """Print a table; a column whose name ends with `#` stands to the right.  `empty`: said where no row is."""
        texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
        if not texts:
            self.say(empty)
        elif sys.stdout.isatty():
            _draw(columns, texts)
        else:
            _write(columns, texts)

    def facts(self, rows: Iterable[tuple[str, object]]) -> None:
        """Print names and values, one a line; those without a value are left out."""
        said = [(name, str(value)) for name, value in rows if value not in (None, "")]
        width = max((len(name) for name, _ in said), default=0)
        for name, value in said:
            click.echo(f"{name:<{width}}  {value}")

    def say(self, sentence: str) -> None:
        """Print a sentence for people; a program is not told."""
        if not self.as_json:
            click.echo(sentence)

    def note(self, sentence: str) -> None:
        """Say something beside the answer, on standard error."""
        click.echo(sentence, err=True)

    def watched(self, chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
        """Give the chunks on; a terminal is told how much has come."""
        if not sys.stderr.isatty():
            yield from chunks
            return
        with _progress(download=True) as shown:
            task = shown.add_task(what, total=None)
            for chunk in chunks:
                shown.advance(task, len(chunk))
                yield chunk

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show on a terminal that something goes on, and for how long by now."""
        if not sys.stderr.isatty():
            yield
            return
        with _progress(download=False) as shown:
            shown.add_task(what, total=None)
            yield

    def projected(self, *, projected: bool) -> None:
        """Say so where a change stands but is not in force yet."""
        if not projected:
            self.note("The seat store is away: this stands, and is in force as soon as the store is back.")


def _progress(*, download: bool) -> "Progress":
    """Make a line on standard error that tells what goes on, and vanishes when it is done."""
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    more = [DownloadColumn()] if download else []
    text = TextColumn("{task.description}", markup=False)
    console = Console(stderr=True)
    return Progress(SpinnerColumn(), text, *more, TimeElapsedColumn(), console=console, transient=True)


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw a table on a terminal; cells that do not fit are folded, not cut."""
    from rich import box  # noqa: PLC0415 - see above
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column.endswith("#")
        table.add_column(column.removesuffix("#"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False, markup=False, emoji=False).print(table)


def _write(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table into a pipe: a head, then a line a row, cells at least two blanks apart."""
    head = [column.removesuffix("#") for column in columns]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(columns))]
    for row in [head, *rows]:
        cells = [
            text.rjust(width) if column.endswith("#") else text.ljust(width)
            for text, width, column in zip(row, widths, columns, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())
