"""Probabilities under the CTC lattice. These functions need tensors alone.

| feature | shape | meaning |
|---|---|---|
| `frame_logits` | `(n, T, C)` | logits of the blank, class 0, and of the characters, for each frame |
| `frame_mask` | `(n, T)` | which frames belong to the utterance |
| `labels` | `(n, L)` | the characters of the target, 1 to C - 1, and -100 behind them |
| `classes` | `(n, C)` | the numbers of the classes, if there are those of each utterance alone: see `few_classes` |

A path has a class for each frame. Its text is what is left if repeated classes become one and blanks are dropped.
"""

import torch
from torch import Tensor
from torch.nn.functional import ctc_loss, log_softmax

from ...surrogate import Features
from ..functional import to_the_left

BLANK = 0
# Log-probabilities below have no gradient worth following, and -inf would make NaN of a product with 0.
_LEAST = -1e4


def log_probabilities(features: Features) -> Tensor:
    """Log-probabilities of the classes, `(n, T, C)`; 0 behind the end of an utterance."""
    log_probs = log_softmax(features["frame_logits"].float().clamp(min=_LEAST), -1)
    return log_probs * features["frame_mask"].unsqueeze(-1)


def text_loss(features: Features, labels: Tensor | None = None) -> Tensor:
    """`-log P(text)` of each utterance, shape `(n,)`: the sum over all paths of the text. It is 0, without a gradient,
    if the text has more characters than the utterance has frames for.

    Args:
        features: `frame_logits`, `frame_mask` and `labels`.
        labels: other texts than `labels`, `(n, L)`; a negative number or the blank is no character.
    """
    labels = features["labels"] if labels is None else labels
    lengths = (labels > BLANK).sum(1)
    log_probs = log_softmax(features["frame_logits"].float().clamp(min=_LEAST), -1).transpose(0, 1)
    frames = features["frame_mask"].sum(1)
    targets = labels.clamp(min=BLANK)
    return ctc_loss(log_probs, targets, frames, lengths, blank=BLANK, reduction="none", zero_infinity=True)


def loss_and_alignment(features: Features) -> tuple[Tensor, Tensor]:
    """`text_loss` of the target, and how probable each class is at each frame if the text is the target: `P(class at t
    | target)`, `(n, T, C)`, without a gradient. The alignment is 0 behind the end of an utterance, and for targets that
    have too few frames. It is the slope of the loss, so the lattice is computed once for both."""
    logits = features["frame_logits"].float().clamp(min=_LEAST)
    with torch.enable_grad():
        point = logits.detach().requires_grad_(True)
        losses = text_loss(features | {"frame_logits": point})
        (slope,) = torch.autograd.grad(losses.sum(), point)  # probability minus alignment
    point = point.detach()
    known = features["frame_mask"] & (frames_needed(features["labels"]) <= features["frame_mask"].sum(1)).unsqueeze(1)
    wanted = (point.softmax(-1) - slope).clamp(min=0) * known.unsqueeze(-1)
    return losses.detach() + (slope * (logits - point)).sum((1, 2)), wanted


def frames_needed(labels: Tensor) -> Tensor:
    """The least number of frames for each text, shape `(n,)`: one for each character, and one for a blank between equal
    ones."""
    repeated = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] > BLANK)
    return (labels > BLANK).sum(1) + repeated.sum(1)


def few_classes(features: Features, most: int) -> Features:
    """The features with `most` classes of each utterance: the blank, what is in its target, and what is most probable
    at any frame. What is in the target and has no place counts for nothing. The same features if there are no more."""
    logits, labels = features["frame_logits"].float(), features["labels"]
    if logits.shape[2] <= most:
        return features
    highest = (logits.softmax(-1) * features["frame_mask"].unsqueeze(-1)).amax(1)
    highest.scatter_(1, labels.clamp(min=BLANK), 2.0)[:, BLANK] = 3.0
    classes = highest.topk(most).indices.sort().values
    places = torch.searchsorted(classes, labels.clamp(min=BLANK)).clamp(max=most - 1)
    known = (labels > BLANK) & (classes.gather(1, places) == labels)
    kept = logits.gather(2, classes.unsqueeze(1).expand(-1, logits.shape[1], -1))
    return features | {
        "frame_logits": kept,
        "labels": to_the_left(known, places.masked_fill(~known, -100))[0],
        "classes": classes,
    }


def emissions(log_probs: Tensor) -> Tensor:
    """The probability that a class begins at a frame, `(n, T, C)`: the frame has it, and the one before does not."""
    probs = log_probs.exp()
    before = torch.cat([torch.zeros_like(probs[:, :1]), probs[:, :-1]], dim=1)
    return probs * (1 - before)


def pair_counts(log_probs: Tensor, labels: Tensor) -> Tensor:
    """How often the output is expected to have each pair of neighbouring characters of the target, `(n, L - 1)`.

    Args:
        log_probs: log-probabilities of the classes, `(n, T, C)`; those behind the end of an utterance must be -inf for
            all characters.
        labels: characters, `(n, L)`, at least 0.
    """
    probs = log_probs.exp()
    spoken = probs.gather(2, labels.unsqueeze(1).expand(-1, probs.shape[1], -1))
    first, second = spoken[:, :, :-1], spoken[:, :, 1:]
    repeated = labels[:, 1:] == labels[:, :-1]
    # What is open at a frame: the first character was the last that was spoken, before this frame.
    open_at, counts = torch.zeros_like(first[:, 0]), torch.zeros_like(first[:, 0])
    for frame in range(1, probs.shape[1]):
        behind_blank = probs[:, frame - 1, BLANK, None] * open_at
        open_at = behind_blank + first[:, frame - 1]
        counts = counts + second[:, frame] * torch.where(repeated, behind_blank, open_at)
    return counts


def best_path(features: Features) -> Tensor:
    """The text of the most probable path, as classes `(n, T)`: characters to the left, blanks behind them."""
    path = collapsed(features["frame_logits"].argmax(-1), features["frame_mask"])
    return features["classes"].gather(1, path) if "classes" in features else path


def collapsed(path: Tensor, mask: Tensor) -> Tensor:
    """The text of a path, as classes of the same shape `(..., T)`: characters to the left, blanks behind them."""
    path = path * mask
    before = torch.cat([torch.zeros_like(path[..., :1]), path[..., :-1]], dim=-1)
    kept = (path != before) & (path != BLANK)
    return to_the_left(kept, path * kept)[0]
