"""Losses on classes: one of several, or several labels at once.

| feature | shape | meaning |
|---|---|---|
| `logits` | `(n, C)` | logits of the classes |
| `labels` | `(n,)` or `(n, C)` | the class, or -100 for no class; or 0/1 for each of several labels |

| loss | learned | in the batch |
|---|---|---|
| `ClassCosts` | the cost of a miss and of a false alarm, by class, in the log-probability | a mean over examples |
| `ClassProbabilityCosts` | the same costs, in the probability | a mean over examples |
| `SoftCounts`, in `soft_counts` | a ratio of hits and errors | of the whole batch |
| `ClassCrossEntropy` | nothing | a mean over examples |

The hand-made losses are in `hand_made`. No loss but `LabelSmoothedCrossEntropy` rises with the probability of a gold
label.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax, logsigmoid, one_hot

from ...surrogate import CountedLoss, Features, SurrogateLoss, weighted_mean

IGNORED = -100
# If a probability is nearer to 1 than this, the gradient of log(1 - p) is not worth following.
_NEAREST = 1e-6
# The largest distance of a log-cost from the mean, and the largest shift. Every cost stays below 40 times the others.
_LARGEST = 3.7
# As many examples of a class outweigh the shift of the other classes. From 3 to 30 it makes no difference.
_SHARED = 10.0


class ClassLoss(SurrogateLoss):
    """Base of the losses on classes."""

    task = "classification"
    reads = ("logits", "labels")
    scores = ("logits",)
    about = "is for the classes of the model that it was learned with"
    limits = (
        "Its costs fit the model and the data that it was learned with. For others, learn it again.",
        "It moves decisions to those that the metric rewards, so the probabilities are no longer calibrated.",
    )

    @abstractmethod
    def score(self, features: Features) -> Tensor: ...

    @staticmethod
    def cross_entropy(features: Features) -> Tensor:
        logits, labels = features["logits"].float(), features["labels"]
        if labels.ndim == 2:
            return binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").mean(1)
        return cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")

    @staticmethod
    def to_logits(log_probs: Tensor) -> Tensor:
        return log_probs

    @staticmethod
    def from_logits(logits: Tensor) -> Tensor:
        return logits

    @staticmethod
    def weights(features: Features) -> Tensor:
        """1 for each example with a label."""
        return labelled(features["labels"]).float()

    def target_weights(self, features: Features) -> tuple[Tensor, Tensor]:
        """The probability of each gold label, and the slope of the loss in its logit, divided by the slope of
        cross-entropy."""
        slopes = []
        for loss in (self.batch_loss, lambda given: weighted_mean(self.cross_entropy(given), self.weights(given))):
            logits = features["logits"].clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(features | {"logits": logits}), logits)
            slopes.append(slope)
        gold = targets_of(features) > 0
        gold &= slopes[1].abs() > 1e-4 * slopes[1].abs().amax()  # a certain target cannot gain: its weight is 0 / 0
        return probabilities(features)[gold], (slopes[0] / slopes[1])[gold]


class ClassCrossEntropy(ClassLoss):
    """Cross-entropy as a loss of its own: that of the class, or the mean over several labels."""

    def score(self, features: Features) -> Tensor:
        return self.cross_entropy(features)


class ClassCosts(CountedLoss, ClassLoss):
    """A cost for each kind of error: `-a_c log p_c` for a gold label `c`, `-b_c log(1 - p_c)` for any other.

    Near the current model, a metric of counts is linear in its errors. So the right loss has a cost for each kind of
    error, and the costs are the slope of the metric. The logarithm of a cost is learned as a sum: a mean, a slope in
    the counts of the class among the examples (how many have it, how many are predicted, how many of these are right),
    and a small remainder of the class. The costs of rare classes therefore come mostly from what all classes share.

    The costs hold for new examples. On examples that a model has fitted, they move its decisions less far, because few
    errors are left there. So in training the logits are moved down by a shift of each class, as in logit adjustment.
    The shift is the distance from where the costs lead a model that knows the probabilities to where the loss of
    held-out examples is least. If the costs are learned again, what is still missing is added to it.

    Args:
        classes: the number of classes.

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
        """Count each class among the examples, as standardised logarithms. A class without examples stays at the
        mean."""
        targets = targets_of(features)
        predicted = decisions(features["logits"], features["labels"].ndim == 2)
        counted = torch.stack([targets.sum(0), predicted.sum(0), (predicted * targets).sum(0)], dim=1)
        counted = (1 + counted[:, : self.counts.shape[1]]).log()
        seen = targets.sum(0) > 0
        counted = (counted - counted[seen].mean(0)) / counted[seen].std(0, correction=0).clamp(min=0.1)
        self.counts.copy_(counted * seen.unsqueeze(1))
        self.seen.copy_(seen)

    def settle(self, features: Features, earlier: "ClassCosts | None" = None) -> None:
        """Set the shift from held-out examples."""
        self._move = self._best_move(features, targets_of(features))
        shift = self._move - self._own_move(features)
        if earlier is not None:
            shift = shift + earlier.shift.to(shift) + earlier._own_move(features)
        self.shift.copy_(shift.clamp(-_LARGEST, _LARGEST))

    def foreseen(self, features: Features) -> Features | None:
        return None if self._move is None else features | {"logits": features["logits"] + self._move}

    def score(self, features: Features) -> Tensor:
        return self.of_statistics(
            self.statistics(features | {"logits": self._fitting(features["logits"]) - self.shift})
        )

    def statistics(self, features: Features) -> Tensor:
        """The loss of a miss and of a false alarm of each class, without the shift, shape `(n, 2, classes)`."""
        return self._errors(features, targets_of(features))

    def _errors(self, features: Features, targets: Tensor) -> Tensor:
        logits = self._fitting(features["logits"])
        if features["labels"].ndim == 2:
            missed, alarmed = -logsigmoid(logits) / self.classes, -logsigmoid(-logits) / self.classes
        else:
            log_probs = log_softmax(logits, -1)
            missed, alarmed = -log_probs, -(-log_probs.exp().clamp(max=1 - _NEAREST)).log1p()
        others = (1 - targets) * labelled(features["labels"]).unsqueeze(1)
        return torch.stack([targets * missed, others * alarmed], dim=1)

    def of_statistics(self, mean: Tensor) -> Tensor:
        return (self.costs * mean).sum((-2, -1))

    def regulariser(self) -> Tensor:
        """A penalty that keeps the remainders near 0 and the slopes small."""
        return 0.1 * self.remainders.square().mean() + 0.003 * self.slopes.square().sum()

    def _fitting(self, logits: Tensor) -> Tensor:
        if logits.shape[1] != self.classes:
            raise ValueError(
                f"these costs are for {self.classes} classes, but the logits have {logits.shape[1]}: learn them again"
            )
        return logits

    def _own_move(self, features: Features) -> Tensor:
        """How far the costs move the logits of a model whose probabilities are right."""
        known = labelled(features["labels"]).unsqueeze(1)
        return self._best_move(features, probabilities(features) * known)

    @torch.enable_grad()
    def _best_move(self, features: Features, targets: Tensor) -> Tensor:
        """What to add to the logits of each class so that the loss is least; classes with few examples move with the
        others. Shape `(classes,)`."""
        logits, weights, costs = features["logits"].double(), self.weights(features), self.costs.detach()
        of_class = torch.zeros_like(logits[0], requires_grad=True)
        common = torch.zeros_like(logits[0, 0], requires_grad=True)
        several = features["labels"].ndim == 2
        optimizer = torch.optim.LBFGS([of_class, common], max_iter=100, line_search_fn="strong_wolfe")

        def move() -> Tensor:
            own = of_class * self.seen
            return common * several + own - (own.sum() / self.seen.sum().clamp(min=1)) * self.seen

        def loss() -> Tensor:
            optimizer.zero_grad()
            errors = self._errors({"logits": logits + move(), "labels": features["labels"]}, targets)
            total = (weights * (costs * errors).sum((1, 2))).sum() * (self.classes if several else 1)
            total = total + _SHARED / 2 * (of_class * self.seen).square().sum()
            total.backward()
            return total

        optimizer.step(loss)
        return move().detach().float()


