"""Pixels of images: logits at the size of masks, pixels that count for nothing, and samples of the others."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...classes.losses import IGNORED
from ..base import uniform_draws
from ..models import model_and_wrapped

# How many labelled pixels of an image are kept to learn from.
KEPT_PIXELS = 1024


def ignored_label(model: torch.nn.Module) -> int:
    """The label of pixels that count for nothing, by the configuration of the model: its `semantic_loss_ignore_index`,
    or the `loss_ignore_index` of UperNet. It is -100 if the configuration has neither."""
    for module in model_and_wrapped(model):
        config = getattr(module, "config", None)
        for name in ("semantic_loss_ignore_index", "loss_ignore_index"):
            if getattr(config, name, None) is not None:
                return int(getattr(config, name))
    return IGNORED


def targets_of_masks(masks: Tensor, ignored: int) -> Tensor:
    """Masks of the classes, int64, with -100 for pixels that count for nothing."""
    masks = masks.long()
    return masks if ignored == IGNORED else masks.masked_fill(masks == ignored, IGNORED)


def upsampled(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits at the size of masks, as the models' own losses upsample them: bilinearly, corners not aligned.

    Args:
        logits: shape `(n, C, h, w)`.
        size: height and width of the masks.

    Returns:
        float32 of shape `(n, H, W, C)`, contiguous.
    """
    logits = logits.float().contiguous(memory_format=torch.channels_last)
    if logits.shape[2:] != torch.Size(size):
        logits = interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
    return logits.permute(0, 2, 3, 1)


def sampled(logits: Tensor, masks: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Some labelled pixels of each image, drawn without replacement. An image that has fewer of them than are drawn
    gives each several times; one that has none is left out. Only one image at a time is upsampled.

    Args:
        logits: of the model, shape `(n, C, h, w)`.
        masks: shape `(n, H, W)`, with -100 for pixels that count for nothing.
        seeds: one for each image. A sample depends on the seed of its image alone.

    Returns:
        Logits, float32 of shape `(images, 1024, 1, C)`, and labels, `(images, 1024, 1)`, on the CPU: as of images that
        are one pixel wide.
    """
    found = [(logits.new_zeros(0, KEPT_PIXELS, logits.shape[1]).float().cpu(), masks.new_zeros(0, KEPT_PIXELS).cpu())]
    for image, mask, seed in zip(logits, masks.flatten(1), seeds, strict=True):
        known = (mask != IGNORED).nonzero().flatten()
        if len(known):
            order = uniform_draws([seed], len(known))[0].topk(min(KEPT_PIXELS, len(known))).indices
            places = known[order[torch.arange(KEPT_PIXELS) % len(order)].to(known.device)]
            of_pixels = upsampled(image.unsqueeze(0), masks.shape[1:]).flatten(0, 2)[places]
            found.append((of_pixels.unsqueeze(0).cpu(), mask[places].unsqueeze(0).cpu()))
    kept, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    return kept.unsqueeze(2), labels.unsqueeze(2)
