"""Charts of latency over offered load, as PNG."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

SHOWN = ("p50_ms", "p99_ms")


def draw(curves: dict[str, list[dict[str, Any]]], title: str, folder: Path) -> list[Path]:
    """Draw one chart with all, and one for each alone; gives the files."""
    files = [
        _draw(curves, ("p99_ms",), f"p99 of renewals over offered load, {title}", folder / "latency.png")
    ]
    for name, points in curves.items():
        file = folder / f"latency-{name.lower().replace(', ', '-').replace(' ', '-')}.png"
        files.append(_draw({name: points}, SHOWN, f"{name}: renewals, {title}", file))
    return files


def _draw(curves: dict[str, list[dict[str, Any]]], shown: tuple[str, ...], title: str, file: Path) -> Path:
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    for name, points in curves.items():
        offered = [point["offered_per_s"] for point in points]
        for percentile in shown:
            label = name if len(shown) == 1 else percentile.removesuffix("_ms")
            axes.plot(offered, [point[percentile] for point in points], marker="o", label=label)
    axes.set(title=title, xlabel="renewals offered a second", ylabel="ms from the instant due", yscale="log")
    axes.set_xlim(left=0)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)
    return file
