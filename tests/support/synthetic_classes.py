"""Predictions of a classifier that no model made: rare labels, too seldom predicted."""

import torch

from reloss_hf import Predictions

FREQUENCIES = (0.5, 0.3, 0.15, 0.08, 0.04, 0.02)


def synthetic_classes(examples=800, models=2, several=True, seed=0):
    """A calibrated model at several times, on the same examples; a predicted label needs `p > 0.5`."""
    draw = torch.Generator().manual_seed(seed)
    shares = torch.tensor(FREQUENCIES)
    labels = (torch.rand(examples, len(shares), generator=draw) < shares).long()
    if not several:
        labels = torch.multinomial(shares, examples, replacement=True, generator=draw)
    parts = []
    for model in range(models):
        targets = labels if several else torch.eye(len(shares))[labels]
        evidence = (1.5 + 0.3 * model) * (targets + 0.8 * torch.randn(targets.shape, generator=draw))
        logits = shares.logit() + evidence if several else shares.log() + evidence
        predictions = (logits > 0).long() if several else logits.argmax(1)
        features = {"logits": logits.float(), "labels": labels}
        parts.append(Predictions(features, predictions.tolist(), labels.tolist(), torch.full((examples,), model)))
    return Predictions.concatenate(parts)
