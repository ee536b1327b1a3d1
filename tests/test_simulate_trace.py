"""Traces: what a file may look like, what is wrong with it, and what may be made of it."""

from pathlib import Path

import pytest

from llmpool_cli.simulate.outcome import percentile
from llmpool_cli.simulate.shape import Shape, shaped
from llmpool_cli.simulate.synthetic import synthetic, to_csv
from llmpool_cli.simulate.trace import Trace, TraceError, read_trace


def read(tmp_path: Path, text: str | bytes) -> Trace:
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_trace(path)


GOOD = {
    "ours": "arrival,input_tokens,output_tokens,model\n1.5,10,20,m\n0.5,30,40,n\n",
    "another order and a column more": "Model,Log,Output Tokens,INPUT-TOKENS,Timestamp\nm,x,20,10,1.5\nn,x,40,30,.5\n",
    "moments": "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:47.6805900,10,20\r\n2023-11-16 18:15:46.6805900,30,40\r\n",
    "moments with zones": "time,prompt_tokens,completion_tokens\n"
    "2026-01-01T01:00:01Z,10,20\n2026-01-01T02:00:00+01:00,30,40\n",
    "Unix seconds, BOM, blank line": "\ufeffarrival,input,output\n\n1700000001,10,20\n1700000000,30,40",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=list(GOOD))
def test_header_names_and_times_are_read_as_they_come(tmp_path: Path, text: str) -> None:
    """Columns by any known name, in any order; rows in any order; the first arrival is the beginning."""
    trace = read(tmp_path, text)
    assert trace.arrivals == pytest.approx([0.0, 1.0])
    assert (trace.inputs, trace.outputs, trace.span) == ([30, 10], [40, 20], pytest.approx(1.0))


def test_a_moment_without_a_zone_is_utc(tmp_path: Path) -> None:
    """The beginning is Unix time, so that schedules of the pool fire when the trace says."""
    trace = read(tmp_path, "timestamp,input,output\n2023-11-16 18:15:46.5,1,1\n")
    assert trace.begins == 1_700_158_546.5


