"""How to use a published model: what a card shows to paste."""

from __future__ import annotations

import json

from kdlab.publishing.records import Records, Told
from kdlab.text.fields import FieldTemplate
from kdlab.text.task import Task


def use(records: Records, repo: str, task: Task | None, adapter: bool) -> str:
    code = _writing_code(records.run, repo) if task is None else _deciding_code(repo, task)
    parts = [f"## How to use\n\n```python\n{code}\n```"]
    if task is not None:
        parts.append(
            f"With kdlab, which cuts a long text where it can spare it (at most {task.max_length} tokens):\n\n"
            f"```\nhf download {repo} --local-dir student\nkdlab predict student {_asked(task)}\n```"
        )
    good = [variant.name for variant in records.variants if variant.is_good]
    if good:
        after = "" if task is not None else f", after `hf download {repo} --local-dir student`"
        parts.append(f"A variant: `kdlab predict student/variants/{good[0]} {_asked(task)}`{after}.")
    if adapter:
        parts.append("`adapter/` holds the LoRA weights alone, for peft; the model above has them added in.")
    return "\n\n".join(parts)


def _asked(task: Task | None) -> str:
    """What is put to `kdlab predict`."""
    fields = [] if task is None else _fields(task)
    return " ".join(f'--field {field}="..."' for field in fields) if len(fields) > 1 else '"..."'


def _deciding_code(repo: str, task: Task) -> str:
    filled = ", ".join(f"{field}=..." for field in _fields(task))
    lines = [
        "import torch",
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{repo}")',
        f'model = AutoModelForSequenceClassification.from_pretrained("{repo}").eval()',
        f"text = {json.dumps(task.template, ensure_ascii=False)}.format({filled})",
        f'inputs = tokenizer(text, truncation=True, max_length={task.max_length}, return_tensors="pt")',
        "with torch.no_grad():",
    ]
    if task.is_regression:
        return "\n".join([*lines, f"    {_identifier(task.column)} = model(**inputs).logits.item()"])
    lines += ["    probabilities = model(**inputs).logits.softmax(-1)[0].tolist()"]
    return "\n".join([*lines, "print({model.config.id2label[i]: p for i, p in enumerate(probabilities)})"])


def _identifier(column: str) -> str:
    return column if column.isidentifier() else "value"


def _fields(task: Task) -> list[str]:
    return list(FieldTemplate(task.template).fields)


def _writing_code(run: Told, repo: str) -> str:
    kind = "AutoModelForSeq2SeqLM" if run.number("data", "train", "source_tokens") else "AutoModelForCausalLM"
    return "\n".join(
        [
            f"from transformers import {kind}, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{repo}")',
            f'model = {kind}.from_pretrained("{repo}")',
            'inputs = tokenizer("...", return_tensors="pt")',
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0], skip_special_tokens=True))",
        ]
    )
