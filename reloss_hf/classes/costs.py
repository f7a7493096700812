"""A cost for each kind of error, learned from a metric."""

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from ..costs import ShiftedCosts, costs_of, minimise
from ..surrogate import Features
from .losses import DecisionLoss, decisions, has_several, labelled, mean_of_decisions, probabilities, targets_of

# If a probability is nearer to 1 than this, the gradient of log(1 - p) is not worth following.
_NEAREST = 1e-6
# As many decisions for a class outweigh the shift of the other classes. From 3 to 30 it makes no difference.
_SHARED = 10.0
# Decisions that the shift is found on, at most.
_MOST = 20_000


class ErrorCosts(ShiftedCosts, DecisionLoss):
    """Base of losses with a cost for each kind of error: `-a_c log p_c` for a gold label `c`, `-b_c log(1 - p_c)` for
    any other.

    Near the current model, a metric of counts is linear in its errors. So the right loss has a cost for each kind of
    error, and the costs are the slope of the metric. The logarithm of a cost is learned as a sum: a mean, a slope in
    the counts of the class among the decisions (how many have it, how many are predicted, how many of these are right),
    and a small remainder of the class. The costs of rare classes therefore come mostly from what all classes share.

    In training the logits are moved down by a shift of each class; see `ShiftedCosts`.

    Args:
        classes: the number of classes.

    Attributes:
        costs: of a miss and of a false alarm of each class, positive, shape `(2, classes)`.
        shift: what is taken from the logits of each class, -3.7 to 3.7, shape `(classes,)`; 0 until it is learned.

    References:
        Koyejo et al., *Consistent Binary Classification with Generalized Performance Metrics*, NeurIPS 2014.
    """

    def __init__(self, classes: int):
        super().__init__(classes)
        self.classes = classes
        counted = 3 if classes > 2 else 1
        self.means = nn.Parameter(torch.zeros(2, 1))
        self.slopes = nn.Parameter(torch.zeros(2, counted))
        self.remainders = nn.Parameter(torch.zeros(2, classes))
        self.register_buffer("counts", torch.zeros(classes, counted))
        self.register_buffer("seen", torch.ones(classes))

    @property
    def costs(self) -> Tensor:
        """The costs of a miss and of a false alarm of each class, shape `(2, classes)`. Their geometric mean is about
        1."""
        average = (self.remainders * self.seen).sum(1, keepdim=True) / self.seen.sum().clamp(min=1)
        remainders = torch.where(self.seen.bool(), self.remainders, average)
        return costs_of(self.means + self.slopes @ self.counts.T + remainders)

    def error_costs(self) -> dict[str, Tensor]:
        return dict(zip(("miss", "false alarm"), self.costs.detach().cpu(), strict=True))

    def observe(self, features: Features) -> None:
        """Count each class among the decisions, as standardised logarithms. A class without any stays at the mean."""
        targets = targets_of(features)
        predicted = decisions(features["logits"], has_several(features)) * labelled(features).unsqueeze(-1)
        counted = torch.stack([found.flatten(0, -2).sum(0) for found in (targets, predicted, predicted * targets)], 1)
        seen = counted[:, 0] > 0
        counted = (1 + counted[:, : self.counts.shape[1]]).log()
        counted = (counted - counted[seen].mean(0)) / counted[seen].std(0, correction=0).clamp(min=0.1)
        self.counts.copy_(counted * seen.unsqueeze(1))
        self.seen.copy_(seen)

    def moved(self, features: Features, move: Tensor) -> Features:
        return features | {"logits": self._fitting(features["logits"]) + move}

    def best_move(self, features: Features) -> Tensor:
        """Classes with few examples move with the others."""
        return self._best_move(features, targets_of(features))

    def own_move(self, features: Features) -> Tensor:
        return self._best_move(features, probabilities(features))

    def statistics(self, features: Features) -> Tensor:
        """The loss of a miss and of a false alarm of each class, without the shift, shape `(n, 2, classes)`."""
        return self._errors(features, targets_of(features))

    def _errors(self, features: Features, targets: Tensor) -> Tensor:
        logits = self._fitting(features["logits"])
        others = (1 - targets) * labelled(features).unsqueeze(-1)
        if has_several(features):
            missed, alarmed = -logsigmoid(logits) / self.classes, -logsigmoid(-logits) / self.classes
            return torch.stack([targets * missed, others * alarmed], dim=-2)
        log_probs = log_softmax(logits, -1)
        missed, alarmed = -log_probs, -log_of_others(log_probs)
        errors = (targets * missed, others * alarmed)
        return torch.stack([mean_of_decisions(found, features) for found in errors], dim=-2)

    def of_statistics(self, mean: Tensor) -> Tensor:
        return (self.costs * mean).sum((-2, -1))

    def regulariser(self) -> Tensor:
        """A penalty that keeps the remainders near 0 and the slopes small."""
        return 0.1 * self.remainders.square().mean() + 0.003 * self.slopes.square().sum()

    def _fitting(self, logits: Tensor) -> Tensor:
        if logits.shape[-1] != self.classes:
            raise ValueError(
                f"these costs are for {self.classes} classes, but the logits have {logits.shape[-1]}: learn them again"
            )
        return logits

    def _best_move(self, features: Features, targets: Tensor) -> Tensor:
        known, several, costs = labelled(features), has_several(features), self.costs.detach()
        spread = slice(None, None, 1 + int(known.sum()) // _MOST)
        logits, labels, targets = (
            values[known][spread] for values in (features["logits"], features["labels"], targets)
        )
        logits = logits.double()
        of_class = logits.new_zeros(self.classes, requires_grad=True)
        common = logits.new_zeros((), requires_grad=True)

        def move() -> Tensor:
            own = of_class * self.seen
            return common * several + own - (own.sum() / self.seen.sum().clamp(min=1)) * self.seen

        def loss() -> Tensor:
            errors = self._errors({"logits": logits + move(), "labels": labels}, targets)
            total = (costs * errors).sum() * (self.classes if several else 1)
            return total + _SHARED / 2 * (of_class * self.seen).square().sum()

        minimise(loss, [of_class, common])
        return move().detach().float()


def log_of_others(log_probs: Tensor) -> Tensor:
    """`log(1 - p)`, with a gradient of 0 where it is not worth following."""
    return (-log_probs.exp().clamp(max=1 - _NEAREST)).log1p()
