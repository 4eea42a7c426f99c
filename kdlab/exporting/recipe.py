"""What `kdlab export` is told. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdlab.answering.recipe import ModelConfig
from kdlab.data.dataset import DatasetConfig
from kdlab.limits import at_least, one_of
from kdlab.training.recipe import ACCELERATORS, ClusterConfig

VARIANTS = (
    "onnx",
    "onnx_int8",
    "onnx_int8_static",
    "onnx_w8",
    "onnx_w4",
    "torchao_int8",
    "torchao_int4",
    "nf4",
    "gguf",
)
PROCESSORS = ("auto", "avx2", "avx512", "avx512_vnni", "arm64")


@dataclass(kw_only=True)
class ExportConfig:
    """`variants` of the model at `model.path` (a folder such as `model/` of a run, or `adapter/`), each in a folder of
    its own below `output` (None: the job's folder), and each verified.

    onnx: float32. onnx_int8: dynamic 8-bit weights and activations; onnx_int8_static: with activation ranges from
    `calibration` examples; both as `processor` multiplies them. onnx_w8, onnx_w4: 8- and 4-bit weights only.
    torchao_int8, torchao_int4, nf4: for torch. gguf: for llama.cpp, where its converter is there.

    Verified on `examples` held-out examples (None: all) of the dataset: a classifier by how often it decides as the
    original does (at least `agreement`), a model that writes text by KL(original ‖ variant) per token (at most `kl`).
    Of text, examples with `tokens` tokens together are read at most. `latency_examples` single examples are timed. The
    original is read in float32, and what is measured of it and a variant is measured in turn.
    """

    name: str = "export"
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    variants: list[str] = field(default_factory=lambda: ["onnx", "onnx_int8"])
    processor: str = "auto"
    calibration: int = 64
    examples: int | None = 512
    tokens: int = 8192
    latency_examples: int = 64
    agreement: float = 0.97
    kl: float = 0.05
    batch_size: int = 8
    accelerator: str = "cpu"
    threads: int | None = None
    output: str | None = None
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        for variant in self.variants:
            one_of("variants", variant, VARIANTS)
        if not self.variants or len(set(self.variants)) < len(self.variants):
            raise ValueError(f"variants={self.variants}: must be one or more, each once, of {', '.join(VARIANTS)}")
        one_of("processor", self.processor, PROCESSORS)
        one_of("accelerator", self.accelerator, ACCELERATORS)
        at_least("calibration", self.calibration, 1)
        at_least("examples", self.examples, 1, unset=True)
        at_least("tokens", self.tokens, 1)
        at_least("latency_examples", self.latency_examples, 1)
        at_least("batch_size", self.batch_size, 1)
        at_least("threads", self.threads, 1, unset=True)
        at_least("kl", self.kl, 0)
        if self.accelerator != "cpu" and any(variant.startswith("onnx") for variant in self.variants):
            raise ValueError(f"accelerator={self.accelerator}: ONNX variants are verified on the CPU; leave it at cpu")
        if not 0 <= self.agreement <= 1:
            raise ValueError(f"agreement={self.agreement}: must be between 0 and 1")
