"""Models of speech whose frames have one class each: CTC."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import DataCollatorWithPadding, default_data_collator

from ...learning.metrics import LoadedGroupMetric
from ...learning.predictions import Predictions
from ...surrogate import SurrogateLoss, weighted_mean
from ..base import Candidate, Inputs, LossAndOutputs
from ..error_rates import ERROR_RATES, ErrorRate
from ..functional import to_the_left
from ..models import class_names, is_known_as, model_and_wrapped, named_outputs
from ..same_examples import CandidateTask, of_candidates
from .candidates import perturbed
from .collation import DataCollatorCTCWithPadding
from .decoding import blank_first, pieces_of, texts_of
from .lattice import BLANK, best_path, collapsed, few_classes, frames_needed, log_probabilities
from .losses import CtcCosts, CtcLoss, CtcNgramLoss

logger = logging.getLogger(__name__)

# The number of texts of an utterance that a loss on sampled texts compares.
_SAMPLES = 8
# Learning takes many copies of the logits, so it keeps so many classes of each utterance.
_MOST_CLASSES = 128
_MASKS = ("attention_mask", "padding_mask")
# Labels are decoded as they are: repeated characters stay, and so do spaces before punctuation.
_PLAINLY = {"group_tokens": False, "clean_up_tokenization_spaces": False}
_CLASSES = class_names("MODEL_FOR_CTC_MAPPING_NAMES")


class CtcTask(CandidateTask):
    """Speech recognition by CTC. Labels are the characters of the text, `(n, L)`, and a negative number behind them.
    Logits are `(n, T, C)`, with a frame for some milliseconds of speech. See `lattice` for the features.

    Predictions are the texts of the most probable classes of the frames. They are decoded by the tokens of the
    tokenizer, without its special tokens.

    In features the blank has changed places with class 0.
    """

    name = "ctc"
    does = "gives each frame of speech a character"
    default_surrogate = CtcCosts
    default_loss = None
    hand_made = (CtcLoss, CtcNgramLoss)
    computes_base_loss = True
    metrics: ClassVar = ERROR_RATES
    group_size = 64
    labels = ("labels",)
    logits = ("logits",)
    perturbed = staticmethod(perturbed)

    def __init__(self, model: torch.nn.Module, processing_class: Any):
        super().__init__(model, processing_class)
        modules = tuple(model_and_wrapped(model))
        self._config = next((module.config for module in modules if hasattr(module, "config")), None)
        self._frames_of = next(filter(None, map(_frames_of, modules)), None)
        self._pieces: tuple[str, ...] = ()
        self._has_warned = False

    @classmethod
    def handles(cls, model: torch.nn.Module) -> bool:
        return is_known_as(model, _CLASSES)

    @classmethod
    def fits(cls, outputs: Any, inputs: Inputs) -> bool:
        """Never, because outputs of other models have the same shapes."""
        return False

    def collator(self, data_collator: Callable) -> Callable:
        """The Trainer's own collators do not pad speech and texts alike, so another takes their place.

        Raises:
            ValueError: there is no processor for it.
        """
        if isinstance(data_collator, DataCollatorWithPadding):
            raise ValueError(
                f"processing_class={type(self._given).__name__} pads speech or texts, and not both: pass the "
                "processor that has it, or data_collator=DataCollatorCTCWithPadding(processor)"
            )
        ours = hasattr(self._given, "feature_extractor") and data_collator is default_data_collator
        return DataCollatorCTCWithPadding(self._given) if ours else data_collator

    def require_labels(self, inputs: Inputs) -> None:
        if inputs.get("labels") is None:
            raise ValueError(
                f"the batch has no 'labels', only {sorted(inputs)}: name the column of the characters of the texts "
                "'labels'"
            )

    def batch_size(self, inputs: Inputs) -> int:
        return len(inputs["labels"])

    def weight(self, inputs: Inputs) -> Tensor:
        return (self._labels(inputs) > BLANK).sum(1).clamp(min=1).sum()

    def meet(self, model: torch.nn.Module, inputs: Inputs) -> None:
        if not self.has_met and inputs.get("labels") is not None:
            classes, highest = getattr(self._config, "vocab_size", None), int(inputs["labels"].max())
            if classes is not None and not max(highest, self._blank) < classes:
                raise ValueError(
                    f"the model has {classes} classes, but the labels go up to {highest} and the blank is "
                    f"{self._blank}: load the model with vocab_size=len(tokenizer) and "
                    "pad_token_id=tokenizer.pad_token_id"
                )
        super().meet(model, inputs)

    def look_at(self, outputs: Any, inputs: Inputs) -> None:
        """Read the tokens of the classes."""
        logits, labels = named_outputs(outputs, self.logits)["logits"], inputs["labels"]
        if logits.ndim != 3 or len(logits) != len(labels) or labels.ndim != 2:
            raise ValueError(
                f"logits of the shape {tuple(logits.shape)} do not fit labels of the shape {tuple(labels.shape)}: CTC "
                "needs logits (n, T, C) for labels (n, L)"
            )
        if self.processing_class is None:
            return
        classes = logits.shape[2]
        pieces = pieces_of(self.processing_class, classes)
        own = texts_of(torch.where(labels == self._blank, -1, labels + 1), ["", *pieces])
        kept = [[token for token in row if token >= 0 and token != self._blank] for row in labels.tolist()]
        theirs = self.processing_class.batch_decode(kept, skip_special_tokens=True, **_PLAINLY)
        if [text.split() for text in own] != [text.split() for text in theirs]:
            wrong = next(pair for pair in zip(own, theirs, strict=True) if pair[0].split() != pair[1].split())
            raise ValueError(
                f"processing_class={type(self.processing_class).__name__} decodes labels as {wrong[1]!r}, but its "
                f"tokens are {wrong[0]!r}: pass a tokenizer of characters, or of pieces that join to the text"
            )
        order = blank_first(classes, self._blank)
        self._pieces = tuple(pieces[place] if place != self._blank else "" for place in order.tolist())

    def fit(self, surrogate: SurrogateLoss, dataset: Any) -> None:
        if "sample_labels" in surrogate.reads:
            self.require_tokenizer(self._given)

    def base_loss(
        self, model_loss: Callable[[torch.nn.Module, Inputs], LossAndOutputs], model: torch.nn.Module, inputs: Inputs
    ) -> LossAndOutputs:
        """CTC, the mean over the characters of the micro-batch. The model's own loss is a sum, or a mean over
        utterances, as `config.ctc_loss_reduction` says, so it is not used."""
        outputs = self.with_logits(model, model(**self.without_labels(inputs)), inputs)
        features = self.features(model, outputs, inputs, ())
        return weighted_mean(CtcLoss.cross_entropy(features), CtcLoss.weights(features)), outputs

    def features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, reads: tuple[str, ...]
    ) -> dict[str, Tensor]:
        logits = named_outputs(outputs, self.logits)["logits"]
        if self._blank != BLANK:
            logits = logits[..., blank_first(logits.shape[2], self._blank).to(logits.device)]
        frames, labels = self._frames(inputs, logits), self._labels(inputs)
        self._warn_of_long_texts(frames_needed(labels), frames)
        features = {
            "frame_logits": logits.float(),
            "frame_mask": torch.arange(logits.shape[1], device=logits.device) < frames.unsqueeze(1),
            "labels": labels,
        }
        return features | (self._samples(features) if "sample_labels" in reads else {})

    def forced_predictions(
        self, outputs: Any, inputs: Inputs, candidates: Sequence[Candidate], seeds: Sequence[int]
    ) -> Predictions:
        features = self.features(self.model, outputs, inputs, ())
        features = {name: value[: len(seeds)].detach().cpu() for name, value in features.items()}
        references = texts_of(features["labels"], self._pieces)
        features = few_classes(features, _MOST_CLASSES)
        of_none = torch.zeros(len(references), dtype=torch.long)
        predictions = Predictions(
            features, self.decode(features, self._pieces).tolist(), references, of_none, self._pieces
        )
        return of_candidates(predictions, candidates)

    @staticmethod
    def decode(features: dict[str, Tensor], names: Sequence[str]) -> np.ndarray:
        """The text of each utterance."""
        return np.array(texts_of(best_path(features), names), dtype=object)

    def label_table(self, dataset: Any) -> Tensor | None:
        """None: a slice need not have all characters, because no cost is that of a character."""

    def sample_pair(self) -> tuple[str, str]:
        return ("a small text to score",) * 2

    def try_metric(self, metric: LoadedGroupMetric, dataset: Any, group_size: int) -> None:
        right, wrong = self.sample_pair()[1], "other words"
        texts = [*[right] * group_size, *[wrong] * group_size]
        scores = metric(texts, [right] * len(texts), np.arange(len(texts)).reshape(2, -1))
        if scores[0] == scores[1]:
            raise ValueError(
                f"the metric {metric.name!r} is {scores[0]} for right texts and for wrong ones, so it does not depend "
                "on the predictions; pass another metric="
            )

    @property
    def _blank(self) -> int:
        """The class that is the blank. Models of CTC have it as their padding, or by a name of its own."""
        own = getattr(self._config, "blank_token_id", None)
        return own if own is not None else getattr(self._config, "pad_token_id", None) or 0

    def _labels(self, inputs: Inputs) -> Tensor:
        """The labels with the blank and class 0 in each other's place, and behind them -100 for what is no character,
        wherever it was."""
        labels = inputs["labels"]
        known = (labels >= 0) & (labels != self._blank)
        return to_the_left(known, torch.where(labels == BLANK, self._blank, labels).masked_fill(~known, -100))[0]

    def _frames(self, inputs: Inputs, logits: Tensor) -> Tensor:
        """How many frames each utterance has, shape `(n,)`: all, if nothing tells how long its speech is."""
        n, most = logits.shape[:2]
        mask = next((inputs[name] for name in _MASKS if inputs.get(name) is not None), None)
        if mask is None or self._frames_of is None:
            return torch.full((n,), most, device=logits.device)
        return self._frames_of(mask.view(n, -1).sum(-1)).long().clamp(0, most)

    def _warn_of_long_texts(self, needed: Tensor, frames: Tensor) -> None:
        if self._has_warned or not (needed > frames).any():
            return
        self._has_warned, worst = True, int((needed - frames).argmax())
        logger.warning(
            "a text needs %d frames, and its speech has %d: the loss leaves such examples out, so remove them from the "
            "data, or check that their texts belong to their speech",
            needed[worst],
            frames[worst],
        )

    @torch.no_grad()
    def _samples(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The best path and paths drawn from the model, as texts, and their word errors."""
        probs, mask = log_probabilities(features).exp(), features["frame_mask"]
        drawn = torch.multinomial(probs.flatten(0, 1), _SAMPLES - 1, replacement=True).view(*mask.shape, -1)
        paths = torch.cat([probs.argmax(-1, keepdim=True), drawn], dim=2).transpose(1, 2)
        texts = collapsed(paths, mask.unsqueeze(1))
        texts = texts[..., : max(1, int((texts > BLANK).sum(-1).max()))]
        same = (texts.unsqueeze(1) == texts.unsqueeze(2)).all(-1)
        said = [text for text in texts_of(features["labels"], self._pieces) for _ in range(_SAMPLES)]
        errors = ErrorRate("word").edits_of_each(texts_of(texts.flatten(0, 1), self._pieces), said)
        return {
            "sample_labels": texts,
            "sample_mask": ~same.tril(-1).any(-1),
            "sample_errors": torch.tensor(errors, dtype=torch.float, device=texts.device).view(texts.shape[:2]),
        }


def _frames_of(module: torch.nn.Module) -> Callable[[Tensor], Tensor] | None:
    """The function of a model that tells the number of frames from the length of its input."""
    return next(
        (
            getattr(module, name)
            for name in ("_get_feat_extract_output_lengths", "_get_subsampling_output_length")
            if hasattr(module, name)
        ),
        None,
    )
