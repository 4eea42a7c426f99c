"""The wheel carries the option files, finds them, and nothing of the checkout's tests or outputs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build", reason="needs the dev extra")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:] or done.stdout[-2000:]
    [file] = folder.glob("*.whl")
    return file


def test_it_holds_the_package_and_every_option_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = {f"kdlab/conf/{file.relative_to(ROOT / 'conf')}" for file in (ROOT / "conf").rglob("*.yaml")}
    code = {str(file.relative_to(ROOT)) for file in (ROOT / "kdlab").rglob("*.py")}
    assert conf | code <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"kdlab"}


def test_its_option_files_are_found_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = str(tmp_path / "site")
    code = (
        "import kdlab; from kdlab.cli import main; from kdlab.config.options import conf_dir\n"
        "print(kdlab.__file__); print(conf_dir()); main(['train', 'experiment=quickstart', '--show'])"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=empty, env=environment)
    package, conf, *shown = done.stdout.splitlines()
    assert Path(package).is_relative_to(tmp_path / "site")
    assert Path(conf) == tmp_path / "site" / "kdlab" / "conf"
    assert "name: quickstart" in shown
    assert list(empty.iterdir()) == []
