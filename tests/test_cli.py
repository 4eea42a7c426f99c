"""The command line as a user meets it: verbs, help, exit status, and how a mistake looks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdlab import __version__
from kdlab.cli import VERBS, main


def kdlab(*words: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables}
    command = [sys.executable, "-m", "kdlab", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_the_verbs(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kdlab {__version__}\n"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["trian"], "did you mean train?"),
        (["raport", "x"], "did you mean report or export?"),
        (["qqq"], f"the verbs are {', '.join(VERBS)}"),
        (["experiment=smoke", "seed=1"], "kdlab train experiment=smoke seed=1"),
        (["-m", "experiment=smoke"], "kdlab train -m experiment=smoke"),
    ],
)
def test_unknown_verb_is_one_line(words: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert part in err
    assert words[0] in err
    assert len(err.splitlines()) == 1


def test_every_verb_has_a_module_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert f"kdlab {verb}" in capsys.readouterr().out


def test_help_imports_neither_torch_nor_hydra() -> None:
    code = (
        "import sys; from kdlab.cli import main\n"
        "for words in (['-h'], ['--version'], ['train', '-h'], ['evaluate', '-h'], ['report', '-h']):\n"
        "    assert main(words) == 0\n"
        "print([m for m in ('torch', 'transformers', 'lightning', 'hydra', 'omegaconf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_of_train_shows_groups_options_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    for shown in ("smollm2_135m*", "reverse_kl", "quickstart", "loss.temperature=1.0", "trainer.batch_size=8", "-m,"):
        assert shown in out


def test_help_of_evaluate_shows_its_own_options_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--help"]) == 0
    out = capsys.readouterr().out
    for shown in ("--manual FILE", "greedy*", "rules=boxed_last", "writing.draws=0", "model.path=null"):
        assert shown in out
    assert "optimizer" not in out
    assert "keep=" not in out
    assert main(["generate", "--help"]) == 0
    out = capsys.readouterr().out
    assert "keep=all" in out
    assert "--manual" not in out


@pytest.mark.parametrize(
    ("verb", "shown", "hidden"),
    [
        ("prepare", ["strict=true", "helpsteer2*", "dataset.fold=null"], ["optimizer", "variants"]),
        ("export", ["variants=[onnx,onnx_int8]", "agreement=0.97", "model.path=null"], ["optimizer", "strict"]),
        ("publish", ["repo=null", "dry_run=true"], ["dataset", "optimizer"]),
        ("pipeline", ["--dry-run", "helpsteer2", "rated_small", "fold=null"], ["quickstart", "helpsteer2_teacher"]),
        ("train", ["quickstart", "helpsteer2_teacher"], ["rated_small,", "--dry-run"]),
    ],
)
def test_help_of_a_verb_shows_what_it_has(
    verb: str, shown: list[str], hidden: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert [part for part in shown if part not in out] == []
    assert [part for part in hidden if part in out] == []


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["experiment=smoke", "loss.temprature=2"], ["loss.temprature=2", "temperature"]),
        (
            ["-m", "experiment=smoke", "seed=1,2", "dataset.path=missing.jsonl"],
            ["dataset.path=missing.jsonl", "no such"],
        ),
    ],
)
def test_a_mistake_from_the_shell(words: list[str], parts: list[str], tmp_path: Path) -> None:
    done = kdlab("train", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) <= 6
    assert "Traceback" not in done.stderr
    assert all(part in done.stderr for part in parts)
    assert not (tmp_path / "multirun").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = kdlab("train", "loss=nope", cwd=tmp_path, KDLAB_DEBUG="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
