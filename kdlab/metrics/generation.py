"""How close written answers come to their references: ROUGE, BLEU and chrF, from 0 to 100.

scores = score(["a cat sat"], ["the cat sat down"], metrics=["rouge"])
scores.corpus["rougeL"], scores.examples[0]["rougeL"]
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

PACKAGES = {"rouge": "rouge_score", "bleu": "sacrebleu", "chrf": "sacrebleu"}
"""The package that each of these metrics is computed by; `pip install 'kdlab[eval]'` brings them."""
ROUGE = ("rouge1", "rouge2", "rougeL")
_READABLE = re.compile(r"[a-z0-9]", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """`corpus` over all answers, `examples` one by one, for paired tests. Both by name: rouge1, rouge2, rougeL, bleu,
    chrf, each from 0 to 100, the higher the better; and `words`, the mean length of what was written."""

    corpus: dict[str, float]
    examples: list[dict[str, float]]


def score(written: Sequence[str], references: Sequence[str], *, metrics: Sequence[str]) -> Scores:
    """Judge each text by its one reference. `metrics` are among rouge, bleu, chrf.

    rouge: the F-measure of shared words, pairs of words and longest common subsequence (Lin, 2004), words stemmed, as
    `rouge_score` computes it; of the corpus, the mean. It reads the letters a to z and digits only. bleu (Papineni et
    al., 2002; Post, 2018) and chrf (Popović, 2015) are sacrebleu's: of the corpus, from its summed counts, not the mean
    of its sentences; of an example, sentence BLEU over the orders that it is long enough for, and sentence chrF.

    Raises ValueError where there is nothing to judge, and for rouge where no reference has a letter it reads.
    """
    assert len(written) == len(references)
    if not written:
        raise ValueError("benchmark.generation: there is no held-out example to write an answer for")
    corpus: dict[str, float] = {}
    examples: list[dict[str, float]] = [{} for _ in written]
    for metric in metrics:
        of_corpus, of_examples = {"rouge": _rouge, "bleu": _bleu, "chrf": _chrf}[metric](written, references)
        corpus |= of_corpus
        for example, found in zip(examples, of_examples, strict=True):
            example |= found
    corpus["words"] = statistics.fmean(len(text.split()) for text in written)
    return Scores(corpus=corpus, examples=examples)


_Found = tuple[dict[str, float], list[dict[str, float]]]


def _rouge(written: Sequence[str], references: Sequence[str]) -> _Found:
    from rouge_score.rouge_scorer import RougeScorer

    if not any(_READABLE.search(reference) for reference in references):
        raise ValueError(
            "benchmark.generation.metrics: rouge reads the letters a to z and digits, and no reference has any; "
            "use benchmark.generation.metrics=[chrf]"
        )
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    examples = []
    for text, reference in zip(written, references, strict=True):
        found = scorer.score(reference, text)
        examples.append({name: 100 * float(found[name].fmeasure) for name in ROUGE})
    return {name: statistics.fmean(example[name] for example in examples) for name in ROUGE}, examples


def _bleu(written: Sequence[str], references: Sequence[str]) -> _Found:
    from sacrebleu.metrics.bleu import BLEU

    whole, sentence = BLEU(), BLEU(effective_order=True)
    corpus = float(whole.corpus_score(list(written), [list(references)]).score)
    pairs = zip(written, references, strict=True)
    return {"bleu": corpus}, [{"bleu": float(sentence.sentence_score(a, [b]).score)} for a, b in pairs]


def _chrf(written: Sequence[str], references: Sequence[str]) -> _Found:
    from sacrebleu.metrics.chrf import CHRF

    chrf = CHRF()
    corpus = float(chrf.corpus_score(list(written), [list(references)]).score)
    pairs = zip(written, references, strict=True)
    return {"chrf": corpus}, [{"chrf": float(chrf.sentence_score(a, [b]).score)} for a, b in pairs]
