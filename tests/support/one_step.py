"""One step of training on eight examples, texts of different lengths, for each kind of model, however it is split."""

import torch
import toy_questions
from toy_translation import build_toy_model, make_tokenizer, make_toy_data
from transformers import DataCollatorForSeq2Seq, LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from reloss_hf import ReLossTrainer, ReLossTrainingArguments, prepare_features
from reloss_hf.surrogate import surrogate_class

# Each kind of model with a surrogate for it.
SURROGATES = {
    "marian": "LogNgramSurrogate",
    "t5": "LogNgramSurrogate",
    "llama": "LogNgramSurrogate",
    "bert": "SharpenedF1Surrogate",
}
EXAMPLES = 8


def gradient(kind, phase, batch_size, accumulation, output_dir):
    """The gradient of the one step, in the phase `cross_entropy` or `surrogate`: what SGD takes off the weights.

    Returns:
        The gradient, flat, and how many processes made it.
    """
    torch.manual_seed(0)
    surrogate = None if phase == "cross_entropy" else surrogate_class(SURROGATES[kind])()
    trainer = ReLossTrainer(
        args=ReLossTrainingArguments(
            str(output_dir), max_steps=1, per_device_train_batch_size=batch_size, optim="sgd", learning_rate=1.0,
            gradient_accumulation_steps=accumulation, lr_scheduler_type="constant", max_grad_norm=0,
            surrogate_start=None if surrogate is None else 0, save_strategy="no", report_to="none", use_cpu=True,
            disable_tqdm=True,
        ),
        surrogate=surrogate,
        **parts(kind),
    )  # fmt: skip
    before = flat(trainer.model)
    trainer.train()
    return before - flat(trainer.model), trainer.args.world_size


def parts(kind):
    if kind == "bert":
        tokenizer = toy_questions.make_tokenizer()
        features = prepare_features(toy_questions.make_examples(100), tokenizer, 64, 16)
        # Of equal length, as the model takes its cross-entropy over the positions of the padding, too.
        equal = [row for row in features if len(row["input_ids"]) == 14][:EXAMPLES]
        return {"model": toy_questions.make_model(), "train_dataset": equal, "processing_class": tokenizer}
    tokenizer = make_tokenizer()
    data = list(make_toy_data(tokenizer, EXAMPLES, shortest=2, longest=12))
    return {
        "model": build_toy_model(tokenizer, seed=0) if kind == "marian" else MAKERS[kind](tokenizer),
        "train_dataset": [as_prompt(row) for row in data] if kind == "llama" else data,
        "processing_class": tokenizer,
        "data_collator": DataCollatorForSeq2Seq(tokenizer),
    }


def as_prompt(row):
    return {
        "input_ids": row["input_ids"] + row["labels"],
        "attention_mask": [1] * len(row["input_ids"] + row["labels"]),
        "labels": [-100] * len(row["input_ids"]) + row["labels"],
    }


def make_t5(tokenizer):
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, dropout_rate=0.0,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def make_llama(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=1, initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(config)


MAKERS = {"t5": make_t5, "llama": make_llama}


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])
