"""``llmpool decide``: JSON lines in, JSON lines out, the operator's own decision between them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmpool_cli.decide_case import LINE_MAX_BYTES, BadCase, answer, parse
from llmpool_cli.main import app
from llmpool_operator.decide.types import Reason

PER_MINUTE = {
    "scaleUp": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}]}
}
DEPTH = {"type": "QueueDepth"}


def told(line: dict[str, Any]) -> dict[str, Any]:
    """The answer to one line."""
    return answer(parse(json.dumps(line).encode()))


def short(line: dict[str, Any]) -> tuple[int, int, int, str]:
    outcome = told(line)
    return outcome["desired"], outcome["stabilized"], outcome["replicas"], outcome["reason"]


def run(text: str | bytes, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    result = CliRunner().invoke(app, ["decide", *arguments], input=text)
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


def test_the_answer_has_six_fields() -> None:
    """Sizes at three places, HPA's reason, one sentence, and each limit in its order."""
    line = {
        "scaling": {"maxReplicas": 50, "behavior": PER_MINUTE},
        "current": 10,
        "now": 0,
        "desired": 15,
        "recommendations": [{"age": 12.5, "replicas": 12}],
        "events": [{"age": 30, "change": 3}],
    }
    assert told(line) == {
        "desired": 15,
        "stabilized": 12,
        "replicas": 11,
        "reason": "ScaleUpLimit",
        "message": "11 instead of 12: the scaleUp policies' rate",
        "limits": [
            "ScaleUpStabilized: 12 instead of 15: the lowest proposal of the last 60 s counts",
            "ScaleUpLimit: 11 instead of 12: the scaleUp policies' rate",
        ],
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param({"current": 4, "desired": 4}, (4, 4, 4, "DesiredWithinRange"), id="at-rest"),
        pytest.param({"current": 4, "desired": 8}, (8, 8, 8, "DesiredWithinRange"), id="default-goes-up-at-once"),
        pytest.param({"scaling": {"behavior": {}}, "current": 1, "desired": 9}, (9, 9, 5, "ScaleUpLimit"), id="rate"),
        pytest.param({"current": 4, "desired": 99}, (99, 99, 10, "TooManyReplicas"), id="max"),
        pytest.param({"current": 4, "desired": 2**31 - 1}, (2**31 - 1, 2**31 - 1, 10, "TooManyReplicas"), id="int32"),
        pytest.param({"current": 4, "desired": 2}, (2, 4, 4, "ScaleDownStabilized"), id="absent-is-the-first-decision"),
        pytest.param({"current": 4, "desired": 2, "recommendations": []}, (2, 2, 2, "DesiredWithinRange"), id="none"),
        pytest.param(
            {"current": 4, "desired": 0, "recommendations": []}, (0, 0, 0, "DesiredWithinRange"), id="no-idle-seconds"
        ),
        pytest.param(
            {"scaling": {"minReplicas": 3}, "current": 4, "desired": 0, "recommendations": []},
            (0, 0, 3, "TooFewReplicas"),
            id="min",
        ),
        pytest.param(
            {"current": 20, "desired": 15, "recommendations": []},
            (15, 15, 15, "DesiredWithinRange"),
            id="no-short-cut-as-in-hpa-s-function",
        ),
        pytest.param(
            {"current": 20, "desired": 25, "recommendations": []},
            (25, 25, 10, "TooManyReplicas"),
            id="no-short-cut-upwards",
        ),
    ],
)
def test_a_desired_size_enters_after_the_metrics(line: dict[str, Any], expected: tuple[int, int, int, str]) -> None:
    """Stabilisation, rate and bounds, nothing else."""
    assert short(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            {"current": 2, "metrics": [{"type": "QueueDepth", "value": 40}]}, (8, 8, 8, "DesiredWithinRange"), id="up"
        ),
        pytest.param(
            {"current": 0, "metrics": [{"type": "QueueDepth", "value": 40}]},
            (8, 8, 8, "DesiredWithinRange"),
            id="from-0",
        ),
        pytest.param(
            {
                "scaling": {"behavior": {"scaleUp": {"selectPolicy": "Disabled"}}},
                "current": 0,
                "metrics": [{"type": "QueueDepth", "value": 40}],
            },
            (8, 8, 1, "FromZero"),
            id="from-0-past-policies",
        ),
        pytest.param(
            {"current": 12, "metrics": [{"type": "QueueDepth", "value": 40}]},
            (8, 10, 10, "TooManyReplicas"),
            id="short-cut",
        ),
        pytest.param(
            {"scaling": {"minReplicas": 5}, "current": 2, "metrics": [{"type": "QueueDepth", "missing": "gone"}]},
            (2, 5, 5, "TooFewReplicas"),
            id="short-cut-without-metrics",
        ),
        pytest.param(
            {"current": 4, "metrics": [{"type": "QueueDepth", "missing": "gone"}]},
            (4, 4, 4, "MetricsMissing"),
            id="hold",
        ),
        pytest.param({"current": 4, "metrics": []}, (4, 4, 4, "MetricsMissing"), id="an-entry-not-given-is-missing"),
        pytest.param(
            {"current": 4, "metrics": [{"type": "QueueDepth", "value": -1}]},
            (4, 4, 4, "MetricsMissing"),
            id="below-zero",
        ),
        pytest.param(
            {"current": 4, "metrics": [{"type": "QueueDepth", "value": 0}], "recommendations": []},
            (0, 0, 1, "TooFewReplicas"),
            id="the-last-one-stays-for-idle-seconds",
        ),
        pytest.param(
            {"current": 4, "metrics": [{"type": "QueueDepth", "value": 0}], "emptyFor": 299.9, "recommendations": []},
            (0, 0, 1, "TooFewReplicas"),
            id="not-empty-for-long-enough",
        ),
        pytest.param(
            {"current": 4, "metrics": [{"type": "QueueDepth", "value": 0}], "emptyFor": 300},
            (0, 0, 0, "IdleToZero"),
            id="idle",
        ),
        pytest.param(
            {"scaling": {"idleSeconds": 0}, "current": 4, "metrics": [{"type": "QueueDepth", "value": 0}]},
            (0, 0, 0, "IdleToZero"),
            id="idle-at-once",
        ),
        pytest.param(
            {
                "scaling": {"metrics": [{"type": "DrainTime"}]},
                "current": 1,
                "metrics": [{"type": "DrainTime", "value": 120, "rate": 0.5}],
            },
            (4, 4, 4, "DesiredWithinRange"),
            id="drain-time",
        ),
        pytest.param(
            {
                "scaling": {"metrics": [{"type": "Prometheus", "prometheus": {"query": "q", "value": 2}}]},
                "current": 4,
                "readyPods": 3,
                "metrics": [{"type": "Prometheus", "value": 4}],
            },
            (6, 6, 6, "DesiredWithinRange"),
            id="value-times-ready-pods",
        ),
        pytest.param(
            {
                "scaling": {"metrics": [{"type": "GPUUtilization"}]},
                "current": 3,
                "metrics": [{"type": "GPUUtilization", "value": 96}],
            },
            (4, 4, 4, "DesiredWithinRange"),
            id="gpu-the-same-for-every-pod",
        ),
        pytest.param(
            {
                "scaling": {"metrics": [{"type": "GPUUtilization"}]},
                "current": 4,
                "metrics": [
                    {
                        "type": "GPUUtilization",
                        "pods": [{"value": 100}, {"value": 100}, {"value": 100, "unready": True}, {"missing": True}],
                    }
                ],
            },
            (4, 4, 4, "DesiredWithinRange"),
            id="gpu-pod-by-pod",
        ),
        pytest.param(
            {
                "scaling": {"metrics": [DEPTH, {"type": "GPUUtilization", "role": "Ceiling"}]},
                "current": 2,
                "metrics": [{"type": "GPUUtilization", "value": 90}, {"type": "QueueDepth", "value": 40}],
            },
            (8, 8, 2, "AboveCeiling"),
            id="ceiling",
        ),
        pytest.param(
            {"current": 2, "unschedulable": 1, "metrics": [{"type": "QueueDepth", "value": 40}]},
            (8, 8, 2, "Unschedulable"),
            id="unschedulable",
        ),
        pytest.param(
            {
                "scaling": {"fallback": {"afterSeconds": 60, "replicas": 6}},
                "current": 2,
                "blindFor": 60,
                "metrics": [{"type": "QueueDepth", "missing": "gone"}],
            },
            (6, 6, 6, "Fallback"),
            id="fallback",
        ),
        pytest.param(
            {
                "scaling": {"schedules": [{"cron": "0 8 * * *", "minReplicas": 5}]},
                "current": 5,
                "now": 1_700_000_000,
                "metrics": [{"type": "QueueDepth", "value": 5}],
                "recommendations": [],
            },
            (1, 1, 5, "TooFewReplicas"),
            id="schedule",
        ),
    ],
)
def test_metrics(line: dict[str, Any], expected: tuple[int, int, int, str]) -> None:
    """The whole decision, as the operator makes it."""
    assert short(line) == expected


