"""Options of the inner terms: what is refused, and in which words."""

from __future__ import annotations

import re

import pytest

from kdlab.losses.anneal import Anneal
from kdlab.losses.inner import AttentionTerm, HiddenTerm, InnerConfig, RelationTerm


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HiddenTerm(distance="l1"), "inner.hidden.distance=l1: must be one of mse, cosine"),
        (lambda: AttentionTerm(distance="js"), "inner.attention.distance=js: must be one of kl, mse"),
        (lambda: HiddenTerm(weight=-1.0), "inner.hidden.weight=-1.0: must be >= 0 and finite"),
        (lambda: AttentionTerm(weight=float("nan")), "inner.attention.weight=nan: must be >= 0"),
        (lambda: RelationTerm(anneal=Anneal(to=-2.0)), "inner.relation.anneal.to=-2.0: must be >= 0"),
        (lambda: RelationTerm(of=[]), "inner.relation.of=[]: must be null or a list"),
        (lambda: RelationTerm(of=["query", "query"]), "each once"),
        (lambda: RelationTerm(of=["queries"]), "some of query, key, value"),
        (lambda: RelationTerm(heads=0), "inner.relation.heads=0: must be null or at least 1"),
        (lambda: HiddenTerm(map="evn"), "inner.hidden.map=evn: must be one of even, last, pairs"),
        (lambda: HiddenTerm(map=[]), "inner.hidden.map=[]"),
        (lambda: HiddenTerm(map=[[0, 1, 2]]), "inner.hidden.map=[[0, 1, 2]]"),
        (lambda: HiddenTerm(map=[[0, -1]]), "inner.hidden.map=[[0, -1]]"),
        (lambda: HiddenTerm(map=[[0, True]]), "inner.hidden.map=[[0, True]]"),
        (lambda: AttentionTerm(map={"a": 1}), "inner.attention.map={'a': 1}"),
        (lambda: RelationTerm(map=3), "inner.relation.map=3"),
    ],
)
def test_a_mistake_is_said_as_typed(make, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_what_is_allowed():
    HiddenTerm(map=[[0, 1], [1, 3]], weight=0.0)
    HiddenTerm(map={"model.norm": "model.norm"})
    assert RelationTerm().kinds == ("query", "key", "value")
    assert RelationTerm(of=["value"]).kinds == ("value",)
    assert RelationTerm().map == "last"
    assert AttentionTerm().map == "even"


def test_the_terms_that_are_asked_for():
    assert InnerConfig().terms() == {}
    both = InnerConfig(relation=RelationTerm(), hidden=HiddenTerm())
    assert list(both.terms()) == ["hidden", "relation"]
