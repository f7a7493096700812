"""What a surrogate costs, as ratios measured in one run: learning it, a training step on it, and its parts.

    python benchmarks/speed.py --predictions path/to/reloss_state

`--predictions`, of a translation run, is what learning is timed on; the rest makes its own inputs. What is compared
takes turns, so that other work on the machine slows both sides down. Seconds are those of the clock, medians over
`--rounds`; memory is the peak of what is allocated beyond what was there before.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.profiler import ProfilerActivity, profile
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    DataCollatorForSeq2Seq,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
)

from reloss_hf import (
    AnswersSurrogate,
    ExpectedF1Loss,
    MinimumRiskLoss,
    NgramSurrogate,
    OwnOutputSurrogate,
    Predictions,
    ReLossCallback,
    ReLossSeq2SeqTrainer,
    ReLossSeq2SeqTrainingArguments,
    ReLossTrainer,
    ReLossTrainingArguments,
    SharpenedF1Surrogate,
    SurrogateLearner,
    gradient_penalty,
    soft_rank,
    sorting_network_rank,
    spearman_correlation,
)
from reloss_hf.learner import _correlation, _rows, _with_logits
from reloss_hf.predictions import PredictionStore
from reloss_hf.surrogates import weighted_mean

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PARTS = ("learning", "translation", "own_output", "question_answering", "soft_rank", "store")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", help="a folder of predictions of a translation run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--rounds", type=int, default=9, help="how often each step is timed")
    parser.add_argument("--patience", type=float, default=600, help="seconds that the reference may take to learn")
    parser.add_argument("--largest_rank", type=int, default=4096, help="how many values are ranked at most")
    parser.add_argument("--results", default="benchmarks/results/speed.json", help="where they go, beside older ones")
    options = parser.parse_args()
    measured = {}
    if "learning" in options.parts:
        if options.predictions is None:
            parser.error("learning needs --predictions")
        measured |= time_learning(options.predictions, options.patience)
    if "translation" in options.parts:
        measured |= time_steps(
            "step", translation_trainers(60_000, 512, 3), token_batch(60_000, 32, 64), options.rounds
        )
        measured |= time_steps(
            "multi30k_step", translation_trainers(6_000, 192, 3), token_batch(6_000, 128, 16), options.rounds
        )
    if "own_output" in options.parts:
        measured |= time_steps("own_output_step", own_output_trainers(), token_batch(6_000, 128, 16), options.rounds)
    if "question_answering" in options.parts:
        measured |= time_steps("question_step", question_trainers(), span_batch(16, 384), options.rounds)
    if "soft_rank" in options.parts:
        measured |= time_ranks(options.largest_rank)
    if "store" in options.parts:
        measured |= measure_store()
    path = Path(options.results)
    results = json.loads(path.read_text()) if path.exists() else {}
    results |= measured | {"device": DEVICE.type, "threads": torch.get_num_threads(), "torch": torch.__version__}
    results.setdefault("commands", {})[" ".join(options.parts)] = " ".join(sys.argv)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    for name, value in measured.items():
        print(f"{name:45} {value}")


class OneByOneLearner(SurrogateLearner):
    """Learns as the official code does: one group after the other, with a double backward each, a sorting network over
    256 of them, and the paper's rates. It stops where it orders held-out groups as well as `target`, or after
    `most_seconds`."""

    def __init__(self, *arguments, target: float, most_seconds: float, **keywords):
        super().__init__(*arguments, rank=sorting_network_rank, **keywords)
        self.target, self.most_seconds = target, most_seconds

    def _optimise(self, predictions, groups, checked, generator):
        optimizer = torch.optim.Adam(self.surrogate.parameters(), lr=0.01, weight_decay=1e-3)
        started, step, self.best = time.perf_counter(), 0, -1.0
        rows, metric = groups.rows.flatten(0, 1), groups.metric.flatten()
        while self.best < self.target and time.perf_counter() - started < self.most_seconds:
            chosen = torch.randperm(len(rows), generator=generator)[:256]
            means, penalties = [], []
            for group in rows[chosen]:
                features = _rows(predictions, group)
                losses, logits = _with_logits(self.surrogate, features)
                penalties.append(gradient_penalty(losses, logits))
                means.append(weighted_mean(losses, self.surrogate.weights(features)))
            order = spearman_correlation(-torch.stack(means), metric[chosen], 0.2, sorting_network_rank)
            optimizer.zero_grad()
            (10 * torch.stack(penalties).mean() - order).backward()
            optimizer.step()
            step += 1
            self.best = max(self.best, held_out_correlation(self, predictions, checked))
        self.optimising = time.perf_counter() - started
        return step


class TimedLearner(SurrogateLearner):
    """The library's learner, with the seconds of its optimisation."""

    def _optimise(self, predictions, groups, checked, generator):
        started = time.perf_counter()
        step = super()._optimise(predictions, groups, checked, generator)
        self.optimising, self.best = time.perf_counter() - started, held_out_correlation(self, predictions, checked)
        return step


