"""Models that generate text: encoder-decoder and decoder-only."""

import copy
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from accelerate.utils import extract_model_from_parallel
from sacrebleu.metrics import BLEU, CHRF, TER
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

from ...learning.metrics import LoadedGroupMetric
from ...learning.predictions import Predictions
from ..base import Candidate, Inputs, NamedMetric, Task, uniform_draws
from .losses import NgramSurrogate, TokenCrossEntropy, TokenErrorProbability

# How many tokens beyond the length of the longest target the model may generate.
_EXTRA_TOKENS = 8
# How many outputs of an example a loss on sampled outputs compares.
_SAMPLES = 7
_BLEU = BLEU(effective_order=True)


class TokenSequenceTask(Task):
    """Targets are the tokens of `labels`; -100 marks padding and prompts. See `losses` for the features."""

    name = "token_sequence"
    does = "generates text"
    own_output = (
        "prefix_log_probs", "prefix_mask", "target_classes", "sample_log_probs", "sample_mask", "sample_bleu"
    )  # fmt: skip
    default_surrogate = default_loss = NgramSurrogate
    hand_made = (TokenCrossEntropy, TokenErrorProbability)
    metrics: ClassVar = {
        # force: no warning about text that looks tokenised, of which early predictions are full
        "sacrebleu": NamedMetric(
            partial(BLEU, force=True),
            replaces_module=True,
            options_of_module={"use_effective_order": "effective_order"},
        ),
        "chrf": NamedMetric(CHRF, replaces_module=True),
        "ter": NamedMetric(
            TER,
            replaces_module=True,
            lower_is_better=True,
            options_of_module={"ignore_punct": "no_punct", "support_zh_ja_chars": "asian_support"},
        ),
    }
    reads_logits_and_labels_alone = True

    @property
    def is_encoder_decoder(self) -> bool:
        return self.model.config.is_encoder_decoder

    @classmethod
    def handles(cls, model: torch.nn.Module) -> bool:
        return getattr(model, "can_generate", bool)()

    @classmethod
    def fits(cls, outputs: Any, inputs: Inputs) -> bool:
        labels, logits = inputs.get("labels"), outputs.get("logits") if hasattr(outputs, "keys") else None
        return labels is not None and logits is not None and logits.ndim == 3 and logits.shape[:2] == labels.shape

    def require_labels(self, inputs: Inputs) -> None:
        if inputs.get("labels") is None:
            raise ValueError(
                f"the batch has no 'labels', only {sorted(inputs)}: use a data collator that makes them, such as "
                "DataCollatorForSeq2Seq"
            )

    def batch_size(self, inputs: Inputs) -> int:
        return len(inputs["labels"])

    def weight(self, inputs: Inputs) -> Tensor:
        labels = inputs["labels"] if self.is_encoder_decoder else inputs["labels"][:, 1:]
        return (labels != -100).sum()

    def without_labels(self, inputs: Inputs) -> Inputs:
        rest = {name: value for name, value in inputs.items() if name != "labels"}
        if self.is_encoder_decoder and "decoder_input_ids" not in rest:
            rest["decoder_input_ids"] = self._decoder_inputs(inputs["labels"])
        return rest

    def features(
        self,
        model: torch.nn.Module,
        outputs: Any,
        inputs: Inputs,
        reads: tuple[str, ...],
        hypotheses: Tensor | None = None,
    ) -> dict[str, Tensor]:
        logits, labels = self._aligned(outputs.logits, inputs["labels"])
        features = self._target_features(target_log_probs(logits, labels), labels)
        if "prefix_log_probs" in reads:
            tokens = _to_the_left(labels != -100, labels=labels)["labels"]
            features["target_classes"] = _first_equal(tokens)
            hypotheses = self.generate(model, inputs, outputs) if hypotheses is None else hypotheses
            features |= self._prefix_features(model, outputs, inputs, tokens, hypotheses)
        if "sample_log_probs" in reads:
            features |= self._sample_features(model, outputs, inputs)
        return features

    def forced_predictions(
        self, outputs: Any, inputs: Inputs, candidates: Sequence[Candidate], seeds: Sequence[int]
    ) -> Predictions:
        rows = slice(len(seeds))
        logits, labels = self._aligned(outputs.logits[rows].detach(), inputs["labels"][rows])
        own, (best, second) = target_log_probs(logits, labels), logits.topk(2).indices.unbind(-1)
        parts = []
        for candidate in candidates:
            log_probs, predicted = own, best
            if candidate.corruption:
                log_probs, predicted = _swap_with_rival(logits, labels, own, (best, second), candidate, seeds)
            predicted = predicted.masked_fill(labels == -100, -100)
            parts.append(self._predictions(self._target_features(log_probs, labels), predicted, labels, candidate))
        return Predictions.concatenate(parts)

    def require_generation(self) -> None:
        if not self.is_encoder_decoder:
            raise ValueError(
                "the model's own output is read from encoder-decoder models alone: for a decoder-only model use "
                "surrogate_predictions='forced' and a surrogate that reads 'target_log_probs'"
            )

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
                "a model that has learned little may predict nothing, and groups of nothing else would be left out: "
                f"{error}",
                stacklevel=2,
            )

    @torch.no_grad()
    def generate(self, model: torch.nn.Module, inputs: Inputs, outputs: Any, samples: int | None = None) -> Tensor:
        """Greedy output for a batch, shape `(n, 1 + H)`; it starts with the decoder's start token. Or so many samples
        for each example, shape `(n · samples, 1 + H)`.

        A model in training decodes with dropout: without it, it makes few errors on data that it knows by heart.

        Args:
            outputs: of the model for the batch; its encoder is not run again.
        """
        self.require_generation()
        model = extract_model_from_parallel(model)
        config = copy.deepcopy(model.generation_config)
        config.update(num_beams=1, do_sample=False, early_stopping=False, length_penalty=1.0)
        config.update(num_return_sequences=1, return_dict_in_generate=False)
        if samples is not None:
            config.update(do_sample=True, num_return_sequences=samples, temperature=1.0, top_k=0, top_p=1.0)
        config.update(max_length=None, max_new_tokens=inputs["labels"].shape[1] + _EXTRA_TOKENS)
        skips = any(getattr(m, "gradient_checkpointing", False) or getattr(m, "layerdrop", 0) for m in model.modules())
        config.update(use_cache=not (model.training and skips))  # where a layer may not return what is to be cached
        arguments = {k: v for k, v in inputs.items() if k != "labels" and not k.startswith("decoder_")}
        encoded = BaseModelOutput(last_hidden_state=outputs.encoder_last_hidden_state.detach())
        return model.generate(**arguments, encoder_outputs=encoded, generation_config=config)

    def _aligned(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the labels that they predict: those of a decoder-only model are one position apart, and may follow
        those of a learned prompt."""
        if self.is_encoder_decoder:
            return logits, labels
        return logits[:, -labels.shape[1] : -1], labels[:, 1:]

    def _decoder_inputs(self, labels: Tensor) -> Tensor:
        prepare = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        if prepare is not None:
            return prepare(labels=labels)
        config = self.model.config  # M2M100, NLLB and Blenderbot shift labels within their forward pass alone
        return shift_tokens_right(labels, config.pad_token_id, config.decoder_start_token_id)

    def _target_features(self, log_probs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        mask = labels != -100
        text = mask & ~self._is_end(labels)
        return _to_the_left(mask, target_log_probs=log_probs, target_mask=mask, text_mask=text)

    def _sample_features(self, model: torch.nn.Module, outputs: Any, inputs: Inputs) -> dict[str, Tensor]:
        rows = self.generate(model, inputs, outputs, _SAMPLES)[:, 1:]
        rows = rows.masked_fill(~self._until_end(rows), -100)
        mask = inputs.get("attention_mask")
        logits = model(
            attention_mask=mask if mask is None else mask.repeat_interleave(_SAMPLES, 0),
            encoder_outputs=(outputs.encoder_last_hidden_state.repeat_interleave(_SAMPLES, 0),),
            decoder_input_ids=self._decoder_inputs(rows),
        ).logits
        references = [text for text in self._decode(inputs["labels"]) for _ in range(_SAMPLES)]
        bleu = [
            _BLEU.sentence_score(*pair).score / 100 for pair in zip(self._decode(rows), zip(references), strict=True)
        ]
        of_each = rows.view(-1, _SAMPLES, rows.shape[1])
        repeated = (of_each.unsqueeze(1) == of_each.unsqueeze(2)).all(-1).tril(-1).any(-1)
        return {
            "sample_log_probs": target_log_probs(logits, rows).sum(1).view(-1, _SAMPLES),
            "sample_mask": ~repeated,
            "sample_bleu": torch.tensor(bleu, device=rows.device).view(-1, _SAMPLES),
        }

    def _prefix_features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, targets: Tensor, hypotheses: Tensor
    ) -> dict[str, Tensor]:
        logits = model(
            attention_mask=inputs.get("attention_mask"),
            encoder_outputs=(outputs.encoder_last_hidden_state,),
            decoder_input_ids=hypotheses[:, :-1],
        ).logits.float()
        wanted = targets.clamp(min=0).unsqueeze(1).expand(-1, logits.shape[1], -1)
        log_probs = logits.gather(2, wanted) - logits.logsumexp(-1, keepdim=True)
        return {"prefix_log_probs": log_probs, "prefix_mask": self._until_end(hypotheses[:, 1:])}

    def _is_end(self, tokens: Tensor) -> Tensor:
        ends = self.model.generation_config.eos_token_id  # the Trainer adds that of the tokenizer when it starts
        return torch.isin(tokens, torch.tensor([] if ends is None else ends, dtype=torch.long, device=tokens.device))

    def _until_end(self, tokens: Tensor) -> Tensor:
        """Where the tokens of outputs are, their end included."""
        is_end = self._is_end(tokens)
        return is_end.cumsum(1) - is_end.int() == 0

    def _predictions(
        self, features: dict[str, Tensor], predicted: Tensor, labels: Tensor, candidate: Candidate
    ) -> Predictions:
        return Predictions(
            {name: value.detach().cpu() for name, value in features.items()},
            self._decode(predicted),
            self._decode(labels),
            torch.full((len(labels),), candidate.id),
        )

    def _decode(self, tokens: Tensor) -> list[str]:
        tokens = [[token for token in row if token != -100] for row in tokens.tolist()]
        return [text.strip() for text in self.processing_class.batch_decode(tokens, skip_special_tokens=True)]


def target_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probabilities of the labels, float32 of the shape of `labels`; 0 where a label is -100."""
    losses = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="none")
    return -losses.view_as(labels)


