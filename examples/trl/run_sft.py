"""Fine-tune a decoder-only model with TRL's `SFTTrainer` on cross-entropy, then on a learned surrogate of BLEU.

    python examples/trl/run_sft.py                          # a small Llama on a corpus of its own, a few minutes
    python examples/trl/run_sft.py --surrogate me/reloss-sacrebleu-en-de

It needs `pip install 'reloss_hf[examples,trl]'`. Two arms continue a warm start for equally many epochs: one on
cross-entropy, one on the surrogate. With `--packing` the surrogate reads each text of a packed row on its own.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import torch
from sacrebleu.metrics import BLEU
from tokenizers import processors
from transformers import HfArgumentParser, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

from reloss_hf import ReLossArguments, ReLossMixin

sys.path.append(str(Path(__file__).resolve().parents[1] / "translation"))
import cldr_corpus
from from_scratch import train_tokenizer


class ReLossSFTTrainer(ReLossMixin, SFTTrainer):
    pass


@dataclass
class ReLossSFTConfig(ReLossArguments, SFTConfig):
    pass


@dataclass
class ScriptArguments:
    surrogate: str = field(default="bleu", metadata={"help": "A shipped surrogate, a folder, or an id on the hub."})
    further_epochs: float = field(
        default=2.0, metadata={"help": "Epochs of each arm, after a common start of --num_train_epochs."}
    )
    further_learning_rate: float = field(default=3e-4, metadata={"help": "Learning rate of each arm."})
    max_train_samples: int = field(default=4000, metadata={"help": "Pairs to train on."})
    max_eval_samples: int = field(default=300, metadata={"help": "Pairs to measure on."})
    vocab_size: int = field(default=1500, metadata={"help": "Vocabulary size of the tokenizer."})
    layers: int = field(default=3, metadata={"help": "Layers of the model."})
    width: int = field(default=128, metadata={"help": "Width of the model."})


def main() -> None:
    script, args = parse_arguments()
    set_seed(args.seed)
    corpus = cldr_corpus.load(train=script.max_train_samples, test=script.max_eval_samples)
    tokenizer = make_tokenizer(corpus["train"], script.vocab_size)
    model = make_model(tokenizer, script)
    train = corpus["train"].map(as_prompt, remove_columns="translation")

    def fine_tune(model, surrogate=None):
        args.surrogate_start = None if surrogate is None else 0
        trainer = ReLossSFTTrainer(
            model, args=args, train_dataset=train, processing_class=tokenizer, surrogate=surrogate
        )
        trainer.train()
        return bleu(model, tokenizer, corpus["test"])

    def again():  # TRL puts its own forward into the model, and deepcopy would keep the old weights in it
        copy = make_model(tokenizer, script)
        copy.load_state_dict(model.state_dict())
        return copy

    rows = [("warm start", fine_tune(model))]
    args.num_train_epochs, args.learning_rate = script.further_epochs, script.further_learning_rate
    rows.append(("cross-entropy", fine_tune(again())))
    rows.append(("surrogate", fine_tune(again(), script.surrogate)))
    print("\n| arm | BLEU, greedy |\n|---|---|")
    for arm, score in rows:
        print(f"| {arm} | {score:.2f} |")


def parse_arguments() -> tuple[ScriptArguments, ReLossSFTConfig]:
    parser = HfArgumentParser((ScriptArguments, ReLossSFTConfig))
    parser.set_defaults(
        output_dir="out/sft",
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        num_train_epochs=12,
        learning_rate=2e-3,
        logging_steps=50,
        save_strategy="no",
        report_to="none",
        gradient_checkpointing=False,
    )
    return parser.parse_args_into_dataclasses()


def make_tokenizer(train: datasets.Dataset, vocab_size: int) -> PreTrainedTokenizerFast:
    """The tokenizer of the translation example without the end of a text, which TRL sets."""
    tokenizer = train_tokenizer((text for pair in train["translation"] for text in pair.values()), vocab_size)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast, script: ScriptArguments) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=script.width,
            intermediate_size=script.width * 8 // 3,
            num_hidden_layers=script.layers,
            num_attention_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def as_prompt(row: dict) -> dict:
    english, german = (row["translation"][language] for language in ("en", "de"))
    return {"prompt": f"{english} =", "completion": f" {german}"}


@torch.no_grad()
def bleu(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: datasets.Dataset) -> float:
    model.eval()
    hypotheses = []
    for batch in rows.batch(64):
        prompts = [as_prompt({"translation": pair})["prompt"] for pair in batch["translation"]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)
        inputs.pop("token_type_ids", None)
        output = model.generate(**inputs, max_new_tokens=96, do_sample=False)
        hypotheses += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    references = [pair["de"] for pair in rows["translation"]]
    return BLEU().corpus_score([text.strip() for text in hypotheses], [references]).score


if __name__ == "__main__":
    main()
