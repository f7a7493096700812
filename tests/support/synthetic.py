"""Predictions that no model made, from which a surrogate learns much."""

import torch
from torch.nn.functional import logsigmoid

from reloss_hf import Predictions

LENGTH = 10


def synthetic(examples=200, candidates=4, seed=0):
    """A model that gets better from candidate to candidate. A token is predicted right where its probability is above
    one half; some are hopeless, which cross-entropy minds much and BLEU does not."""
    draw = torch.Generator().manual_seed(seed)
    hopeless = 15 * (torch.rand(candidates * examples, LENGTH, generator=draw) < 0.15)
    quality = torch.arange(candidates).repeat_interleave(examples).unsqueeze(1)
    scores = 2 * torch.randn(candidates * examples, LENGTH, generator=draw) + 0.5 * quality - hopeless
    references = [" ".join(f"w{i}x{t}" for t in range(LENGTH)) for i in range(examples)] * candidates
    predictions = [
        " ".join(word if right else "wrong" for word, right in zip(reference.split(), row, strict=True))
        for reference, row in zip(references, (scores > 0).tolist(), strict=True)
    ]
    features = {"target_log_probs": logsigmoid(scores), "target_mask": torch.ones(scores.shape, dtype=torch.bool)}
    return Predictions(features, predictions, references, quality.flatten())
