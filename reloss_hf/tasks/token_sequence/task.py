"""Models that generate text: encoder-decoder and decoder-only."""

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from ...learning.metrics import LoadedGroupMetric
from ...learning.predictions import Predictions
from ...surrogate import CountedLoss
from ..base import Candidate, Inputs
from ..functional import to_the_left
from ..models import (
    class_names,
    is_known_as,
    is_one_of,
    loss_of,
    model_and_wrapped,
    named_outputs,
    prompt_has_logits,
)
from ..same_examples import CandidateTask
from .closing import KEPT, ClosingCosts, closing_features, perturbed, stops_of
from .closing import decode as decode_stops
from .decoder import Decoder
from .features import (
    aligned,
    first_equal,
    log_probs_of_all,
    moves_labels,
    strongest_rivals,
    swap_with_rival,
    target_log_probs,
    targets_of,
    texts_of,
    unpacked,
    with_draft,
)
from .generation import WithoutClosing, decode, encoded_source, require_draft, require_own_output
from .losses import NgramSurrogate, TokenCrossEntropy, TokenErrorProbability
from .metrics import METRICS, sample_scores

# The number of outputs of an example that a loss on sampled outputs compares.
_SAMPLES = 7
# The column in which TRL keeps the lengths of the texts that it packs into a row.
_LENGTHS = "seq_lengths"
# Some of these generate, too, but what they generate are the classes of their frames.
_CTC = class_names("MODEL_FOR_CTC_MAPPING_NAMES")
_FAMILIAR = class_names("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES")
# Decoder-only models of transformers whose loss does not shift the labels by one position.
_UNSHIFTED = frozenset(
    {
        "BartForCausalLM", "BigBirdPegasusForCausalLM", "BlenderbotForCausalLM", "BlenderbotSmallForCausalLM",
        "CpmAntForCausalLM", "FlaubertWithLMHeadModel", "MBartForCausalLM", "MarianForCausalLM", "MvpForCausalLM",
        "PLBartForCausalLM", "PegasusForCausalLM", "ProphetNetForCausalLM", "TrOCRForCausalLM", "WhisperForCausalLM",
        "XLMWithLMHeadModel", "XLNetLMHeadModel",
    }
)  # fmt: skip


