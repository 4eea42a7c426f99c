"""The codecs, by the name an option gives them. Importable without torch."""

from kdlab.teachers.codecs.base import Codec
from kdlab.teachers.codecs.dense import DenseCodec
from kdlab.teachers.codecs.hidden import HiddenCodec
from kdlab.teachers.codecs.sampled import HeadAndSamplesCodec, SampledCodec
from kdlab.teachers.codecs.topk import TopKCodec

CODECS: dict[str, type[Codec]] = {
    codec.name: codec for codec in (HiddenCodec, TopKCodec, HeadAndSamplesCodec, SampledCodec, DenseCodec)
}

__all__ = ["CODECS", "Codec"]
