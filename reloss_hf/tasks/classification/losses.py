"""Losses on classes: one of several, or several labels at once.

| feature | shape | meaning |
|---|---|---|
| `logits` | `(n, C)` | logits of the classes |
| `labels` | `(n,)` or `(n, C)` | the class, or -100 for no class; or 0/1 for each of several labels |

| loss | learned | in the batch |
|---|---|---|
| `ClassCosts` | the cost of a miss and of a false alarm, by class, in the log-probability | a mean over examples |
| `ClassProbabilityCosts` | the same costs, in the probability | a mean over examples |
| `SoftCounts` | a ratio of hits and errors | of the whole batch |
| `ClassCrossEntropy` | nothing | a mean over examples |

The hand-made losses are in `hand_made`. No loss but `LabelSmoothedCrossEntropy` rises with the probability of a gold
label.
"""

import torch
from torch import Tensor

from ...classes.costs import ErrorCosts
from ...classes.losses import DecisionLoss, has_several, labelled, probabilities
from ...classes.soft_counts import LearnedCounts
from ...surrogate import Features


class ClassLoss(DecisionLoss):
    """Base of the losses on classes."""

    task = "classification"
    about = "is for the classes of the model that it was learned with"


class ClassCrossEntropy(ClassLoss):
    """Cross-entropy as a loss of its own: that of the class, or the mean over several labels."""

    def score(self, features: Features) -> Tensor:
        return self.cross_entropy(features)


class ClassCosts(ErrorCosts, ClassLoss):
    __doc__ = ErrorCosts.__doc__.replace("Base of losses with a cost", "A cost")


class ClassProbabilityCosts(ClassCosts):
    """The same costs in the probability: `a_c (1 - p_c)` for a gold label `c`, `b_c p_c` for any other.

    It ranks well, and it trains worse: an example that is far from right has hardly any gradient.

    Args:
        classes: the number of classes.
    """

    def settle(self, features: Features, earlier: ClassCosts | None = None) -> None:
        """The shift stays 0. This loss is least where probabilities are 0 or 1."""

    def foreseen(self, features: Features) -> None:
        """Not known, for the same reason."""

    def _errors(self, features: Features, targets: Tensor) -> Tensor:
        share = 1 / self._fitting(features["logits"]).shape[1] if has_several(features) else 1.0
        found, others = probabilities(features), (1 - targets) * labelled(features).unsqueeze(1)
        return share * torch.stack([targets * (1 - found), others * found], dim=1)


class SoftCounts(LearnedCounts, ClassLoss):
    __doc__ = LearnedCounts.__doc__.replace("Base of losses that are one", "One")