class TokenSequenceTask(CandidateTask):
    """Text generation. Targets are the tokens of `labels`; -100, or any negative number, marks padding and prompts. See
    `losses` for the features.

    Each text that is packed into a row with others is an example of its own. It begins where `position_ids` restart.

    The task reads from the first batch what the class of a model does not tell: whether its loss shifts labels by one
    position, and whether it gives the same logits without labels.
    """

    name = "token_sequence"
    does = "generates text"
    decoded = ("prefix_log_probs", "prefix_mask", "sample_log_probs", "sample_mask", "sample_bleu", "sample_errors")
    own_output = (*decoded, "draft_log_probs", "target_classes")
    default_surrogate = default_loss = NgramSurrogate
    hand_made = (TokenCrossEntropy, TokenErrorProbability)
    metrics: ClassVar = METRICS
    reads_logits_and_labels_alone = True
    labels = ("labels",)
    logits = ("logits",)
    decoded_from = KEPT
    generates_slice = True
    learned_from_candidates = CountedLoss
    set_size = 256
    perturbed = staticmethod(perturbed)

    def __init__(self, model: torch.nn.Module, processing_class: Any):
        super().__init__(model, processing_class)
        self._decoder = Decoder(model, self.processing_class)
        unshifted = any(is_one_of(module, _UNSHIFTED) for module in model_and_wrapped(model))
        self.shifts = not self._decoder.is_encoder_decoder and not unshifted
        if self._decoder.is_encoder_decoder and not self._decoder.makes_inputs:
            self.keeps_labels = True

    @classmethod
    def handles(cls, model: torch.nn.Module) -> bool:
        return getattr(model, "can_generate", bool)() and not is_known_as(model, _CTC)

    @classmethod
    def fits(cls, outputs: Any, inputs: Inputs) -> bool:
        labels, logits = inputs.get("labels"), named_outputs(outputs, cls.logits)["logits"]
        return labels is not None and logits is not None and logits.ndim == 3 and logits.shape[:2] == labels.shape

    @classmethod
    def knows(cls, model: torch.nn.Module) -> bool:
        return is_one_of(model, _FAMILIAR)

    def look_at(self, outputs: Any, inputs: Inputs) -> None:
        """Find out whether the loss shifts the labels by one position."""
        logits, loss, labels = named_outputs(outputs, self.logits)["logits"], loss_of(outputs), inputs["labels"]
        if labels.ndim != 2 or logits.ndim != 3 or logits.shape[1] < labels.shape[1]:
            raise ValueError(
                f"model={type(self.model).__name__} gives logits of shape {tuple(logits.shape)} for labels of shape "
                f"{tuple(labels.shape)}: a loss on token sequences needs logits (n, T, vocabulary) for labels (n, T)"
            )
        moves = None if loss is None else moves_labels(logits, labels, loss.float().mean())
        self.shifts = self.shifts if moves is None else moves

    def require_labels(self, inputs: Inputs) -> None:
        if inputs.get("labels") is None:
            raise ValueError(
                f"the batch has no 'labels', only {sorted(inputs)}: use a data collator that makes them, such as "
                "DataCollatorForSeq2Seq; the loss of a trainer that needs none, such as DPO's, cannot be replaced"
            )

    def batch_size(self, inputs: Inputs) -> int:
        return len(unpacked(self._texts(inputs), self._targets(inputs))["targets"])

    def weight(self, inputs: Inputs) -> Tensor:
        return (self._targets(inputs) >= 0).sum()

    def examples_in(self, dataset: Any) -> int:
        if _LENGTHS not in (getattr(dataset, "column_names", None) or ()):
            return super().examples_in(dataset)
        return sum(map(len, dataset[_LENGTHS]))

    def without_labels(self, inputs: Inputs) -> Inputs:
        rest = super().without_labels(inputs)
        if self._decoder.is_encoder_decoder and not self.keeps_labels and "decoder_input_ids" not in rest:
            made = self._decoder.arguments(inputs["labels"])
            rest = made | {name: value for name, value in rest.items() if value is not None}
        return rest

    def features(
        self,
        model: torch.nn.Module,
        outputs: Any,
        inputs: Inputs,
        reads: tuple[str, ...],
        hypotheses: Tensor | None = None,
    ) -> dict[str, Tensor]:
        outputs = self.with_logits(model, outputs, inputs)
        logits, labels = aligned(self._logits(outputs), inputs["labels"], self.shifts)
        parts = unpacked(self._texts(inputs), labels, log_probs=target_log_probs(logits, labels))
        features = self._target_features(parts["log_probs"], parts["targets"])
        if not {"prefix_log_probs", "draft_log_probs"}.isdisjoint(reads):
            tokens = to_the_left(labels != -100, labels)[0]
            features["target_classes"] = first_equal(tokens)
            if "draft_log_probs" in reads:
                features |= self._draft_features(model, outputs, inputs, tokens)
            else:
                hypotheses = self.generate(model, inputs, outputs) if hypotheses is None else hypotheses
                features |= self._prefix_features(model, outputs, inputs, tokens, hypotheses)
            prompt = self._decoder.prompt_length(tokens)
            for name in {"text_mask", "prefix_mask"} & set(features):
                features[name][:, :prompt] = False  # it is given, so nothing in it can match
        if "closing_log_probs" in reads:
            self._require_one_text(inputs, "closing costs")
            self.require_tokenizer(self._given)
            closing, is_end = self._decoder.closing(labels.device), self._decoder.is_end(labels)
            features |= closing_features(logits, labels, closing, is_end)
        if "sample_log_probs" in reads:
            features |= self._sample_features(model, outputs, inputs, reads)
        return features

    def forced_predictions(
        self, outputs: Any, inputs: Inputs, candidates: Sequence[Candidate], seeds: Sequence[int]
    ) -> Predictions:
        texts, rows = self._texts(inputs), slice(len(seeds))
        of_batch = rows if texts is None else slice(None)
        logits, labels = aligned(self._logits(outputs)[of_batch].detach(), inputs["labels"][of_batch], self.shifts)
        found = {"log_probs": target_log_probs(logits, labels), **strongest_rivals(logits, labels)}
        found = {name: value[rows] for name, value in unpacked(texts, labels, **found).items()}
        labels, parts = found.pop("targets"), []
        for candidate in candidates:
            log_probs, predicted = found["log_probs"], found["best"]
            if candidate.corruption:
                log_probs, predicted = swap_with_rival(labels, **found, candidate=candidate, seeds=seeds)
            predicted = predicted.masked_fill(labels == -100, -100)
            parts.append(self._predictions(self._target_features(log_probs, labels), predicted, labels, candidate))
        return Predictions.concatenate(parts)

    @torch.no_grad()
    def predictions_to_perturb(self, outputs: Any, inputs: Inputs, number: int) -> Predictions:
        features = self.features(self.model, outputs, inputs, ClosingCosts.reads)
        processor = WithoutClosing(self._decoder.closing(inputs["labels"].device))
        tokens = self.generate(self.model, inputs, outputs, processor=processor)
        written = tokens[:, -len(processor.margins) :]
        margins, closing = (torch.stack(part, dim=1) for part in (processor.margins, processor.best))
        features |= stops_of(written, margins, closing, self._decoder.texts)
        features = {name: value.detach().cpu() for name, value in features.items()}
        of_all = torch.full((len(tokens),), number)
        return Predictions(features, self.decode(features, ()).tolist(), self._decoder.texts(inputs["labels"]), of_all)

    @staticmethod
    def decode(features: dict[str, Tensor], names: Sequence[str]) -> np.ndarray:
        return decode_stops(features)

    def label_table(self, dataset: Any) -> None:
        """None: a slice need not have all tokens, because no cost is that of a token."""

    def require_generation(self, reads: tuple[str, ...] = ()) -> None:
        if "draft_log_probs" in reads:
            return require_draft(self.model, self._decoder.is_encoder_decoder)
        require_own_output(self.model, self._decoder.is_encoder_decoder)
        if "sample_log_probs" in reads:
            self.require_tokenizer(self._given)

    @torch.no_grad()
    def generated_predictions(
        self, model: torch.nn.Module, inputs: Inputs, candidate: Candidate, reads: tuple[str, ...]
    ) -> Predictions:
        outputs = model(**self.without_labels(inputs))
        hypotheses = self.generate(model, inputs, outputs)
        features = self.features(model, outputs, inputs, reads, hypotheses)
        return self._predictions(features, hypotheses, inputs["labels"], candidate)

    def sample_pair(self) -> tuple[str, str]:
        return ("a small sentence to score",) * 2

    def try_metric(self, metric: LoadedGroupMetric, dataset: Any, group_size: int) -> None:
        super().try_metric(metric, dataset, group_size)
        try:
            metric([""] * group_size, [self.sample_pair()[1]] * group_size, [range(group_size)])
        except RuntimeError as error:
            warnings.warn(
                "a model that has learned little may predict nothing, and groups of such predictions would be left "
                f"out: {error}",
                stacklevel=2,
            )

    def generate(
        self,
        model: torch.nn.Module,
        inputs: Inputs,
        outputs: Any,
        samples: int | None = None,
        processor: LogitsProcessor | None = None,
    ) -> Tensor:
        """The model's own output, with the start token and the prompt; see `decode`."""
        self.require_generation()
        starts = self._decoder.inputs(inputs["labels"])[:, : 1 + self._decoder.prompt_length(inputs["labels"])]
        return decode(model, outputs, inputs, starts, samples, processor)

    def _texts(self, inputs: Inputs) -> Tensor | None:
        """The text of its row that each label belongs to, if several are packed into a row."""
        return None if self._decoder.is_encoder_decoder else texts_of(inputs.get("position_ids"), inputs["labels"])

    def _require_one_text(self, inputs: Inputs, what: str) -> None:
        if self._texts(inputs) is not None:
            raise ValueError(f"{what} cannot be read where several texts are packed into a row: pass packing=False")

    def _targets(self, inputs: Inputs) -> Tensor:
        """The labels that the model predicts."""
        labels = targets_of(inputs["labels"])
        return labels[:, 1:] if self.shifts and not prompt_has_logits(self.model) else labels

    def _logits(self, outputs: Any) -> Tensor:
        logits = named_outputs(outputs, self.logits)["logits"]
        if logits is None:
            self._require_logits(outputs)
        return logits

    def _target_features(self, log_probs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        mask = labels != -100
        text = mask & ~self._decoder.is_end(labels)
        names = ("target_log_probs", "target_mask", "text_mask")
        return dict(zip(names, to_the_left(mask, log_probs, mask, text), strict=True))

    def _sample_features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, reads: tuple[str, ...]
    ) -> dict[str, Tensor]:
        rows = self.generate(model, inputs, outputs, _SAMPLES)[:, 1:]
        rows = rows.masked_fill(~self._decoder.until_end(rows), -100)
        read = encoded_source(outputs, inputs, _SAMPLES)
        logits = self._logits(model(**read, decoder_input_ids=self._decoder.inputs(rows)))
        references = [text for text in self._decoder.texts(inputs["labels"]) for _ in range(_SAMPLES)]
        scores = sample_scores(self._decoder.texts(rows), references, reads)
        of_each = rows.view(-1, _SAMPLES, rows.shape[1])
        repeated = (of_each.unsqueeze(1) == of_each.unsqueeze(2)).all(-1).tril(-1).any(-1)
        return {
            "sample_log_probs": target_log_probs(logits, rows).sum(1).view(-1, _SAMPLES),
            "sample_mask": ~repeated,
            **{name: torch.tensor(values, device=rows.device).view(-1, _SAMPLES) for name, values in scores.items()},
        }

    def _prefix_features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, targets: Tensor, hypotheses: Tensor
    ) -> dict[str, Tensor]:
        read = encoded_source(outputs, inputs)
        logits = self._logits(model(**read, decoder_input_ids=hypotheses[:, :-1]))
        return {
            "prefix_log_probs": log_probs_of_all(logits, targets),
            "prefix_mask": self._decoder.until_end(hypotheses[:, 1:]),
        }

    def _draft_features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, targets: Tensor
    ) -> dict[str, Tensor]:
        labels = targets_of(inputs["labels"])
        logits, wanted = aligned(self._logits(outputs).detach(), labels, self.shifts)
        draft, places = logits.argmax(-1), torch.arange(wanted.shape[1], device=wanted.device)
        given = (wanted == -100) | (places < self._decoder.prompt_length(labels)) | self._decoder.is_end(draft)
        draft = torch.where(given, wanted, draft)
        if self._decoder.is_encoder_decoder:
            read = encoded_source(outputs, inputs) | {"decoder_input_ids": self._decoder.inputs(draft)}
        else:
            self._require_one_text(inputs, "a draft")
            read = self.without_labels(inputs)
            read["input_ids"] = with_draft(read["input_ids"], draft)
        after, _ = aligned(self._logits(model(**read)), labels, self.shifts)
        return {"draft_log_probs": to_the_left(wanted != -100, log_probs_of_all(after, targets))[0]}

    def _predictions(
        self, features: dict[str, Tensor], predicted: Tensor, labels: Tensor, candidate: Candidate
    ) -> Predictions:
        return Predictions(
            {name: value.detach().cpu() for name, value in features.items()},
            self._decoder.texts(predicted),
            self._decoder.texts(labels),
            torch.full((len(labels),), candidate.id),
        )
