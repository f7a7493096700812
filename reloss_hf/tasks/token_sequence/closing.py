"""The loss that learns when a text ends, and its candidates of the same examples.

A text is closed by a mark, such as a full stop, behind which nothing comes but the end; or by the end itself. Both are
closing tokens. Metrics differ in how long they want outputs. The loss reads

| feature | shape | meaning |
|---|---|---|
| `closing_log_probs` | `(n, T)` | log-probability that a position has a closing token |
| `closing_mask` | `(n, T)` | the position where the target is closed |
| `open_mask` | `(n, T)` | the positions of target tokens that are no closing tokens |

Predictions also keep where the model may close its own output, so that they are decoded again without the model. The
output is the greedy one with closing tokens left out. A higher score of closing tokens can only close it at a position
with a higher margin than all before it. These are the stops:

| feature | shape | meaning |
|---|---|---|
| `stop_margins` | `(n, K)` | the highest score of a closing token minus that of others, rising |
| `stop_mask` | `(n, K)` | which stops there are; the last is where the output ends in any case |
| `stop_texts` | `(n, K, B)` | the text that is closed there, UTF-8, uint8, filled up with 0 |
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad, softplus

from ...costs import KindCosts, best_shift
from ...surrogate import Features
from ..functional import as_bytes, copied, from_bytes, log_odds, to_the_left
from .losses import NgramSurrogate, TokenSurrogate

# Of the closing tokens' scores, in logits.
_SCALE = 1.0
# So many texts of the wrong kind outweigh that closing tokens are moved at all.
_KEPT = 1.0
KEPT = ("stop_margins", "stop_mask", "stop_texts")


class ClosingCosts(KindCosts, TokenSurrogate):
    """A cost of closing a text too early, `a`, and of closing it too late, `b`.

    `p_c` is the probability of a closing token. The loss of a target is cross-entropy of which the part that tells
    closing tokens from others is weighted: `-a log(1 - p_c)` at tokens that do not close, and `-b log p_c` where the
    target is closed. With costs of 1 it is cross-entropy. More probability for a token of the target never costs more.

    In training the scores of closing tokens are moved down by a shift; see `ShiftedCosts`.

    Learned: the two costs, the shift, and the scale of the loss.
    """

    kinds = ("closed too early", "closed too late")
    reads = ("closing_log_probs", "closing_mask", "open_mask", *TokenSurrogate.reads)
    about = "is for the lengths of the targets that it was learned with"

    def statistics(self, features: Features) -> Tensor:
        """What each target costs by closing early, by closing late, and by the choice among tokens, a mean over its
        tokens, shape `(n, 3)`."""
        odds, opens, closes = log_odds(features["closing_log_probs"]), features["open_mask"], features["closing_mask"]
        early, late = softplus(odds) * opens, softplus(-odds) * closes
        rest = -features["target_log_probs"] * features["target_mask"] - early - late
        length = features["target_mask"].sum(1, keepdim=True).clamp(min=1)
        return torch.stack([early.sum(1), late.sum(1), rest.sum(1)], dim=1) / length

    def of_statistics(self, mean: Tensor) -> Tensor:
        return (torch.cat([self.costs, mean.new_ones(1)]) * mean).sum(-1)

    def moved(self, features: Features, move: Tensor) -> Features:
        return moved(features, move)

    def best_move(self, features: Features) -> Tensor:
        return self._best_move(features, features["closing_mask"].float())

    def own_move(self, features: Features) -> Tensor:
        return self._best_move(features, features["closing_log_probs"].exp())

    def _best_move(self, features: Features, closes: Tensor) -> Tensor:
        known = features["open_mask"] | features["closing_mask"]
        early, late = self.costs.detach()
        return best_shift(log_odds(features["closing_log_probs"])[known], closes[known], late, early, _KEPT)


class ClosingNgrams(ClosingCosts):
    """The n-gram match of `NgramSurrogate`, as it is written, of a model whose closing tokens are moved.

    The costs are learned as those of `ClosingCosts`. They say how far the scores of closing tokens are to be moved, and
    nothing else. In training these scores are moved down by that much, so the model learns to give the match when they
    are as high as the metric wants them.

    Learned: the two costs, the shift, and the scale of the loss.
    """

    def __init__(self):
        super().__init__()
        self.ngrams = NgramSurrogate().requires_grad_(False)

    def own_move(self, features: Features) -> Tensor:
        """Not at all, because the n-gram match has no costs."""
        return torch.zeros_like(self.shift)

    def score(self, features: Features) -> Tensor:
        return self.ngrams.score(self.moved(features, -self.shift))


def moved(features: Features, move: Tensor) -> Features:
    """The features of a model that adds this to the scores of closing tokens, shape `(n, 1)` or `(1,)`."""
    odds = log_odds(features["closing_log_probs"])
    closing = logsigmoid(odds + move)
    open_ = softplus(odds) - softplus(odds + move)
    targets = features["target_log_probs"] + torch.where(features["open_mask"], open_, 0.0)
    targets = targets + torch.where(features["closing_mask"], closing - logsigmoid(odds), 0.0)
    found = features | {"closing_log_probs": closing, "target_log_probs": targets}
    return found | ({"stop_margins": features["stop_margins"] + move} if "stop_margins" in features else {})


def perturbed(
    features: Features, count: int, generator: torch.Generator, strength: float = 1.0, names: Sequence[str] = ()
) -> Features:
    """`count` copies of some examples, one after the other. In each copy the scores of closing tokens are moved, all
    alike, and those of each example by more or less.

    Args:
        features: the features of `n` examples, with those to decode.
        count: number of copies.
        generator: draws the perturbations.
        strength: factor of the perturbations. It is 1, or more if 1 changes no prediction.
        names: not read.
    """
    examples = len(features["stop_margins"])

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    move = normal(count, 1, 1) + 0.5 * normal(count, 1, 1).abs() * normal(count, examples, 1)
    return moved(copied(features, count), strength * _SCALE * move.flatten(0, 1))


def decode(features: Features) -> np.ndarray:
    """The text of each example: that of the first stop with a margin above 0, or that of the last stop."""
    margins, mask = features["stop_margins"], features["stop_mask"]
    last = torch.arange(mask.shape[1]) == mask.sum(1, keepdim=True) - 1
    place = (mask & (margins > 0) | last).int().argmax(1)
    return np.array(from_bytes(features["stop_texts"][torch.arange(len(place)), place]), dtype=object)


def closing_features(logits: Tensor, labels: Tensor, closing: Tensor, is_end: Tensor) -> dict[str, Tensor]:
    """`closing_log_probs`, `closing_mask` and `open_mask` of targets.

    Args:
        logits: shape `(n, T, vocabulary)`.
        labels: shape `(n, T)`; -100 marks no target.
        closing: the closing tokens.
        is_end: where the labels have the end of the output, shape `(n, T)`.
    """
    known = labels != -100
    mark = torch.isin(labels, closing) & ~is_end
    ends_next = pad(is_end[:, 1:], (0, 1))
    closes = mark & ends_next
    closes |= is_end & ~pad(closes[:, :-1], (1, 0))
    logits = logits.float()
    closing_log_probs = logits[..., closing].logsumexp(-1) - logits.logsumexp(-1)
    opens = known & ~mark & ~is_end
    found = to_the_left(known, closing_log_probs.masked_fill(~known, 0.0), closes, opens)
    return dict(zip(("closing_log_probs", "closing_mask", "open_mask"), found, strict=True))


def stops_of(tokens: Tensor, margins: Tensor, closing: Tensor, text_of: Callable[[list[list[int]]], list[str]]) -> dict:
    """The stops of outputs from which closing tokens were left out.

    Args:
        tokens: the output, shape `(n, H)`.
        margins: how near each step was to a closing token, shape `(n, H)`.
        closing: that token, shape `(n, H)`.
        text_of: decodes rows of tokens.
    """
    before = pad(margins.cummax(1).values[:, :-1], (1, 0), value=-torch.inf)
    rising = margins > before
    places = [row.nonzero().flatten().tolist() for row in rising]
    rows = [
        [*output[:place], last[place]]
        for output, last, found in zip(tokens.tolist(), closing.tolist(), places, strict=True)
        for place in found
    ]
    texts, stops = iter(text_of(rows)), max(map(len, places))
    filled = [[next(texts) for _ in found] + [""] * (stops - len(found)) for found in places]
    mask = torch.arange(stops) < rising.sum(1, keepdim=True)
    return {
        "stop_margins": to_the_left(rising, margins)[0][:, :stops] * mask,
        "stop_mask": mask,
        "stop_texts": as_bytes([text for row in filled for text in row]).unflatten(0, mask.shape),
    }
