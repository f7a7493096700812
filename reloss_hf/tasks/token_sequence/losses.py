"""Losses on token sequences: translation, summarisation, any text that a model generates.

They read the log-probabilities that the model gives to the target tokens. These are moved to the left, past padding and
prompt, so that position `t` is the `t`-th token of the target:

| feature | shape | meaning |
|---|---|---|
| `target_log_probs` | `(n, T)` | log-probability of each target token, given the target before it; 0 at padding |
| `target_mask` | `(n, T)` | the positions of target tokens |
| `text_mask` | `(n, T)` | the positions of target tokens other than the end of the output |
| `target_classes` | `(n, T)` | the first position that holds the same token; it tells which tokens are equal |
| `prefix_log_probs` | `(n, H, T)` | log-probability of target token `j` as token `t` of the model's own output |
| `prefix_mask` | `(n, H)` | the positions of tokens of the model's own output |
| `draft_log_probs` | `(n, T, T)` | log-probability of target token `j` as token `t` after the draft |
| `sample_log_probs` | `(n, S)` | log-probability of each output sampled from the model |
| `sample_mask` | `(n, S)` | the outputs that do not repeat an earlier one |
| `sample_bleu` | `(n, S)` | sentence BLEU of each output, 0 to 1 |
| `sample_errors` | `(n, S)` | word errors of each output, as a count |

A draft is the most probable token after each beginning of the target, but the end only where the target ends. Nothing
is decoded for it.

| loss | learned | reads | order of tokens matters |
|---|---|---|---|
| `TokenCrossEntropy` | nothing | target | no |
| `TokenErrorProbability` | nothing | target | no |
| `MinimumRiskLoss`, `MinimumWerLoss` | nothing | sampled outputs | yes |
| `NgramSurrogate` | 5 numbers | target | yes |
| `LogNgramSurrogate` | 6 numbers | target | yes |
| `PrefixNgramSurrogate` | 6 numbers | own output | yes |
| `OwnOutputSurrogate` | 6 numbers | own output and target | yes |
| `DraftSurrogate` | 6 numbers | draft | yes |
| `TransformerTokenSurrogate` | a network | target | yes |

`ClosingCosts` and `ClosingNgrams` are in `closing`, with their features.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import logsigmoid, softplus

from ...surrogate import Features, SurrogateLoss
from ..functional import LIMITS_OF_TEXT, inverse_softplus, log_odds, masked_mean


class TokenSurrogate(SurrogateLoss):
    """Base of the losses that read the scores of target tokens."""

    task = "token_sequence"
    reads = ("target_log_probs", "target_mask")
    scores = ("target_log_probs", "prefix_log_probs", "draft_log_probs", "sample_log_probs")
    about = "depends on no vocabulary and no model"
    limits = LIMITS_OF_TEXT

    @abstractmethod
    def score(self, features: Features) -> Tensor: ...

    @staticmethod
    def cross_entropy(features: Features) -> Tensor:
        return -masked_mean(features["target_log_probs"], features["target_mask"])

    @staticmethod
    def weights(features: Features) -> Tensor:
        """The number of target tokens. Cross-entropy and the metrics of a corpus weight an example by it."""
        return features["target_mask"].sum(1).float()

    @staticmethod
    def to_logits(log_probs: Tensor) -> Tensor:
        return log_odds(log_probs)

    @staticmethod
    def from_logits(logits: Tensor) -> Tensor:
        return logsigmoid(logits)

    def target_weights(self, features: Features) -> tuple[Tensor, Tensor] | None:
        if "target_log_probs" not in self.reads:
            return None
        log_probs = features["target_log_probs"].clone().requires_grad_(True)
        mask = features["target_mask"]
        (gradient,) = torch.autograd.grad(self(features | {"target_log_probs": log_probs}).sum(), log_probs)
        weights = -gradient * mask.sum(1, keepdim=True)
        return log_probs.detach()[mask].exp(), weights[mask]


class TokenCrossEntropy(TokenSurrogate):
    """`-mean_t log p_t`: cross-entropy as a loss of its own, for comparison."""

    def score(self, features: Features) -> Tensor:
        return self.cross_entropy(features)


class TokenErrorProbability(TokenSurrogate):
    """`mean_t (1 - p_t)`: the expected share of wrong tokens, the hand-made rival of every learned surrogate."""

    def score(self, features: Features) -> Tensor:
        return masked_mean(-features["target_log_probs"].expm1(), features["target_mask"])


class MinimumRiskLoss(TokenSurrogate):
    """The expected `1 - BLEU` over a few outputs: minimum risk training, the classical rival.

    Every step samples the outputs, so it is many times as slow as the other losses. Unlike in the paper, the target is
    not one of the outputs. Their probabilities are raised to the power `sharpness` and normalised over the distinct
    outputs.

    Args:
        sharpness: the power of the probabilities. The paper uses 0.005.

    References:
        Shen et al., *Minimum Risk Training for Neural Machine Translation*, ACL 2016.
    """

    reads = ("sample_log_probs", "sample_mask", "sample_bleu")

    def __init__(self, sharpness: float = 0.005):
        super().__init__()
        self.sharpness = sharpness

    def score(self, features: Features) -> Tensor:
        return (self.probabilities(features) * (1 - features["sample_bleu"])).sum(1)

    def probabilities(self, features: Features) -> Tensor:
        """Of the distinct outputs, shape `(n, S)`."""
        return (
            (self.sharpness * features["sample_log_probs"]).masked_fill(~features["sample_mask"], -torch.inf).softmax(1)
        )


class MinimumWerLoss(MinimumRiskLoss):
    """The expected word errors over a few outputs, for each token of the target: minimum word error rate training.

    Args:
        sharpness: the power of the probabilities.

    References:
        Prabhavalkar et al., *Minimum Word Error Rate Training for Attention-Based Sequence-to-Sequence Models*, ICASSP
        2018.
    """

    reads = ("sample_log_probs", "sample_mask", "sample_errors", "target_mask")

    def __init__(self, sharpness: float = 1.0):
        super().__init__(sharpness)

    def score(self, features: Features) -> Tensor:
        errors = (self.probabilities(features) * features["sample_errors"]).sum(1)
        return errors / features["target_mask"].sum(1).clamp(min=1)


class NgramSurrogate(TokenSurrogate):
    """The sharpened expected n-gram match: `1 - Σ_n w_n · m_n`.

    `m_n = mean_t Π_{k<n} q_{t+k}` is the expected share of the target's n-grams that are matched, with sharpened
    probabilities `q = p^a / (p^a + (1-p)^a)`. The sharpness `a`, the weights `w` (a softmax) and the scale of the loss
    are learned. The loss falls as any target probability rises, so it never rewards a lower one. If a target is shorter
    than `n` tokens, the weights are normalised over the n-grams that it has.

    Args:
        max_order: the longest n-gram.
    """

    def __init__(self, max_order: int = 4):
        super().__init__()
        self.max_order = max_order
        self.sharpness = nn.Parameter(inverse_softplus(1.0))
        self.order_logits = nn.Parameter(torch.zeros(max_order))

    def score(self, features: Features) -> Tensor:
        mask = features["target_mask"]
        log_q = logsigmoid(softplus(self.sharpness) * log_odds(features["target_log_probs"]))
        mismatches, exists = [], []
        for n in range(1, min(self.max_order, mask.shape[1]) + 1):
            starts = _windows(mask, n).all(-1)
            mismatches.append(masked_mean(self._mismatch(_windows(log_q, n).sum(-1).exp()), starts))
            exists.append(starts.any(1))
        return _weighted_mean(torch.stack(mismatches, dim=1), self.order_logits, torch.stack(exists, dim=1))

    def _mismatch(self, match: Tensor) -> Tensor:
        """The cost of an n-gram that is matched with this probability."""
        return 1 - match


class LogNgramSurrogate(NgramSurrogate):
    """The sharpened n-gram match on a log scale: `Σ_n w_n · mean_t log((1 + f) / (Π_{k<n} q_{t+k} + f))`.

    `q` and `w` are those of `NgramSurrogate`. That loss hardly tells a bad n-gram from a worse one. This loss does, as
    cross-entropy does, but only down to a match of about `f`. Below `f` it gives an n-gram up. The floor `f` is
    learned, too. The loss is monotone, too.
    """

    def __init__(self, max_order: int = 4):
        super().__init__(max_order)
        self.log_floor = nn.Parameter(torch.tensor(-3.0))

    def _mismatch(self, match: Tensor) -> Tensor:
        floor = self.log_floor.exp()
        return ((1 + floor) / (match + floor)).log()


class PrefixNgramSurrogate(NgramSurrogate):
    """The expected clipped n-gram match between the target and the model's scores after its own output.

    An n-gram of the target's text, without the end, may match at any position of the output. Its expected count is the
    sum over positions of `Π_k q[t+k, j+k]`, with `q = p^a / (p^a + (1-p)^a)`, clipped at its count in the target.
    Matches become a mean of precision and recall, weighted by a learned share, and are summed over n with learned
    weights. The loss asks for words of the target even at the end of the output, so a model that trains on it alone
    unlearns to end. It is the analogue of the paper's loss for an autoregressive model: the scores are those of its
    prediction.

    Learned: the sharpness `a`, the weights of n = 1 … `max_order`, the share of recall, and the scale.

    Args:
        max_order: the longest n-gram.
    """

    reads = ("prefix_log_probs", "prefix_mask", "target_classes", "text_mask")

    def __init__(self, max_order: int = 4):
        super().__init__(max_order)
        self.recall_logit = nn.Parameter(torch.zeros(()))

    def score(self, features: Features) -> Tensor:
        text_mask, prefix_mask = features["text_mask"], features["prefix_mask"]
        log_q = logsigmoid(softplus(self.sharpness) * log_odds(features["prefix_log_probs"]))
        classes = features["target_classes"]
        equal = classes.unsqueeze(2) == classes.unsqueeze(1)
        recall_share = self.recall_logit.sigmoid()
        matches, exists = [], []
        for n in range(1, min(self.max_order, *log_q.shape[1:]) + 1):
            target_starts = _windows(text_mask, n).all(-1)
            prefix_starts = _windows(prefix_mask, n).all(-1)
            probability = _diagonal_sums(log_q, n).exp() * prefix_starts.unsqueeze(2)
            same = _diagonal_sums(equal.to(log_q.dtype), n) == n
            in_target = (same & target_starts.unsqueeze(1)).sum(2).clamp(min=1)
            clipped = torch.minimum(probability.sum(1), in_target.to(log_q.dtype)) / in_target
            total = (clipped * target_starts).sum(1)
            recall = total / target_starts.sum(1).clamp(min=1)
            precision = total / prefix_starts.sum(1).clamp(min=1)
            matches.append(recall_share * recall + (1 - recall_share) * precision)
            exists.append(target_starts.any(1))
        return _weighted_mean(1 - torch.stack(matches, dim=1), self.order_logits, torch.stack(exists, dim=1))


class OwnOutputSurrogate(PrefixNgramSurrogate):
    """`PrefixNgramSurrogate` and `NgramSurrogate` with one sharpness and one set of weights. The first reads the scores
    after the model's own output, the second those after the target. The second asks for the end; the first never does.
    """

    reads = (*PrefixNgramSurrogate.reads, *NgramSurrogate.reads)

    def score(self, features: Features) -> Tensor:
        return super().score(features) + NgramSurrogate.score(self, features)


class DraftSurrogate(OwnOutputSurrogate):
    """`OwnOutputSurrogate` on a draft: the most probable token after each beginning of the target. All scores are those
    after the draft, those of the target's tokens at their own places, too. So a step has one more pass of the decoder
    without a gradient, and decodes nothing. Decoder-only models have drafts, too.

    References:
        Mihaylova and Martins, *Scheduled Sampling for Transformers*, ACL student workshop 2019.
    """

    reads = ("draft_log_probs", "target_classes", "text_mask", *NgramSurrogate.reads)

    def score(self, features: Features) -> Tensor:
        after = features["draft_log_probs"]
        at_their_places = {"target_log_probs": after.diagonal(dim1=1, dim2=2)}
        return super().score(
            features | at_their_places | {"prefix_log_probs": after, "prefix_mask": features["text_mask"]}
        )


class TransformerTokenSurrogate(TokenSurrogate):
    """The paper's translation surrogate: token scores → MLP → positions → Transformer encoder → loss per token.

    This version mends its defects: positions are real, scores are log-probabilities, and the mean is over target
    tokens. It is *not* monotone: it may order predictions best and still reward a lower target probability.

    Args:
        width: width of the encoder, a multiple of `heads`.
        layers: number of its layers.
        heads: number of its attention heads.

    References:
        Huang et al. 2022, section 4.4.
    """

    def __init__(self, width: int = 32, layers: int = 2, heads: int = 4):
        super().__init__()
        self.width, self.layers, self.heads = width, layers, heads
        self.embed = nn.Sequential(nn.Linear(2, width), nn.ELU(), nn.Linear(width, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ELU(), nn.Linear(width, 1))

    def score(self, features: Features) -> Tensor:
        mask, log_probs = features["target_mask"], features["target_log_probs"]
        scores = torch.stack([log_probs.exp(), log_odds(log_probs) / 10], dim=-1)
        hidden = self.embed(scores) + _sinusoids(mask.shape[1], self.width, scores.device)
        hidden_keys = ~mask
        hidden_keys = hidden_keys & ~hidden_keys.all(1, keepdim=True)  # attention over nothing is NaN
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no double backward
            hidden = self.encoder(hidden, src_key_padding_mask=hidden_keys)
        return masked_mean(softplus(self.head(hidden).squeeze(-1)), mask)


def _weighted_mean(values: Tensor, order_logits: Tensor, exists: Tensor) -> Tensor:
    """`Σ_n w_n · values_n`, with weights normalised over the orders that an example has; 0 if it has none."""
    weights = order_logits[: values.shape[1]].exp() * exists
    return (weights * values).sum(1) / weights.sum(1).clamp(min=1e-12)


def _windows(values: Tensor, n: int) -> Tensor:
    return values.unfold(1, n, 1)


def _diagonal_sums(values: Tensor, n: int) -> Tensor:
    """`out[:, t, j] = Σ_{k<n} values[:, t+k, j+k]`."""
    rows, columns = values.shape[1] - n + 1, values.shape[2] - n + 1
    return sum(values[:, k : k + rows, k : k + columns] for k in range(n))


def _sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    positions = torch.arange(length, device=device, dtype=torch.float32).unsqueeze(1)
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-torch.log(torch.tensor(10000.0)).item() / width))
    return torch.stack([(positions * rates).sin(), (positions * rates).cos()], dim=-1).flatten(1)