def test_entries_find_their_metric_by_type_and_order() -> None:
    """The k-th entry of a type is the k-th metric of that type, wherever it stands."""
    scaling = {
        "maxReplicas": 100,
        "metrics": [
            {"type": "QueueDepth", "queueDepth": {"averageValue": 1}},
            {"type": "DrainTime"},
            {"type": "QueueDepth", "queueDepth": {"averageValue": 10}},
        ],
    }
    entries = [
        {"type": "DrainTime", "value": 60, "rate": 1},
        {"type": "QueueDepth", "value": 20},
        {"type": "QueueDepth", "value": 300},
    ]
    outcome = told({"scaling": scaling, "current": 1, "metrics": entries})
    assert outcome["desired"] == 30
    assert "QueueDepth 20 at 1 a worker asks for 20" in outcome["message"]
    assert "QueueDepth 300 at 10 a worker asks for 30" in outcome["message"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        pytest.param("", None, id="a-blank-line-gets-no-answer"),
        pytest.param("{", "not JSON", id="not-json"),
        pytest.param("[1]", "got a list, wanted an object", id="not-an-object"),
        pytest.param("{}", "current: missing", id="nothing"),
        pytest.param('{"current": 1}', "got neither of metrics and desired, wanted exactly one", id="neither-way"),
        pytest.param(
            '{"current": 1, "desired": 1, "metrics": []}', "got both of metrics and desired, wanted", id="both-ways"
        ),
        pytest.param(
            '{"current": 1, "desired": 1, "curent": 2}', "curent: unknown field, allowed here are", id="unknown"
        ),
        pytest.param('{"current": 1, "current": 2, "desired": 1}', "key 'current' is there twice", id="twice"),
        pytest.param(
            '{"current": -1, "desired": 1}', "current: got -1, should be greater than or equal to 0", id="below"
        ),
        pytest.param(
            '{"current": 1, "desired": 2147483648}', "desired: got 2147483648, should be less", id="above-int32"
        ),
        pytest.param('{"current": 1.5, "desired": 1}', "current: got 1.5, should be a valid integer", id="half"),
        pytest.param('{"current": true, "desired": 1}', "current: got True, should be a valid integer", id="boolean"),
        pytest.param('{"current": null, "desired": 1}', "current: null is no value", id="null"),
        pytest.param('{"current": 1, "desired": NaN}', "NaN is no number", id="nan"),
        pytest.param(
            '{"current": 1, "metrics": [{"type": "QueueDepth", "value": 1e999}]}', "metrics[0].value", id="inf"
        ),
        pytest.param(
            '{"current": 1, "metrics": [{"type": "QueueDepth"}]}',
            "metrics[0]: got none of value, missing and pods",
            id="no-reading",
        ),
        pytest.param(
            '{"current": 1, "metrics": [{"type": "CPU", "value": 1}]}', "metrics[0].type: got 'CPU'", id="type"
        ),
        pytest.param(
            '{"current": 1, "metrics": [{"type": "DrainTime", "value": 1}]}',
            "metrics[0]: one DrainTime more than scaling.metrics has",
            id="no-such-metric",
        ),
        pytest.param(
            '{"current": 1, "metrics": [{"type": "QueueDepth", "value": 1, "rate": 1}]}',
            "rate: not for type",
            id="rate",
        ),
        pytest.param(
            '{"current": 1, "desired": 1, "events": [{"age": -1, "change": 1}]}', "events[0].age: got -1", id="age"
        ),
        pytest.param(
            '{"current": 1, "desired": 1, "events": [{"age": 1}]}', "events[0].change: missing", id="half-an-event"
        ),
        pytest.param(
            '{"current": 1, "desired": 1, "recommendations": [{"age": 1, "replicas": 1, "x": 1}]}',
            "recommendations[0].x: unknown field",
            id="unknown-inside",
        ),
        pytest.param(
            '{"current": 1, "desired": 1, "scaling": {"minReplica": 1}}',
            "scaling.minReplica: unknown field, allowed here are minReplicas",
            id="scaling-unknown",
        ),
        pytest.param(
            '{"current": 1, "desired": 1, "scaling": {"behavior": {"scaleUp": {"policies": []}}}}',
            "scaling.behavior.scaleUp.policies",
            id="scaling-empty-policies",
        ),
        pytest.param(
            '{"current": 1, "desired": 1, "scaling": {"schedules": [{"cron": "0 25 * * *", "minReplicas": 1}]}}',
            "scaling.schedules[0].cron: got '0 25 * * *'",
            id="scaling-cron",
        ),
        pytest.param("[" * 100_000, "nested too deep", id="deep"),
        pytest.param('{"current": ' + "1" * 5000 + "}", "not JSON", id="endless-digits"),
    ],
)
def test_wrong_input_is_told_in_its_line(line: str, error: str | None) -> None:
    """An error in place of the answer, with the line's number; the other lines are answered; the exit status is 1."""
    good = '{"current": 1, "desired": 1}'
    status, lines = run(f"{good}\n{line}\n{good}\n")
    if error is None:
        assert (status, len(lines)) == (0, 2)
        return
    assert (status, len(lines)) == (1, 3)
    assert lines[1]["line"] == 2
    assert error in lines[1]["error"]
    assert lines[0] == lines[2]


