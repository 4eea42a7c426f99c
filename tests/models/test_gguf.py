import multiprocessing
import time

import gguf as gguf_package
import pytest
import torch
from architectures import random_ids, random_model
from ggufs import write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from kdlab.models import gguf
from kdlab.models.loading import load_language_model, load_tokenizer
from kdlab.models.source import resolve
from kdlab.models.tiny import CHAT_TEMPLATE

QUANTISED = gguf_package.GGMLQuantizationType.Q8_0


def qwen():
    return random_model("qwen2", vocab_size=260, tie_word_embeddings=True, intermediate_size=64)


def test_a_gguf_file_becomes_a_plain_folder_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))
    model, ids = qwen(), random_ids()
    file = write_gguf(model, tmp_path / "tiny.gguf")
    loaded = load_language_model(str(file), dtype="float32")
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)
    assert "converting tiny.gguf to safetensors (float32), once" in capsys.readouterr().err
    tokenizer = load_tokenizer(str(file))
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.decode(tokenizer("a b, é").input_ids) == "a b, é"
    source = resolve(str(file))
    assert (source.kind, source.description) == ("gguf", f"gguf {file}")
    assert capsys.readouterr().err == ""  # converted before
    AutoTokenizer.from_pretrained(source.folder)
    again = AutoModelForCausalLM.from_pretrained(source.folder)
    again.save_pretrained(tmp_path / "copy")  # what transformers refuses right after reading a GGUF file
    assert gguf_package.GGUFReader.__name__ == "GGUFReader"


def test_quantised_weights_are_spelt_out_in_bfloat16(tmp_path):
    model, ids = qwen(), random_ids()
    gguf.convert(write_gguf(model, tmp_path / "q8.gguf", QUANTISED), tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert again.dtype == torch.bfloat16
    with torch.no_grad():
        p, q = (m.float()(ids).logits.log_softmax(-1) for m in (model, again))
    assert 0 < float((p.exp() * (p - q)).sum(-1).mean()) < 0.02


def test_a_changed_file_is_converted_again(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "tiny.gguf"
    write_gguf(qwen(), file)
    first = resolve(str(file)).folder
    write_gguf(random_model("qwen2", vocab_size=260, tie_word_embeddings=True, layers=3), file)
    assert resolve(str(file)).folder != first


def test_what_is_no_gguf_is_refused_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "bad.gguf"
    file.write_bytes(b"not a model" * 100)
    with pytest.raises(ValueError, match=r"bad.gguf: transformers cannot read this GGUF file") as caught:
        resolve(str(file))
    assert "\n" not in str(caught.value)
    assert [p for p in (tmp_path / "cache" / "models").iterdir() if p.is_dir()] == []


def _slow_write(folder):
    time.sleep(0.3)
    (folder / "written").write_text("whole")
    with (folder.parent / "count").open("a") as count:
        count.write("x")


def test_two_processes_write_a_folder_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=gguf.once, args=(tmp_path / "m", _slow_write)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert (tmp_path / "count").read_text() == "x"
    assert (tmp_path / "m" / "written").read_text() == "whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".m.lock", "count", "m"]


def test_a_write_that_breaks_off_leaves_no_folder(tmp_path):
    def breaks(folder):
        (folder / "half").write_text("")
        raise OSError("disk full")

    with pytest.raises(OSError, match=r"disk full"):
        gguf.once(tmp_path / "m", breaks)
    assert not (tmp_path / "m").exists()
    assert gguf.once(tmp_path / "m", lambda folder: (folder / "a").touch()) == tmp_path / "m"
