"""A small Segformer from scratch, and the processor of its images."""

from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil


def build_model(width: int, layers: int, **labels) -> SegformerForSemanticSegmentation:
    """A model with logits at a half of the size of the image, because small things have few pixels.

    Args:
        width: of the first of its three stages; the others are twice and four times as wide.
        layers: of each stage.
    """
    config = SegformerConfig(
        num_encoder_blocks=3,
        depths=[layers] * 3,
        sr_ratios=[4, 2, 1],
        hidden_sizes=[width, 2 * width, 4 * width],
        patch_sizes=[3, 3, 3],
        strides=[2, 2, 2],
        num_attention_heads=[1, 2, 4],
        mlp_ratios=[2, 2, 2],
        decoder_hidden_size=2 * width,
        **labels,
    )
    return SegformerForSemanticSegmentation(config)


def make_processor() -> SegformerImageProcessorPil:
    """It leaves the size of images as it is."""
    return SegformerImageProcessorPil(do_resize=False)