def test_bytes_that_are_no_text_and_lines_without_end() -> None:
    """Neither takes the filter down, nor is either held in memory whole."""
    status, lines = run(b"\xff\xfe\n" + b" " * (3 * LINE_MAX_BYTES) + b"\n" + b'{"current": 1, "desired": 1}')
    assert status == 1
    assert "not JSON" in lines[0]["error"]
    assert lines[1] == {"error": f"the line is longer than {LINE_MAX_BYTES} bytes", "line": 2}
    assert lines[2]["replicas"] == 1


def test_files_and_stdin(tmp_path: Path) -> None:
    """Files are read in turn, ``-`` is stdin, and each counts its own lines."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text('{"current": 1, "desired": 2}\n')
    second.write_text('\n{"current": 1}\n')
    status, lines = run('{"current": 1, "desired": 3}', str(first), "-", str(second))
    assert status == 1
    assert [line.get("replicas") for line in lines] == [2, 3, None]
    assert lines[2]["line"] == 2
    assert run("", str(tmp_path / "none"))[0] == 2


def test_each_answer_comes_at_once() -> None:
    """A filter that somebody talks to: the answer is there before the next line is."""
    command = [sys.executable, "-c", "from llmpool_cli.main import main; main()", "decide"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for desired in (2, 3):
            process.stdin.write(json.dumps({"current": 1, "desired": desired}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["replicas"] == desired
        process.stdin.close()
        assert process.wait() == 0


def test_a_reader_that_has_had_enough_is_no_error_of_ours() -> None:
    """``llmpool decide | head -1`` says nothing on stderr."""
    command = [sys.executable, "-c", "from llmpool_cli.main import main; main()", "decide"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        line = b'{"current": 1, "desired": 1}\n'
        process.stdin.write(line)
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(line)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_a_bad_case_is_a_value_error() -> None:
    """Whoever calls the parts gets one kind of error."""
    with pytest.raises(BadCase, match="the line is longer"):
        parse(None)


def test_the_example_of_the_documentation_is_true() -> None:
    """docs/scaling.md shows a line and its answer."""
    text = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text()
    found = re.search(r"\$ echo '(.*)' \| llmpool decide\n(.*)\n", text)
    assert found is not None
    assert json.dumps(told(json.loads(found[1]))) == found[2]


def test_every_reason_is_documented() -> None:
    """docs/scaling.md has each reason that an answer or a condition may give for a size."""
    text = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text()
    of_conditions = {Reason.READY_FOR_NEW_SCALE, Reason.VALID_METRIC_FOUND, Reason.METRICS_FOUND}
    assert [reason for reason in Reason if reason not in of_conditions and f"`{reason}`" not in text] == []


@pytest.mark.parametrize(
    ("size", "said"),
    [
        pytest.param(
            9, "9 is wanted and there already: nothing is limited, though it is more than maxReplicas", id="above"
        ),
        pytest.param(
            1, "1 is wanted and there already: nothing is limited, though it is less than minReplicas", id="below"
        ),
        pytest.param(3, "3 is within the range that is allowed now", id="within"),
    ],
)
def test_a_size_out_of_bounds_is_not_called_within(size: int, said: str) -> None:
    """Where current and desired are the same, HPA keeps it; the message doesn't say that bounds allow it."""
    outcome = told({"current": size, "desired": size, "scaling": {"minReplicas": 2, "maxReplicas": 5}})
    assert (outcome["replicas"], outcome["message"]) == (size, said)
