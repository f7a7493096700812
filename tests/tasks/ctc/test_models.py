"""Models of CTC of all kinds have their own loss, whatever their blank, their masks and their frames are."""

import pytest
import torch
import transformers
from toy_speech import make_model

from reloss_hf import CtcLoss
from reloss_hf.tasks.ctc.task import CtcTask

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
ENCODER = SMALL | {"num_key_value_heads": 2, "num_mel_bins": 80, "subsampling_conv_channels": 8}
WAVES = {"conv_dim": (16, 16), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2}
WAVES |= SMALL | {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
SAMPLES, SPECTRA = ("input_values", (3, 1600)), ("input_features", (3, 320, 80))
# The class, its configuration, the name and shape of its input, and the name of its mask.
MODELS = [
    ("Hubert", WAVES | {"pad_token_id": 11}, SAMPLES, "attention_mask"),
    ("SEW", WAVES | {"pad_token_id": 0, "squeeze_factor": 2}, SAMPLES, "attention_mask"),
    ("Wav2Vec2Bert", SMALL | {"pad_token_id": 3, "feature_projection_input_dim": 80}, SPECTRA, "attention_mask"),
    ("Parakeet", {"encoder_config": ENCODER, "pad_token_id": 11}, SPECTRA, "attention_mask"),
    ("OmniASR", {"audio_config": WAVES}, ("input_values", (3, 1, 1600)), "padding_mask"),
]


@pytest.mark.parametrize(("name", "settings", "speech", "mask"), MODELS)
def test_our_loss_is_that_of_the_model(name, settings, speech, mask):
    cls = getattr(transformers, f"{name}ForCTC", None)
    if cls is None:
        pytest.skip(f"this version of transformers has no {name}ForCTC")
    torch.manual_seed(0)
    model = cls(cls.config_class(vocab_size=12, ctc_loss_reduction="sum", **settings)).eval()
    (name, shape), labels = speech, torch.tensor([[1, 2, 2, 5], [4, 6, -100, -100], [7, -100, -100, -100]])
    length = shape[2] if shape[1] == 1 else shape[1]
    lengths = torch.tensor([[length], [length * 3 // 4], [length // 2]])
    inputs = {name: torch.randn(shape), mask: (torch.arange(length) < lengths).long(), "labels": labels}
    assert_close_to_its_own(model, inputs)


@pytest.mark.parametrize("labels", [[[-100, 1, 2], [-100, -100, 3]], [[7, 1, 2], [3, 7, 7]], [[1, 7, 2], [7, 7, 7]]])
def test_what_is_no_character_may_stand_anywhere_in_the_labels(labels):
    model = make_model(ctc_loss_reduction="sum").eval()
    assert_close_to_its_own(model, {"input_values": torch.randn(2, 200), "labels": torch.tensor(labels)})


def test_speech_without_a_frame_gives_no_loss():
    model = make_model().eval()
    mask = (torch.arange(200) < torch.tensor([[200], [3]])).long()
    inputs = {"input_values": torch.randn(2, 200), "attention_mask": mask, "labels": torch.tensor([[1, 2], [3, -100]])}
    features = CtcTask(model, None).features(model, model(**inputs), inputs, ())
    losses = CtcLoss()(features)
    assert losses[0] > 0 and losses[1] == 0


def assert_close_to_its_own(model, inputs):
    outputs = model(**inputs)
    features = CtcTask(model, None).features(model, outputs, inputs, ())
    own = (CtcLoss()(features) * CtcLoss.weights(features)).sum()
    torch.testing.assert_close(own, outputs.loss, rtol=1e-4, atol=1e-3)
