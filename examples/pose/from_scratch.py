"""A small VitPose from scratch."""

from collections.abc import Sequence

from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation


def build_model(
    names: Sequence[str], size: tuple[int, int], layers: int, width: int, heads: int, patch: int
) -> VitPoseForPoseEstimation:
    """Heatmaps have two pixels for each side of a patch.

    Args:
        names: of the joints.
        size: height and width of the input.
        layers: of the backbone.
        width: of the backbone.
        heads: attention heads.
        patch: pixels of the side of a patch.
    """
    backbone = VitPoseBackboneConfig(
        image_size=list(size),
        patch_size=[patch, patch],
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        mlp_ratio=2,
        out_indices=[layers],
    )
    config = VitPoseConfig(
        backbone_config=backbone,
        scale_factor=2,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    return VitPoseForPoseEstimation(config)
