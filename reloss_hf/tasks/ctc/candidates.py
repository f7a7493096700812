"""Candidates of the same utterances: the logits of frames, perturbed as another training might change them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...surrogate import Features
from .lattice import BLANK, loss_and_alignment

# In standard deviations of the logits.
_SCALE = 0.3


def perturbed(
    features: Features, count: int, generator: torch.Generator, strength: float = 1.0, names: Sequence[str] = ()
) -> Features:
    """`count` copies of some utterances, one after the other.

    Each copy has a shift of the blank, so that characters are deleted or inserted, and shifts of the characters, so
    that they are mistaken. It is sharper or flatter, and has a step to the alignment of the target or away from it.
    Each utterance has a shift of the blank of its own, and each frame has noise.

    Args:
        features: see `lattice`.
        count: number of copies.
        generator: draws the perturbations.
        strength: factor of the perturbations. It is 1, or more if 1 changes no prediction.
        names: not read.

    Returns:
        The features of `count · n` utterances, without frames behind the longest.
    """
    longest = int(features["frame_mask"].any(0).sum())
    features = features | {name: features[name][:, :longest] for name in ("frame_logits", "frame_mask")}
    logits, known = features["frame_logits"].float(), features["frame_mask"]
    utterances, _, classes = logits.shape
    blank = torch.zeros(classes)
    blank[BLANK] = 1

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def of_classes() -> Tensor:
        if "classes" not in features:
            return normal(count, 1, 1, classes)
        return normal(count, int(features["classes"].max()) + 1)[:, features["classes"]].unsqueeze(2)

    wanted = loss_and_alignment(features)[1] - logits.softmax(-1)
    shift = normal(count, 1, 1, 1) * blank + 0.5 * of_classes()
    of_utterances = 0.5 * normal(count, 1, 1, 1).abs() * normal(count, utterances, 1, 1) * blank
    step = normal(count, 1, 1, 1) * wanted
    noise = 0.5 * normal(count, 1, 1, 1).abs() * normal(count, *logits.shape)
    centred = logits - logits.mean(-1, keepdim=True)
    spread = centred[known].std()
    copies = (0.1 * strength * normal(count, 1, 1, 1)).exp() * centred
    copies = copies + strength * _SCALE * spread * (shift + of_utterances + step + noise)
    rest = {name: value.repeat(count, 1) for name, value in features.items() if name != "frame_logits"}
    return {"frame_logits": copies.flatten(0, 1), **rest}
