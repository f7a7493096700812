"""The loss that learns when to abstain. See `losses` for the features."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ...costs import KindCosts, best_shift
from ...surrogate import Features
from .losses import SpanSurrogate
from .spans import all_gold_log_probs, any_gold_log_probs, gold_is_null, gold_shares, null_log_odds

# So many starts and ends of the wrong kind outweigh that the null score is moved at all.
_KEPT = 2.0


class AbstentionCosts(KindCosts, SpanSurrogate):
    """A cost for each kind of error of a model that may abstain: `a` for an answer where there is none, `b` for no
    answer where there is one, and `c` for a wrong span.

    `p_0` is the probability of the null position, and `p_G` that of the gold answers together, both as the start and as
    the end; the loss is the mean of the two. If a question has no answer, the loss is `-a log p_0`. If it has one, the
    loss is `-b log(1 - p_0) - c log(p_G / (1 - p_0))`. With several gold answers, `-min(b, c) log(p_g / p_G)` is added,
    its mean over them. An answer that several annotators gave counts several times. So with equal costs this is
    cross-entropy with all answers.

    More probability for a gold answer, or for the null position if there is no answer, never costs more.

    In training the logits of the null position are moved down by a shift, that of starts as that of ends; see
    `ShiftedCosts`.

    Learned: the three costs, the shift, and the scale of the loss.
    """

    kinds = ("an answer where there is none", "no answer where there is one", "a wrong span")
    reads = (*SpanSurrogate.reads, "null_mask")
    about = "is for the share of questions without an answer that it was learned with"
    limits = (
        "Its costs fit the model and the data that it was learned with. For others, learn it again.",
        "It moves the model to abstain as the metric rewards, so the probabilities are no longer calibrated.",
    )

    def statistics(self, features: Features) -> Tensor:
        """The loss by each kind of error, and by the choice among several gold answers, without the shift, shape
        `(n, 4)`."""
        odds, is_null = null_log_odds(features), gold_is_null(features)
        answering, abstaining = softplus(-odds).mean(1), softplus(odds).mean(1)  # -log p_0, -log(1 - p_0)
        each = -(all_gold_log_probs(features).mean(2) * gold_shares(features)).sum(1)
        together = -any_gold_log_probs(features).mean(1)
        found = torch.stack([answering, abstaining, together - abstaining, each - together], dim=1)
        kinds = torch.stack([is_null, ~is_null, ~is_null, ~is_null], dim=1)
        return torch.where(kinds & (self.weights(features) > 0).unsqueeze(1), found, 0.0)

    def of_statistics(self, mean: Tensor) -> Tensor:
        costs = self.costs
        # A larger last cost would punish probability that moves from the null position to one of several answers.
        return (torch.cat([costs, costs[1:].amin(0, keepdim=True)]) * mean).sum(-1)

    def moved(self, features: Features, move: Tensor) -> Features:
        return features | {name: features[name] + move * features["null_mask"] for name in self.scores}

    def best_move(self, features: Features) -> Tensor:
        return self._best_move(features, gold_is_null(features).float().unsqueeze(1).expand(-1, 2))

    def own_move(self, features: Features) -> Tensor:
        return self._best_move(features, null_log_odds(features).sigmoid())

    def _best_move(self, features: Features, is_null: Tensor) -> Tensor:
        kept = self.weights(features) > 0
        answering, abstaining, _ = self.costs.detach()
        return best_shift(null_log_odds(features)[kept], is_null[kept], answering, abstaining, _KEPT)
