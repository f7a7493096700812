"""Losses on classes: one of several, or several labels at once.

| feature | shape | meaning |
|---|---|---|
| `logits` | `(n, C)` | logits of the classes |
| `labels` | `(n,)` or `(n, C)` | the class, or -100 for no class; or 0/1 for each of several labels |

| loss | learned | in the batch |
|---|---|---|
| `ClassCosts` | the cost of a miss and of a false alarm, by class | a mean over examples |
| `ClassCrossEntropy` | nothing | a mean over examples |

The hand-made losses are in `hand_made`. No loss but `LabelSmoothedCrossEntropy` rises with the probability of a gold
label.
"""

from torch import Tensor

from ...classes.costs import ErrorCosts
from ...classes.losses import DecisionLoss
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