def held_out_correlation(learner, predictions, checked) -> float:
    losses = learner._group_losses(learner.surrogate, predictions, checked)
    return float(_correlation(-losses, checked.metric, soft_rank))


def time_learning(folder: str, most_seconds: float) -> dict:
    """The default against the paper's network learned as the official code does, both to one held-out correlation."""
    predictions = Predictions.load(folder)
    ours = TimedLearner("sacrebleu", "NgramSurrogate", progress=False)
    ours.learn(predictions)
    network = TimedLearner("sacrebleu", "TransformerTokenSurrogate", progress=False)
    network.learn(predictions)
    measured = {
        "learning_seconds": round(ours.optimising, 2),
        "learning_held_out": round(ours.best, 4),
        "learning_network_seconds": round(network.optimising, 2),
        "learning_network_held_out": round(network.best, 4),
    }
    for name, surrogate in (
        ("learning", "TransformerTokenSurrogate"),
        ("learning_same_surrogate", "NgramSurrogate"),
    ):
        reference = OneByOneLearner("sacrebleu", surrogate, progress=False, target=ours.best, most_seconds=most_seconds)
        reference.learn(predictions)
        measured |= {
            f"{name}_speedup": round(reference.optimising / ours.optimising, 1),
            f"{name}_reference_seconds": round(reference.optimising, 1),
            f"{name}_reference_held_out": round(reference.best, 4),
            f"{name}_reference_reached_it": reference.best >= ours.best,
        }
    return measured


def translation_trainers(vocabulary: int, width: int, layers: int) -> dict[str, ReLossSeq2SeqTrainer]:
    model, tokenizer = translation_model(vocabulary, width, layers)
    return {
        "cross_entropy": translation_trainer(model, tokenizer, surrogate_start=None),
        "surrogate": translation_trainer(model, tokenizer, NgramSurrogate(), surrogate_start=0),
        "collecting": translation_trainer(model, tokenizer, metric="sacrebleu", callbacks=[AlwaysCollect()]),
    }


def own_output_trainers() -> dict[str, ReLossSeq2SeqTrainer]:
    """Of the losses that decode in every step, at the size of the Multi30k model."""
    model, tokenizer = translation_model(6_000, 192, 3)
    return {
        "cross_entropy": translation_trainer(model, tokenizer, surrogate_start=None),
        "surrogate": translation_trainer(model, tokenizer, OwnOutputSurrogate(), surrogate_start=0),
        "minimum_risk": translation_trainer(model, tokenizer, MinimumRiskLoss(), surrogate_start=0),
    }


def translation_model(vocabulary: int, width: int, layers: int) -> tuple[MarianMTModel, PreTrainedTokenizerFast]:
    config = MarianConfig(
        vocab_size=vocabulary, d_model=width, encoder_layers=layers, decoder_layers=layers, encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, encoder_attention_heads=4, decoder_attention_heads=4, pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    return MarianMTModel(config).to(DEVICE), make_tokenizer(vocabulary)


def translation_trainer(model, tokenizer, surrogate=None, metric=None, callbacks=None, **changes):
    args = ReLossSeq2SeqTrainingArguments("out/speed", report_to="none", use_cpu=DEVICE.type == "cpu", **changes)
    return ReLossSeq2SeqTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        train_dataset=[{"input_ids": [4, 5, 1], "attention_mask": [1, 1, 1], "labels": [4, 5, 1]}] * 1000,
        surrogate=surrogate,
        metric=metric,
        callbacks=callbacks,
    )


def question_trainers() -> dict[str, ReLossTrainer]:
    config = BertConfig(
        vocab_size=30_000, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    arguments = {
        "model": BertForQuestionAnswering(config).to(DEVICE),
        "processing_class": make_tokenizer(30_000),
        "train_dataset": [{"input_ids": [2, 4, 3, 5, 3], "start_positions": 3, "end_positions": 3}] * 1000,
    }
    args = {"output_dir": "out/speed", "report_to": "none", "use_cpu": DEVICE.type == "cpu"}
    trainers = {
        name: ReLossTrainer(args=ReLossTrainingArguments(**args, surrogate_start=0), surrogate=loss, **arguments)
        for name, loss in (
            ("surrogate", AnswersSurrogate()),
            ("sharpened_f1", SharpenedF1Surrogate()),
            ("expected_f1", ExpectedF1Loss()),
        )
    }
    return trainers | {
        "cross_entropy": ReLossTrainer(args=ReLossTrainingArguments(**args, surrogate_start=None), **arguments),
        "collecting": ReLossTrainer(
            args=ReLossTrainingArguments(**args), metric="squad", callbacks=[AlwaysCollect()], **arguments
        ),
    }


class AlwaysCollect(ReLossCallback):
    """Makes every step one that collects, each a snapshot of its own."""

    start_step, collected = 10**6, 0

    def should_collect(self, args, state):
        return True

    def snapshot(self, args, state):
        self.collected += 1
        return self.collected


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    words = ["<pad>", "</s>", "[CLS]", "[SEP]", *(f"w{number}" for number in range(4, vocabulary))]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="</s>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", cls_token="[CLS]", sep_token="[SEP]"
    )


