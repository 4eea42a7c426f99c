"""A stage as a real process: its exit status, and that it does not outlive the one that made it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdlab.pipelines.process import command, run_stage

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_the_exit_status_is_the_stage_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "argparse.py").write_text("raise SystemExit(99)\n")  # where a user happens to be is not imported from
    assert run_stage(["--version"]) == 0
    assert run_stage(["no-such-verb"]) == 2


def test_a_checkout_is_imported_from_where_we_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert command(["train"]) == [sys.executable, "-m", "kdlab", "train"]
    monkeypatch.chdir(tmp_path)
    assert command(["train"]) == [sys.executable, "-P", "-m", "kdlab", "train"]


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_stage_dies_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed as its stage, which would never end, has written its process id."""
    (tmp_path / "kdlab").mkdir()
    (tmp_path / "kdlab" / "__init__.py").write_text("")
    code = "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(600)\n"
    (tmp_path / "kdlab" / "__main__.py").write_text(code)
    start = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import os
import kdlab.pipelines.process as process
os.environ["PYTHONPATH"] = {str(tmp_path)!r}
process.run_stage(["train"])
"""
    parent = subprocess.Popen([sys.executable, "-c", start], cwd=tmp_path)
    file = tmp_path / "pid"
    deadline = time.monotonic() + 60
    while not (file.is_file() and file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    stage = int(file.read_text())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while _runs(stage) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(stage)


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie that waits to be read."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
