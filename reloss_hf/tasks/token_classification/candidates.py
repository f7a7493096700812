"""Candidates of the same sentences: a tagger's logits, perturbed as another training might change them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...classes.losses import labelled, targets_of
from ...surrogate import Features

# In standard deviations of the logits.
_SCALE = 0.3


def perturbed(
    features: Features, count: int, generator: torch.Generator, strength: float = 1.0, names: Sequence[str] = ()
) -> Features:
    """`count` copies of some sentences, one after the other.

    Each copy has shifts of `O`, of each type of entity, of each prefix (beginnings against continuations, so boundaries
    move) and of each tag. It has a step to the gold tags or away from them, which differs by type. Each sentence has
    shifts of its own, so that whole entities are missed, invented or mistaken, and each token has noise.

    Args:
        features: `logits` and `labels` of `n` sentences.
        count: number of copies.
        generator: draws the perturbations.
        strength: factor of the perturbations. It is 1, or more if 1 changes no prediction.
        names: the names of the tags.

    Returns:
        The features of `count · n` sentences, without padding behind the longest.
    """
    known = labelled(features)
    longest = int(known.any(0).nonzero().max()) + 1
    logits, labels = features["logits"][:, :longest].float(), features["labels"][:, :longest]
    known = known[:, :longest]
    sentences, _, tags = logits.shape
    groups = _groups(names or [str(tag) for tag in range(tags)])

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def by_group(*shape: int) -> Tensor:
        return normal(*shape, len(groups)) @ groups

    gold = targets_of({"logits": logits, "labels": labels}) - 1 / tags
    shift = by_group(count, 1, 1) + 0.5 * normal(count, 1, 1, tags)
    step = 0.5 * (normal(count, 1, 1, 1) + by_group(count, 1, 1)) * gold
    of_sentences = 0.5 * normal(count, 1, 1, 1).abs() * by_group(count, sentences, 1)
    noise = 0.5 * normal(count, 1, 1, 1).abs() * normal(count, *logits.shape)
    spread = (logits - logits.mean(-1, keepdim=True))[known].std()
    copies = logits + strength * _SCALE * spread * (shift + step + of_sentences + noise)
    return {"logits": copies.flatten(0, 1), "labels": labels.repeat(count, 1)}


def _groups(names: Sequence[str]) -> Tensor:
    """The tags of each type, and of each prefix, as 0/1, shape `(groups, tags)`. `O` is a type of its own."""
    parts = [name.partition("-") if "-" in name else ("", "", name) for name in names]
    groups = [{name for name, (_, _, kind) in zip(names, parts, strict=True) if kind == one} for _, _, one in parts]
    groups += [{name for name, (start, _, _) in zip(names, parts, strict=True) if start == one} for one, _, _ in parts]
    kept = sorted({tuple(name in group for name in names) for group in groups})
    return torch.tensor(kept, dtype=torch.float)