def token_batch(vocabulary: int, rows: int, length: int) -> dict:
    ids = torch.randint(4, vocabulary, (2, rows, length), device=DEVICE)
    return {"input_ids": ids[0], "attention_mask": torch.ones_like(ids[0]), "labels": ids[1]}


def span_batch(rows: int, length: int) -> dict:
    ids = torch.randint(4, 30_000, (rows, length), device=DEVICE)
    ids[:, 0], ids[:, 15], ids[:, -1] = 2, 3, 3
    starts = torch.randint(20, length - 10, (rows,), device=DEVICE)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": (torch.arange(length, device=DEVICE) > 15).long().expand(rows, -1),
        "start_positions": starts,
        "end_positions": starts + 3,
        "gold_spans": torch.stack([starts + shift for shift in (0, 3, 0, 2, 1, 3)], dim=1).view(rows, 3, 2),
    }


def time_steps(name: str, trainers: dict, batch: dict, rounds: int) -> dict:
    """Time and memory of a step, forward, backward and optimiser, over those of a step on cross-entropy."""
    steps = {kind: training_step(trainer, batch) for kind, trainer in trainers.items()}
    for step in steps.values():
        step()
    seconds = {kind: [] for kind in steps}
    for _ in range(rounds):
        for kind, step in steps.items():
            seconds[kind].append(timed(step))
    memory = {kind: peak_memory(step) for kind, step in steps.items()}
    base = statistics.median(seconds["cross_entropy"])
    measured = {f"{name}_seconds": round(base, 4)}
    for kind in steps.keys() - {"cross_entropy"}:
        prefix = name if kind == "surrogate" else f"{name}_{kind}"
        measured[f"{prefix}_time_ratio"] = round(statistics.median(seconds[kind]) / base, 3)
        measured[f"{prefix}_memory_ratio"] = round(memory[kind] / memory["cross_entropy"], 3)
    return dict(sorted(measured.items()))


def training_step(trainer, batch: dict) -> Callable[[], None]:
    optimizer = trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()

    def step():
        trainer.training_step(trainer.model, dict(batch))
        optimizer.step()
        optimizer.zero_grad()

    return step


def time_ranks(largest: int) -> dict:
    """Forward and backward of Spearman's correlation by a pairwise soft rank and by the paper's sorting network."""
    measured = {}
    sizes = [size for size in (64, 256, 1024, 4096) if size <= largest]
    for size in sizes:
        scores, targets = torch.randn(2, size, device=DEVICE)

        def step(rank, scores=scores, targets=targets):
            spearman_correlation(scores.clone().requires_grad_(), targets, rank=rank).backward()

        seconds, memory = {}, {}
        for rank in (soft_rank, sorting_network_rank):
            step(rank)
            seconds[rank] = statistics.median(timed(lambda rank=rank: step(rank)) for _ in range(3))
            memory[rank] = peak_memory(lambda rank=rank: step(rank))
        measured[f"soft_rank_speedup_{size}"] = round(seconds[sorting_network_rank] / seconds[soft_rank], 1)
        measured[f"soft_rank_memory_ratio_{size}"] = round(memory[soft_rank] / memory[sorting_network_rank], 4)
    return measured


def measure_store() -> dict:
    """Bytes that the store of one process holds after so many examples were offered to it."""
    store, held = PredictionStore(512, 0, 1), {}
    for seen in range(64, 64_001, 64):
        snapshot = 0 if seen <= 32_000 else 1
        places = store.reserve(snapshot, 64)
        if places:
            rows = len(places)
            features = {"target_log_probs": torch.zeros(rows, 16), "target_mask": torch.ones(rows, 16).bool()}
            store.add(Predictions(features, ["text"] * rows, ["text"] * rows, torch.full((rows,), snapshot)))
        if seen in (3_200, 32_000, 35_200, 64_000):
            held[seen] = sum(value.nbytes for value in store.predictions().features.values())
    return {
        "store_growth_within_a_snapshot": held[32_000] / held[3_200],
        "store_growth_by_a_snapshot": held[64_000] / held[32_000],
    }


def timed(step: Callable[[], None]) -> float:
    synchronise()
    started = time.perf_counter()
    step()
    synchronise()
    return time.perf_counter() - started


def peak_memory(step: Callable[[], None]) -> int:
    """The most bytes that are allocated at once in a step, beyond those that were before."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
