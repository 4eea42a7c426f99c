"""Reporting runs where there is no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "lightning", "hydra", "omegaconf"):
            raise ImportError(f"{name} is not for reporting")

sys.meta_path.insert(0, Refuse())
from pathlib import Path
from kdlab.reporting.report import print_table, write_page
from kdlab.reporting.samples import write_samples
print_table([sys.argv[1]])
print(write_page([sys.argv[1]], Path(sys.argv[2])))
write_samples({"name": "n", "samples": []}, Path(sys.argv[2] + ".md"))
assert "torch" not in sys.modules
"""


def test_table_page_and_samples_without_torch(write_run, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(write_run()), str(tmp_path / "report.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The student gained" in done.stdout
    assert (tmp_path / "report.html").is_file()


def test_a_terminal_without_arrows_gets_question_marks(write_run, tmp_path: Path) -> None:
    program = "import sys; from kdlab.reporting.report import print_table; print_table([sys.argv[1]])"
    write_run("runs/a")
    write_run("runs/b", {"overrides": ["seed=1"]})
    command = [sys.executable, "-c", program, str(tmp_path / "runs")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "10 ? 2" in done.stdout
