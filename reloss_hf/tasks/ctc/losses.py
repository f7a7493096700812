"""Losses on the frames of speech, under the CTC lattice. See `lattice` for the features.

| feature | shape | meaning |
|---|---|---|
| `sample_labels` | `(n, S, T)` | texts drawn from the model, as characters, 0 behind them |
| `sample_mask` | `(n, S)` | the texts that do not repeat an earlier one |
| `sample_errors` | `(n, S)` | word errors of each text, as a count |

| loss | learned | reads | in the batch |
|---|---|---|---|
| `CtcLoss` | nothing | target | a mean over characters |
| `CtcCosts` | the costs of CTC, deletions, substitutions and insertions | target | a mean over characters |
| `CtcNgramLoss` | nothing | target | a mean over characters |
| `ExpectedWerLoss` | nothing | sampled texts | a mean over characters |

The loss of an utterance is divided by the number of characters of its target, and its weight is this number.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ...surrogate import CountedLoss, Features, SurrogateLoss
from .lattice import BLANK, emissions, log_probabilities, loss_and_alignment, pair_counts, text_loss

# The largest distance of a log-cost from the mean. Costs that are further apart rank well and train worse.
_LARGEST = 1.4


class FrameLoss(SurrogateLoss):
    """Base of the losses on frames."""

    task = "ctc"
    reads = ("frame_logits", "frame_mask", "labels")
    scores = ("frame_logits",)
    base_loss_name = "CTC"
    about = "depends on no alphabet"
    limits = (
        "It orders predictions like those that it was learned from. Learn it again for another model or other speech.",
        "Switch to it late, when CTC gains slowly.",
    )

    @abstractmethod
    def score(self, features: Features) -> Tensor: ...

    @staticmethod
    def cross_entropy(features: Features) -> Tensor:
        """CTC: `-log P(target)` for each character of the target, shape `(n,)`."""
        return text_loss(features) / characters(features)

    @staticmethod
    def weights(features: Features) -> Tensor:
        """The number of characters of each target; 1 for an empty one."""
        return characters(features)


class CtcLoss(FrameLoss):
    """CTC as a loss of its own: `-log P(target)`, the sum over all alignments.

    References:
        Graves et al., *Connectionist Temporal Classification*, ICML 2006.
    """

    def score(self, features: Features) -> Tensor:
        return self.cross_entropy(features)


class CtcCosts(CountedLoss, FrameLoss):
    """CTC, and a cost for each kind of error: characters that are deleted, substituted or inserted.

    The alignment `q_t(c) = P(c at frame t | target)` says what each frame should be: a character of the target, or a
    blank. It is computed from the model's own probabilities `p`, without a gradient. `p` and `q` are equal if all
    likely paths give the target, also where its characters have no certain place. So `p_t - q_t` tells the errors of a
    frame: deletions, what a blank has too much, `max(0, p_t(blank) - q_t(blank))`; insertions, what it has too little;
    and substitutions, what one character has in place of another, the rest of `Σ_c |p_t(c) - q_t(c)| / 2`. Each is
    squared, so that frames without an error have no gradient. All are summed over frames and divided by the number of
    characters of the target.

    The costs of the errors and of CTC are learned. They are positive, so the loss never rewards a lower probability of
    what the alignment wants. CTC trains what is far from right, the expected errors what is nearly decided.

    Attributes:
        costs: of CTC and of the three errors, by `KINDS`, shape `(4,)`. Their geometric mean is 1.
    """

    KINDS = ("CTC", "deletion", "substitution", "insertion")

    def __init__(self):
        super().__init__()
        self.log_costs = nn.Parameter(torch.zeros(len(self.KINDS)))

    @property
    def costs(self) -> Tensor:
        logarithms = self.log_costs - self.log_costs.mean()
        return (_LARGEST * (logarithms / _LARGEST).tanh()).exp()

    def statistics(self, features: Features) -> Tensor:
        """CTC and the expected errors of each utterance, in the order of `KINDS`, shape `(n, 4)`."""
        losses, wanted = loss_and_alignment(features)
        excess = (log_probabilities(features).exp() - wanted) * wanted.sum(-1, keepdim=True)  # 0 without an alignment
        blank = excess[..., BLANK]
        errors = (blank.clamp(min=0), excess.abs().sum(-1) / 2 - blank.abs(), (-blank).clamp(min=0))
        counts = torch.stack([losses, *(values.square().sum(1) for values in errors)], dim=1)
        return counts / characters(features).unsqueeze(1)

    def of_statistics(self, mean: Tensor) -> Tensor:
        return (self.costs * mean).sum(-1)

    def regulariser(self) -> Tensor:
        """A penalty that keeps the costs near each other."""
        return 0.01 * self.log_costs.square().sum()


class CtcNgramLoss(FrameLoss):
    """One minus the expected F1 of single characters and of pairs of neighbours, at any place of the output.

    Counts are expected under the model, which is exact for CTC, because its frames are independent. A match is clipped
    at the count in the target. The loss does not care where a character stands.

    References:
        Shao and Feng, *Non-Monotonic Latent Alignments for CTC-Based Non-Autoregressive Machine Translation*, NeurIPS
        2022.
    """

    def score(self, features: Features) -> Tensor:
        mask, labels = features["frame_mask"], features["labels"].clamp(min=0)
        known = labels > BLANK
        log_probs = log_probabilities(features)
        ends = torch.full_like(log_probs[0, 0], float("-inf"))
        ends[BLANK] = 0.0
        log_probs = torch.where(mask.unsqueeze(-1), log_probs, ends)
        counts = emissions(log_probs).sum(1)
        length = counts[:, 1:].sum(1)
        equal = (labels.unsqueeze(2) == labels.unsqueeze(1)) & known.unsqueeze(1)
        losses, exists = [1 - _f1(counts.gather(1, labels), equal, known, length)], [known.any(1)]
        if labels.shape[1] > 1:
            pairs = known[:, 1:]
            same = equal[:, 1:, 1:] & equal[:, :-1, :-1]
            losses.append(1 - _f1(pair_counts(log_probs, labels), same, pairs, (length - 1).clamp(min=0)))
            exists.append(pairs.any(1))
        exists = torch.stack(exists, dim=1).float()
        return (torch.stack(losses, dim=1) * exists).sum(1) / exists.sum(1).clamp(min=1)


class ExpectedWerLoss(FrameLoss):
    """The expected word errors over texts drawn from the model: minimum word error rate training.

    The probabilities of the texts are normalised over the distinct ones. Every step draws the texts and computes their
    probabilities, so it takes longer than CTC.

    References:
        Prabhavalkar et al., *Minimum Word Error Rate Training for Attention-Based Sequence-to-Sequence Models*, ICASSP
        2018.
    """

    reads = (*FrameLoss.reads, "sample_labels", "sample_mask", "sample_errors")

    def score(self, features: Features) -> Tensor:
        samples = features["sample_labels"]
        repeated = {
            name: features[name].repeat_interleave(samples.shape[1], 0) for name in ("frame_logits", "frame_mask")
        }
        log_probs = -text_loss(repeated, samples.flatten(0, 1)).view(samples.shape[:2])
        probs = log_probs.masked_fill(~features["sample_mask"], float("-inf")).softmax(1)
        return (probs * features["sample_errors"]).sum(1) / characters(features)


def characters(features: Features) -> Tensor:
    """The number of characters of each target, at least 1, shape `(n,)`."""
    return (features["labels"] > BLANK).sum(1).clamp(min=1).float()


def _f1(counts: Tensor, equal: Tensor, known: Tensor, predicted: Tensor) -> Tensor:
    """The expected F1 of n-grams, shape `(n,)`.

    Args:
        counts: expected counts of the n-gram at each place of the target, `(n, L)`.
        equal: which n-grams of the target are equal, `(n, L, L)`.
        known: which places have one, `(n, L)`.
        predicted: the expected number of n-grams of the output, `(n,)`.
    """
    in_target = equal.sum(2).clamp(min=1).float()
    matches = (torch.minimum(counts, in_target) / in_target * known).sum(1)
    return 2 * matches / (predicted + known.sum(1)).clamp(min=1e-6)