def _to_the_left(mask: Tensor, **values: Tensor) -> dict[str, Tensor]:
    """Move what `mask` marks to the left of each row, in order."""
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    return {name: value.gather(1, order) for name, value in values.items()}


def _first_equal(tokens: Tensor) -> Tensor:
    """For each position of a row, the first position with an equal token; int16."""
    return (tokens.unsqueeze(2) == tokens.unsqueeze(1)).to(torch.uint8).argmax(-1).to(torch.int16)


def _swap_with_rival(
    logits: Tensor,
    labels: Tensor,
    log_probs: Tensor,
    strongest: tuple[Tensor, Tensor],
    candidate: Candidate,
    seeds: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """What scores and predictions would be had the model mixed up the target and its strongest rival at a share of the
    positions: of those where it is wrong (an improvement), or of those where it is right."""
    best, second = strongest
    right = best == labels
    mask = labels != -100
    draws = uniform_draws(seeds, labels.shape[1]).to(labels.device).gather(1, (mask.cumsum(1) - 1).clamp(min=0))
    chosen = (draws < candidate.corruption) & mask & (~right if candidate.improve else right)
    rivals = torch.where(right, second, best)
    gain = logits.gather(2, torch.stack([rivals, labels.clamp(min=0)], dim=2)).float().diff(dim=2).squeeze(2).neg()
    swapped = torch.where(right, rivals, labels)
    return torch.where(chosen, log_probs + gain, log_probs), torch.where(chosen, swapped, best)
