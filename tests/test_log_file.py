"""LOG_DIR: the log in a file too, for those whose volumes are collected."""

import json
from pathlib import Path

import pytest

from llmpool_worker.settings import load
from llmpool_worker.telling import logs
from tests.support.worker_process import WorkerProcess


def test_a_workers_log_is_in_its_file_too(redis_url: str, tmp_path: Path) -> None:
    """LOG_DIR holds the same JSON lines as stderr, in a file that is named for the worker."""
    with WorkerProcess(redis_url, worker_id="w-7", BACKEND="echo", LOG_DIR=str(tmp_path)) as worker:
        worker.child.stop()
        assert (tmp_path / "w-7.log").read_text().splitlines() == worker.log.splitlines()
    assert all(json.loads(line)["event"] for line in worker.log.splitlines())


def test_a_folder_that_cannot_be_written_stops_the_start(redis_url: str, tmp_path: Path) -> None:
    """The line names LOG_DIR, the folder and what is wrong with it; status 2."""
    worker = WorkerProcess(redis_url, BACKEND="echo", LOG_DIR=str(tmp_path / "nowhere"))
    worker.child.start()
    assert worker.ended(60) == 2
    worker.remove()
    assert f"LOG_DIR: {tmp_path / 'nowhere'}: No such file or directory" in worker.log


def test_a_file_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A volume isn't filled: at the limit a new file begins, and the oldest goes."""
    monkeypatch.setattr(logs, "_FILE_BYTES", 500)
    monkeypatch.setattr(logs.structlog, "configure", lambda **given: made.append(given["logger_factory"]))
    made: list = []
    logs.configure("info", file=tmp_path / "w.log")
    write = made[0]()
    for n in range(400):
        write.info(f"line {n}")
    write._file._file.close()
    assert {path.name for path in tmp_path.iterdir()} == {"w.log", "w.log.1", "w.log.2", "w.log.3"}
    assert max(path.stat().st_size for path in tmp_path.iterdir()) <= 500
    assert len(capfd.readouterr().err.splitlines()) == 400
    assert load({"log_dir": tmp_path, "worker_id": "a"}).log_file == tmp_path / "a.log"
