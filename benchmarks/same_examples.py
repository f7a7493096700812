"""How losses order copies of one translation model, perturbed by noise, over the same sentences.

    python benchmarks/same_examples.py --model out/translation/warm_start/checkpoint-3269 \
        --file validation.jsonl.gz --source_lang en --target_lang de

Groups of *different* sentences teach a loss which sentences are easy; training asks which model is better on *these*.
Here every group of sentences is translated by all copies, and the losses of the copies, forced along the references,
are ranked against the BLEU of their own greedy translations: Spearman's correlation over the copies, mean of groups.
"""

import argparse
import copy

import datasets
import numpy as np
import torch
from sacrebleu.metrics import BLEU
from token_losses import token_losses
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq

from reloss_hf import TokenCrossEntropy, spearman_correlation
from reloss_hf.learning.functional import hard_rank
from reloss_hf.surrogate import weighted_mean
from reloss_hf.tasks.token_sequence.task import TokenSequenceTask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder")
    parser.add_argument("--file", required=True, help="JSON lines, {'translation': {'en': …, 'de': …}}")
    parser.add_argument("--source_lang", required=True)
    parser.add_argument("--target_lang", required=True)
    parser.add_argument("--surrogates", nargs="*", default=["bleu"], help="learned ones, by name or folder")
    parser.add_argument("--sentences", type=int, default=512, help="the first of the file")
    parser.add_argument("--noise", nargs="+", type=float, default=[0.02, 0.04, 0.06, 0.08, 0.1], help="standard "
                        "deviations, in those of each weight matrix")  # fmt: skip
    parser.add_argument("--copies", type=int, default=10, help="of each noise")
    parser.add_argument("--group_sizes", nargs="+", type=int, default=[16, 64, 512])
    options = parser.parse_args()
    losses = token_losses(options.surrogates)
    model = AutoModelForSeq2SeqLM.from_pretrained(options.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    pairs = datasets.load_dataset("json", data_files=options.file, split="train")["translation"][: options.sentences]
    values = {name: [] for name in losses}
    outputs, generator = [], torch.Generator().manual_seed(0)
    for number in range(options.copies * len(options.noise)):
        noise = options.noise[number % len(options.noise)]
        features, texts = predict(perturbed(model, noise, generator), tokenizer, pairs, options)
        outputs.append(texts)
        for name, loss in losses.items():
            values[name].append(torch.cat([loss(part) for part in features]))
    weights = torch.cat([TokenCrossEntropy.weights(part) for part in features])
    references = [pair[options.target_lang] for pair in pairs]
    order = np.random.default_rng(0).permutation(len(pairs))
    print(f"| loss | {' | '.join(f'groups of {size}' for size in options.group_sizes)} |")
    print("|---" * (1 + len(options.group_sizes)) + "|")
    correlations = {name: [] for name in losses}
    for size in options.group_sizes:
        groups = [order[i : i + size].tolist() for i in range(0, len(order) - size + 1, size)]
        bleu = torch.tensor([[corpus_bleu(texts, references, group) for texts in outputs] for group in groups])
        for name, found in values.items():
            found = torch.stack(found)
            scores = torch.stack([-weighted_mean(found[:, group], weights[group]) for group in groups])
            correlations[name].append(spearman_correlation(scores, bleu, rank=hard_rank).mean())
    for name, row in correlations.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in row)} |")


@torch.no_grad()
def perturbed(model, noise: float, generator: torch.Generator):
    model = copy.deepcopy(model)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight += noise * weight.std() * torch.randn(weight.shape, generator=generator)
    return model


@torch.no_grad()
def predict(model, tokenizer, pairs: list[dict], options) -> tuple[list[dict], list[str]]:
    """Features of the references in batches, and greedy translations, of all pairs in order."""
    task, collate = TokenSequenceTask(model, tokenizer), DataCollatorForSeq2Seq(tokenizer)
    features, texts = [], []
    for start in range(0, len(pairs), 128):
        rows = [
            {
                "input_ids": tokenizer(pair[options.source_lang])["input_ids"],
                "labels": tokenizer(text_target=pair[options.target_lang])["input_ids"],
            }
            for pair in pairs[start : start + 128]
        ]
        batch = dict(collate(rows))
        outputs = model(**task.without_labels(batch))
        features.append(task.features(model, outputs, batch, TokenCrossEntropy.reads))
        texts += tokenizer.batch_decode(task.generate(model, batch, outputs), skip_special_tokens=True)
    return features, [text.strip() for text in texts]


def corpus_bleu(hypotheses: list[str], references: list[str], rows: list[int]) -> float:
    return BLEU().corpus_score([hypotheses[row] for row in rows], [[references[row] for row in rows]]).score


if __name__ == "__main__":
    main()
