"""Models that decide about a whole text: a body that reads it, and a head with one output a class (or one number).

    model = load_classifier("HuggingFaceTB/SmolLM2-135M-Instruct", task=task, fresh_head=True)
    split_of(model).hidden(batch)  # [B, 1, C]: a row is one decision

A decoder decides at the last token of a row that is not its config's `pad_token_id`, whatever the attention mask says:
a wrong id there gives wrong logits and no word of it. So the id is set here, always, from the tokenizer.

Shape letters: B batch, N rows, C classes (1 for a number).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.models import dtype as dtypes
from kdlab.models import tiny
from kdlab.models.adapter import attach, refuse_other_kind
from kdlab.models.head import SplitModel
from kdlab.models.label_names import names_of, refuse_foreign_pad, refuse_no_classifier, refuse_other_names, shown, tell
from kdlab.models.loading import load_config, load_tokenizer, read_weights, refuse_lacking, refuse_packed_tiny
from kdlab.models.progress import quiet_report, say
from kdlab.models.quantization import QuantizationConfig, loading_options, quiet_backends, refuse_unpacked
from kdlab.models.source import Source, resolve
from kdlab.rows import Dense

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kdlab.text.task import Task


class ClassifierSplit:
    """A classifier in the place of a `head.SplitModel`: nothing is split, `hidden` gives the logits of one position.

    The head's last product runs in float32 whatever the body's precision (autocast's, or that of its weights): bfloat16
    tells numbers near 1 apart by 0.8%, and two classes that close would tie.
    """

    mode = "whole"
    packing = "none"
    seq2seq = False

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._inner = under_adapters(model)
        self._last = _last_products(self._inner)
        self._told = {"use_cache": False} if "use_cache" in inspect.signature(self._inner.forward).parameters else {}

    def hidden(self, batch: Batch) -> Tensor:
        """The logits `[B, 1, C]`, with the graph where gradients are on."""
        assert batch.decides, "a batch for a classifier has one label an example"
        assert batch.position_ids_BT is None, "packed rows hold several examples, and a classifier decides once a row"
        assert batch.input_ids_BT.shape[0] == 1 or self._inner.config.get_text_config().pad_token_id is not None
        with _in_float32(self._last):
            logits_BC: Tensor = self._inner(**batch.model_inputs(), **self._told).logits
        return logits_BC[:, None]

    def project(self, hidden_NC: Tensor) -> Dense:
        """What some rows of `hidden` predict."""
        return Dense(logits_NV=hidden_NC)

    @property
    def vocabulary(self) -> int:
        """Outputs of the head: C."""
        return int(self._inner.config.num_labels)


def _last_products(model: PreTrainedModel) -> list[nn.Linear]:
    """The layers of the head, adapted or not, that have one output a class; none where these are packed, or the head is
    not understood."""
    if model.base_model is model:
        return []
    parts = [part for name in head_names(model) for part in model.get_submodule(name).modules()]
    return [
        part
        for part in parts
        if isinstance(part, nn.Linear)
        and part.weight.is_floating_point()
        and part.out_features == model.config.num_labels
    ]


def deciding_in_float32(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Within it, a classifier's logits are as `ClassifierSplit` has them: those that training and its records see."""
    return _in_float32(_last_products(under_adapters(model)))


@contextmanager
def _in_float32(layers: Iterable[nn.Linear]) -> Iterator[None]:
    """Let these layers answer in float32 where they would in less: the product is taken again, as wide as it is.

    A model that torch.compile has traced without them does not see these hooks.
    """

    def widened(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if output.dtype not in (torch.bfloat16, torch.float16):
            return None
        bias = None if layer.bias is None else layer.bias.float()
        with torch.autocast(output.device.type, enabled=False):
            return nn.functional.linear(inputs[0].float(), layer.weight.float(), bias)

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(widened))
        yield


def split_of(model: PreTrainedModel) -> SplitModel | ClassifierSplit:
    """How a model is run: a classifier whole, a language model as body and head."""
    return ClassifierSplit(model) if is_classifier(model) else SplitModel(model)


def is_classifier(model: Any) -> bool:
    """Whether `model`, adapted or not, decides about whole texts."""
    return type(under_adapters(model)).__name__.endswith("ForSequenceClassification")


def under_adapters(model: Any) -> Any:
    """The model of transformers under a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def head_names(model: PreTrainedModel) -> list[str]:
    """The modules of a classifier that no language model has: all that hold weights outside its body, and the body's
    pooler (BERT's), which feeds nothing else."""
    body = model.base_model
    if body is model:
        raise ValueError(f"{type(model).__name__}: its classification head is not understood")
    names = [name for name, module in model.named_children() if module is not body and [*module.parameters()]]
    if isinstance(getattr(body, "pooler", None), nn.Module):
        names.append(f"{model.base_model_prefix}.pooler")
    return names


def load_classifier(
    path: str,
    *,
    task: Task,
    fresh_head: bool,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    trust_remote_code: bool = False,
    quantization: QuantizationConfig | None = None,
    device: torch.device | str = "cpu",
    option: str = "path",
    seed: int = 0,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> PreTrainedModel:
    """The sequence classifier at `path` on `device`, in eval mode, with the classes of `task`.

    With `fresh_head` a language model, and a classifier of other classes, get a head drawn from `seed`, which is said
    on stderr; without it they are refused. `tokenizer` is whose pad token the rows are padded with (None: the model's
    own). A packed model's head stays in its number format.

    Raises ValueError for a model that is no classifier and cannot become one, for other classes, and as
    `load_language_model` does.
    """
    quiet_backends()
    number = dtypes.resolve(dtype, device) if isinstance(dtype, str) else dtype
    quantization, name = quantization or QuantizationConfig(), f"{option}={path}"
    if quantization.kind == "gguf":
        raise ValueError(f"{name}: quantization=gguf holds models that write text; set quantization=none to classify")
    source = resolve(path, revision, option=option)
    reader = tokenizer or load_tokenizer(path, revision, trust_remote_code, option=option)
    config = load_config(source, name, trust_remote_code)
    refuse_no_classifier(config, name)
    refuse_other_kind(source, name, classifies=True)
    theirs, files = names_of(config, source), source.base or source
    if source.base is not None or not (fresh_head or source.kind == "tiny"):
        refuse_other_names(theirs, task, name)
    tell(config, task, pad=reader.pad_token_id)
    refuse_foreign_pad(config, reader, name)
    if files.kind == "tiny":
        refuse_packed_tiny(quantization, name)
        model = _tiny(files.location.removeprefix("tiny:"), config, seed).to(device=device, dtype=number)
        return model if source.base is None else attach(model, source, name).eval()
    left = head_names(_outline(config, trust_remote_code)) if quantization.kind != "none" else ()
    packed = loading_options(quantization, config, dtype=number, device=device, name=name, unpacked=left)
    model, missing = _read(files, config, name, dtype=number, trust=trust_remote_code, packed=packed)
    if source.base is not None:
        draw_head(model, missing, seed=seed)  # the adapter brings its own
        model = attach(model, source, name)
    elif missing or theirs != task.names:
        if not fresh_head:
            refuse_lacking(missing, name)
        _complete(model, missing, theirs, task, name, seed=seed)
    refuse_unpacked(model, quantization, name=name)
    return (model if packed else model.to(device)).eval()


def draw_head(model: PreTrainedModel, names: Iterable[str], *, seed: int) -> None:
    """Draw the weights of these modules anew, as the model's own class begins them: the same for the same seed, on
    every device and in every number format."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in sorted(names):
            module = model.get_submodule(name)
            drawn = copy.deepcopy(module).to(device="cpu", dtype=torch.float32)
            for part in drawn.modules():
                model._init_weights(part)
            module.load_state_dict(drawn.state_dict())


def _read(
    files: Source, config: Any, name: str, *, dtype: torch.dtype, trust: bool, packed: dict[str, Any]
) -> tuple[PreTrainedModel, set[str]]:
    """The classifier that files make, and those modules of its head that they lack. Raises ValueError where they lack
    anything else."""
    from transformers import AutoModelForSequenceClassification as Auto

    told = {"config": config, "ignore_mismatched_sizes": True} | packed
    with quiet_report(), torch.random.fork_rng(devices=[]):  # what is missing is drawn: once more, from the seed
        model, report = read_weights(Auto, files, name, dtype=dtype, trust_remote_code=trust, told=told)
    lacking = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    of = {key: next((n for n in head_names(model) if key.startswith(f"{n}.")), None) for key in lacking}
    refuse_lacking((key for key, head in of.items() if head is None), name)
    return model, {head for head in of.values() if head is not None}


def _complete(
    model: PreTrainedModel,
    missing: set[str],
    theirs: tuple[str, ...] | None,
    task: Task,
    name: str,
    *,
    seed: int,
) -> None:
    """Give a model whose files hold no head for these classes one drawn from `seed`, and say so."""
    outside = [head for head in head_names(model) if "." not in head]
    fresh = missing if theirs == task.names else missing | {*outside}
    draw_head(model, fresh, seed=seed)
    why = "its files have no head that classifies" if theirs is None else f"its head is of {shown(theirs)}"
    why = "its files lack part of the head" if theirs == task.names else why
    say(f"{name}: {why}; {', '.join(sorted(fresh))} of {task.outputs} outputs drawn anew (seed {seed})")


def _tiny(kind: str, config: Any, seed: int) -> PreTrainedModel:
    """A random classifier: the body of `tiny.tiny_model`, a head drawn from `seed`."""
    model = _outline(config, trust_remote_code=False, device="cpu").float().eval()
    body = tiny.tiny_model(kind).base_model.state_dict()
    model.base_model.load_state_dict(body, strict=False)
    draw_head(model, head_names(model), seed=seed)
    return model


def _outline(config: Any, trust_remote_code: bool, device: str = "meta") -> PreTrainedModel:
    """A classifier of this config whose weights are yet to come."""
    from transformers import AutoModelForSequenceClassification as Auto

    with torch.device(device), torch.random.fork_rng(devices=[]):
        model: PreTrainedModel = Auto.from_config(config, trust_remote_code=trust_remote_code)
    return model
