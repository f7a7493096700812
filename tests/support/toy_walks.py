"""Texts that a decoder-only model learns in a few steps: a walk through a list of words, mostly to the next of them."""

import random

from toy_translation import WORDS


def walks(count, seed=0):
    """Prompts, the word to begin with, and completions."""
    draw, words = random.Random(seed), list(WORDS)
    for _ in range(count):
        places = [draw.randrange(len(words))]
        for _ in range(draw.randint(3, 6)):
            places.append((places[-1] + 1 if draw.random() < 0.7 else draw.randrange(len(words))) % len(words))
        first, *others = [words[place] for place in places]
        yield {"prompt": first, "completion": " " + " ".join(others)}


def tokenized(tokenizer, row):
    """As TRL does it: labels on the completion and its end alone."""
    prompt = tokenizer(row["prompt"]).input_ids
    completion = [*tokenizer(row["completion"]).input_ids, tokenizer.eos_token_id]
    return {
        "input_ids": prompt + completion,
        "attention_mask": [1] * len(prompt + completion),
        "labels": [-100] * len(prompt) + completion,
    }