HEAD = "arrival,input_tokens,output_tokens\n"
BAD = {
    "empty": ("", "line 1: no column for arrival: got nothing, allowed are arrival"),
    "no rows": (HEAD, "no job"),
    "no arrival": ("a,input,output\n", "no column for arrival: got 'a', 'input', 'output'"),
    "no output": ("arrival,input\n", "no column for output"),
    "a column twice": ("arrival,time,input,output\n", "columns 'arrival', 'time' all mean arrival"),
    "text as tokens": (
        HEAD + "0,1,1\n1,many,1\n",
        "line 3, column input_tokens: got 'many', allowed is a whole number",
    ),
    "half a token": (HEAD + "0,1.5,1\n", "line 2, column input_tokens: got '1.5'"),
    "negative": (HEAD + "0,1,-1\n", "line 2, column output_tokens: got '-1', allowed is a whole number from 0"),
    "too many": (HEAD + "0,1,10000001\n", "from 0 to 10000000"),
    "huge": (HEAD + "0,1," + "9" * 5000 + "\n", "column output_tokens"),
    "other digits": (HEAD + "0,1,\u0663\n", "column output_tokens: got '\\u0663'"),
    "no time": (HEAD + "soon,1,1\n", "line 2, column arrival: got 'soon', allowed is seconds or a timestamp"),
    "not a number": (HEAD + "nan,1,1\n", "line 2, column arrival: got 'nan'"),
    "infinite": (HEAD + "inf,1,1\n", "column arrival: got 'inf'"),
    "negative time": (HEAD + "-1,1,1\n", "column arrival: got '-1', allowed is a number of seconds from 0"),
    "milliseconds": (HEAD + "1700000000000,1,1\n", "allowed is a number of seconds from 0 to 1e+11"),
    "no such day": (HEAD + "2026-02-30 00:00:00,1,1\n", "column arrival"),
    "both kinds of time": (HEAD + "0,1,1\n2026-01-01 00:00:00,1,1\n", "both seconds and timestamps"),
    "too few values": (HEAD + "0,1\n", "line 2, got 2 values, allowed are 3"),
    "too many values": (HEAD + "0,1,1,1\n", "line 2, got 4 values"),
    "a model that isn't text": ("arrival,input,output,model\n0,1,1,\x1b[31m\n", "column model: got '\\x1b[31m'"),
    "not UTF-8": (HEAD.encode() + b"\xff,1,1\n", "can't be read"),
    "an open quote": (HEAD + '0,1,"1\n', "not CSV"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=list(BAD))
def test_bad_traces_are_refused_by_line_and_column(tmp_path: Path, text: str | bytes, message: str) -> None:
    """What isn't a trace is refused, and the message names line, column, what was given and what is allowed."""
    with pytest.raises(TraceError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert str(error.value).startswith("t.csv")


def test_the_first_faults_are_told_together(tmp_path: Path) -> None:
    """Ten faults, a line each, and no more of a file that is wrong throughout."""
    with pytest.raises(TraceError) as error:
        read(tmp_path, HEAD + "x,1,1\n" * 1000)
    assert len(str(error.value).splitlines()) == 10


TRACE = Trace("t", 100.0, 30.0, [0.0, 10.0, 20.0, 30.0], [1, 2, 3, 4], [5, 6, 7, 8], ["a", "b", "c", "d"])


def test_a_window_is_cut_out_with_its_quiet_ends() -> None:
    """From 5 to 25: two jobs, 5 s before the first and after the last, and a beginning that moved on."""
    cut = shaped(TRACE, Shape(begin=5.0, end=25.0), seed=1)
    assert (cut.arrivals, cut.inputs, cut.models) == ([5.0, 15.0], [2, 3], ["b", "c"])
    assert (cut.begins, cut.span) == (105.0, 20.0)


@pytest.mark.parametrize("shape", [Shape(begin=31.0), Shape(end=0.0), Shape(begin=20.0, end=10.0)], ids=str)
def test_an_empty_window_is_refused(shape: Shape) -> None:
    """Nothing to play is an error that says how long the trace is."""
    with pytest.raises(TraceError, match="the trace has 30 s"):
        shaped(TRACE, shape, seed=1)


def test_speed_plays_the_same_jobs_in_less_time() -> None:
    """Twice as fast: half the time between any two."""
    fast = shaped(TRACE, Shape(speed=2.0), seed=1)
    assert (fast.arrivals, fast.span, fast.inputs) == ([0.0, 5.0, 10.0, 15.0], 15.0, TRACE.inputs)


def test_scale_copies_each_job_to_before_the_next() -> None:
    """Three times the jobs: each three times, its copies between it and the following one, all in order."""
    three = shaped(TRACE, Shape(scale=3.0), seed=1)
    assert len(three) == 12
    assert three.arrivals == sorted(three.arrivals)
    for n, (begin, end) in enumerate([(0, 10), (10, 20), (20, 30), (30, 30)]):
        copies = [at for at, tokens in zip(three.arrivals, three.inputs, strict=True) if tokens == n + 1]
        assert len(copies) == 3
        assert all(begin <= at <= end for at in copies)


def test_scale_below_one_keeps_a_share_by_chance() -> None:
    """A quarter of many jobs is about a quarter, the same ones for the same seed."""
    trace = synthetic(1)
    some, same, others = (shaped(trace, Shape(scale=0.25), seed) for seed in (1, 1, 2))
    assert 0.2 < len(some) / len(trace) < 0.3
    assert some == same
    assert some.arrivals != others.arrivals


def test_the_synthetic_trace_is_an_hour_and_reads_back(tmp_path: Path) -> None:
    """The same seed makes the same trace; as a file it is the trace again, but for the beginning before its first
    job and the silence after its last."""
    trace = synthetic(7)
    assert trace == synthetic(7)
    assert trace.arrivals == sorted(trace.arrivals)
    assert trace.span == 3600.0
    again = read(tmp_path, to_csv(trace))
    first = trace.arrivals[0]
    assert again.arrivals == pytest.approx([at - first for at in trace.arrivals])
    assert (again.inputs, again.outputs, again.models) == (trace.inputs, trace.outputs, trace.models)


@pytest.mark.parametrize(
    ("share", "value"), [(50, 2.0), (95, 4.0), (25, 1.0), (26, 2.0), (100, 4.0)], ids=lambda given: f"{given:g}"
)
def test_percentiles_are_values_that_were_there(share: float, value: float) -> None:
    """The nearest rank: the smallest value that so many percent don't exceed."""
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == value