class ClassProbabilityCosts(ClassCosts):
    """The same costs in the probability: `a_c (1 - p_c)` for a gold label `c`, `b_c p_c` for any other.

    It ranks well, and it trains worse: an example that is far from right has hardly any gradient.

    Args:
        classes: the number of classes.
    """

    def settle(self, features: Features, earlier: ClassCosts | None = None) -> None:
        """The shift stays 0. This loss is least where probabilities are 0 or 1."""

    def _errors(self, features: Features, targets: Tensor) -> Tensor:
        logits = self._fitting(features["logits"])
        share, found = 1 / logits.shape[1] if features["labels"].ndim == 2 else 1.0, probabilities(features)
        others = (1 - targets) * labelled(features["labels"]).unsqueeze(1)
        return share * torch.stack([targets * (1 - found), others * found], dim=1)


def targets_of(features: Features) -> Tensor:
    """The gold labels as 0/1, float32 of shape `(n, C)`; all 0 for an example without a label."""
    logits, labels = features["logits"], features["labels"]
    if labels.ndim == 2:
        return labels.float()
    known = labelled(labels)
    return one_hot(labels.masked_fill(~known, 0).long(), logits.shape[-1]).float() * known.unsqueeze(1)


def labelled(labels: Tensor) -> Tensor:
    """Which examples have a label, shape `(n,)`."""
    return labels != IGNORED if labels.ndim == 1 else torch.ones_like(labels[:, 0], dtype=torch.bool)


def decisions(logits: Tensor, several: bool) -> Tensor:
    """The predictions as 0/1, float32 of shape `(..., C)`: the labels with `p > 0.5`, or the arg-max."""
    return (logits > 0).float() if several else one_hot(logits.argmax(-1), logits.shape[-1]).float()


def probabilities(features: Features) -> Tensor:
    """The probabilities of the classes, shape `(n, C)`."""
    logits = features["logits"].float()
    return logits.sigmoid() if features["labels"].ndim == 2 else logits.softmax(-1)
