"""A picture of each policy's run: what waits, what is there, how long jobs waited."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .outcome import Outcome, percentile
from .record import Record
from .trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Of Okabe and Ito's palette: told apart by the colour-blind, and in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73")
_GREY = "#555555"
_BINS = 60
_MINUTE, _HOUR = 60.0, 3600.0


def draw(path: Path, trace: Trace, runs: Sequence[tuple[Outcome, Record]], slo: float) -> None:
    """Write a PNG: a column for each policy, with the same scales throughout.

    Raises:
        ImportError: matplotlib isn't there.
        OSError: the file can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.4 * len(runs) + 0.4, 7.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(runs), sharex=True, sharey="row", squeeze=False)
    longest = max(outcome.seconds for outcome, _ in runs)
    unit, name = (_HOUR, "h") if longest > 3 * _HOUR else (_MINUTE, "min")
    for column, (outcome, record) in enumerate(runs):
        colour = _COLOURS[column % len(_COLOURS)]
        backlog, replicas, waits = axes[:, column]
        backlog.set_title(_title(outcome, slo), fontsize=10, loc="left")
        _draw_seconds(backlog, record, "waiting", colour, unit)
        _draw_seconds(replicas, record, "replicas", colour, unit)
        _draw_waits(waits, trace, record, colour, unit)
        waits.axhline(slo, color=_GREY, linewidth=0.8, linestyle=":")
        waits.set_xlabel(f"time since the trace's beginning ({name})")
    for row, label in zip(axes, ("waiting (jobs)", "replicas", "wait by arrival (s)"), strict=True):
        row[0].set_ylabel(label)
        row[0].set_ylim(bottom=0)
        row[0].yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        for one in row:
            _plain(one)
    figure.legend(handles=_looks(slo), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, format="png")


def _title(outcome: Outcome, slo: float) -> str:
    return (
        f"{outcome.policy}: {outcome.within_slo * 100:.2f} % begun within {slo:g} s\n"
        f"{outcome.replica_hours:.1f} replica-hours, {outcome.cut} generations cut"
    )


def _draw_seconds(axes: Axes, record: Record, field: str, colour: str, unit: float) -> None:
    times = [second.at / unit for second in record.seconds]
    values = [getattr(second, field) for second in record.seconds]
    axes.fill_between(times, values, step="post", color=colour, alpha=0.25, linewidth=0)
    axes.step(times, values, where="post", color=colour, linewidth=1.0)


def _draw_waits(axes: Axes, trace: Trace, record: Record, colour: str, unit: float) -> None:
    """Median and 95th percentile of the jobs that arrived in each sixtieth of the time."""
    width = max(trace.span, 1.0) / _BINS
    bins: list[list[float]] = [[] for _ in range(_BINS)]
    for arrival, started in zip(trace.arrivals, record.started, strict=True):
        if started == started:  # not NaN
            bins[min(int(arrival / width), _BINS - 1)].append(started - arrival)
    middles = [(n + 0.5) * width / unit for n in range(_BINS)]
    for share, style in ((95, "-"), (50, "--")):
        values = [percentile(sorted(waits), share) for waits in bins]  # NaN, where nothing came: a gap
        axes.plot(middles, values, style, color=colour, linewidth=1.2)


def _looks(slo: float) -> list[Line2D]:
    """The legend of the waits."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=_GREY, linewidth=1.2, linestyle="-", label="p95"),
        Line2D([], [], color=_GREY, linewidth=1.2, linestyle="--", label="median"),
        Line2D([], [], color=_GREY, linewidth=1.2, linestyle=":", label=f"SLO, {slo:g} s"),
    ]


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.margins(x=0)
