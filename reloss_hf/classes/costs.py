"""A cost for each kind of error, learned from a metric."""

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from ..surrogate import CountedLoss, Features
from .losses import DecisionLoss, decisions, has_several, labelled, mean_of_decisions, probabilities, targets_of

# If a probability is nearer to 1 than this, the gradient of log(1 - p) is not worth following.
_NEAREST = 1e-6
# The largest distance of a log-cost from the mean, and the largest shift. Every cost stays below 40 times the others.
_LARGEST = 3.7
# As many decisions for a class outweigh the shift of the other classes. From 3 to 30 it makes no difference.
_SHARED = 10.0
# Decisions that the shift is found on, at most.
_MOST = 20_000


class ErrorCosts(CountedLoss, DecisionLoss):
    """Base of losses with a cost for each kind of error: `-a_c log p_c` for a gold label `c`, `-b_c log(1 - p_c)` for
    any other.

    Near the current model, a metric of counts is linear in its errors. So the right loss has a cost for each kind of
    error, and the costs are the slope of the metric. The logarithm of a cost is learned as a sum: a mean, a slope in
    the counts of the class among the decisions (how many have it, how many are predicted, how many of these are right),
    and a small remainder of the class. The costs of rare classes therefore come mostly from what all classes share.

    The costs hold for new examples. On examples that a model has fitted, they move its decisions less far, because few
    errors are left there. So in training the logits are moved down by a shift of each class, as in logit adjustment.
    The shift is the distance from where the costs lead a model that knows the probabilities to where the loss of
    held-out examples is least. If the costs are learned again, what is still missing is added to it. `eval_loss` has
    the shift, too; ranking and diagnosis do not.

    Args:
        classes: the number of classes.

    Attributes:
        costs: of a miss and of a false alarm of each class, positive, shape `(2, classes)`.
        shift: what is taken from the logits of each class, -3.7 to 3.7, shape `(classes,)`; 0 until it is learned.

    References:
        Koyejo et al., *Consistent Binary Classification with Generalized Performance Metrics*, NeurIPS 2014. Byrd and
        Lipton, *What is the Effect of Importance Weighting in Deep Learning?*, ICML 2019. Menon et al., *Long-tail
        learning via logit adjustment*, ICLR 2021.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes
        counted = 3 if classes > 2 else 1
        self.means = nn.Parameter(torch.zeros(2, 1))
        self.slopes = nn.Parameter(torch.zeros(2, counted))
        self.remainders = nn.Parameter(torch.zeros(2, classes))
        self.register_buffer("counts", torch.zeros(classes, counted))
        self.register_buffer("seen", torch.ones(classes))
        self.register_buffer("shift", torch.zeros(classes))
        self._move: Tensor | None = None

    @property
    def costs(self) -> Tensor:
        """The costs of a miss and of a false alarm of each class, shape `(2, classes)`. Their geometric mean is about
        1."""
        average = (self.remainders * self.seen).sum(1, keepdim=True) / self.seen.sum().clamp(min=1)
        remainders = torch.where(self.seen.bool(), self.remainders, average)
        logarithms = self.means + self.slopes @ self.counts.T + remainders
        logarithms = logarithms - logarithms.mean()
        return (_LARGEST * (logarithms / _LARGEST).tanh()).exp()

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

    def settle(self, features: Features, earlier: "ErrorCosts | None" = None) -> None:
        """Set the shift from held-out examples."""
        self._move = self._best_move(features, targets_of(features))
        shift = self._move - self._own_move(features)
        if earlier is not None:
            shift = shift + earlier.shift.to(shift) + earlier._own_move(features)
        self.shift.copy_(shift.clamp(-_LARGEST, _LARGEST))

    def foreseen(self, features: Features) -> Features | None:
        return None if self._move is None else features | {"logits": features["logits"] + self._move}

    def score(self, features: Features) -> Tensor:
        shifted = features | {"logits": self._fitting(features["logits"]) - self.shift}
        return self.of_statistics(self.statistics(shifted))

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

    def _own_move(self, features: Features) -> Tensor:
        """How far the costs move the logits of a model whose probabilities are right."""
        return self._best_move(features, probabilities(features))

    @torch.enable_grad()
    def _best_move(self, features: Features, targets: Tensor) -> Tensor:
        """What to add to the logits of each class so that the loss is least; classes with few examples move with the
        others. Shape `(classes,)`."""
        known, several, costs = labelled(features), has_several(features), self.costs.detach()
        spread = slice(None, None, 1 + int(known.sum()) // _MOST)
        logits, labels, targets = (
            values[known][spread] for values in (features["logits"], features["labels"], targets)
        )
        logits = logits.double()
        of_class = logits.new_zeros(self.classes, requires_grad=True)
        common = logits.new_zeros((), requires_grad=True)
        optimizer = torch.optim.LBFGS([of_class, common], max_iter=100, line_search_fn="strong_wolfe")

        def move() -> Tensor:
            own = of_class * self.seen
            return common * several + own - (own.sum() / self.seen.sum().clamp(min=1)) * self.seen

        def loss() -> Tensor:
            optimizer.zero_grad()
            errors = self._errors({"logits": logits + move(), "labels": labels}, targets)
            total = (costs * errors).sum() * (self.classes if several else 1)
            total = total + _SHARED / 2 * (of_class * self.seen).square().sum()
            total.backward()
            return total

        optimizer.step(loss)
        return move().detach().float()


def log_of_others(log_probs: Tensor) -> Tensor:
    """`log(1 - p)`, with a gradient of 0 where it is not worth following."""
    return (-log_probs.exp().clamp(max=1 - _NEAREST)).log1p()
