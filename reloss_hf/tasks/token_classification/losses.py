"""Losses on the tags of sentences.

| feature | shape | meaning |
|---|---|---|
| `logits` | `(n, L, C)` | logits of the tags of each token |
| `labels` | `(n, L)` | the tag of each token, or -100 for a token that counts for nothing |

| loss | learned | in the batch |
|---|---|---|
| `TagCosts` | the cost of a miss and of a false alarm, by tag | a mean over labelled tokens |
| `TagSoftCounts` | a ratio of hits and errors | of the whole batch |
| `TagCrossEntropy` | nothing | a mean over labelled tokens |

The loss of an example, a sentence, is the mean over its labelled tokens. Its weight is their number. The hand-made
losses are in `hand_made`.
"""

from torch import Tensor

from ...classes.costs import ErrorCosts
from ...classes.losses import DecisionLoss
from ...classes.soft_counts import LearnedCounts
from ...surrogate import Features


class TagLoss(DecisionLoss):
    """Base of the losses on tags."""

    task = "token_classification"
    about = "is for the tags of the model that it was learned with"


class TagCrossEntropy(TagLoss):
    """Cross-entropy as a loss of its own: the mean over the labelled tokens."""

    def score(self, features: Features) -> Tensor:
        return self.cross_entropy(features)


class TagCosts(ErrorCosts, TagLoss):
    """A cost for each kind of error: `-a_c log p_c` for a gold tag `c`, `-b_c log(1 - p_c)` for any other.

    The cost of an `O` that is taken for an entity, and of an entity that is taken for `O`, trade precision against
    recall. See `ClassCosts` for how the costs are learned.

    Args:
        classes: the number of tags.
    """


class TagSoftCounts(LearnedCounts, TagLoss):
    __doc__ = LearnedCounts.__doc__.replace("Base of losses that are one", "One")
