"""What benchmarks share whose arms continue one warm start: its optimizer, and training until it is best."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments

# Training arguments of a warm start. The optimizer has the rate.
CONSTANT_RATE = {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 50}


class UntilItStopsRising(Trainer):
    """Measures validation after each epoch, keeps the best weights, stops after `patience` epochs without a gain."""

    def __init__(self, *positional, score: Callable[[PreTrainedModel], float], patience: int = 1, **keywords):
        super().__init__(*positional, **keywords)
        self.score, self.patience, self.curve, self.best = score, patience, [], None

    def _maybe_log_save_evaluate(self, *positional, **keywords):
        if self.control.should_evaluate:
            self.control.should_evaluate = False
            self.curve.append(self.score(self.model))
            print(f"warm start, epoch {len(self.curve)}: {self.curve[-1]:.2f} on validation", flush=True)
            if self.curve[-1] == max(self.curve):
                self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
            elif max(self.curve) not in self.curve[-self.patience :]:
                self.control.should_training_stop = True
            self.model.train()
        super()._maybe_log_save_evaluate(*positional, **keywords)


def stored_start(
    path: Path,
    new_model: Callable[[], PreTrainedModel],
    args: TrainingArguments,
    optimizer_of: Callable[[PreTrainedModel], torch.optim.Optimizer],
    measured: Callable[[PreTrainedModel], dict],
    trainer_class: type[UntilItStopsRising] = UntilItStopsRising,
    **keywords,
) -> dict:
    """The weights that are best on validation, `model`; the `curve` of validation, the `seconds` of training, and what
    is measured. Trained where it is not stored at `path`.

    Args:
        keywords: of `UntilItStopsRising`.
    """
    if path.exists():
        return torch.load(path)
    torch.manual_seed(args.seed)
    model = new_model()
    trainer = trainer_class(model, args, optimizers=(optimizer_of(model), None), **keywords)
    seconds = trainer.train().metrics["train_runtime"]
    model.load_state_dict(trainer.best)
    stored = {"model": trainer.best, "curve": trainer.curve, "seconds": round(seconds, 1)} | measured(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(stored, path)
    return stored


def with_two_rates(
    model: PreTrainedModel, head: str | tuple[str, ...], rate: float, head_rate: float
) -> torch.optim.Optimizer:
    """AdamW, with a rate for the head and one for the rest.

    Args:
        head: how the names of the parameters of the head begin.
    """
    parts: tuple[list, list] = ([], [])
    for name, value in model.named_parameters():
        if value.requires_grad:
            parts[name.startswith(head)].append(value)
    groups = [{"params": values, "lr": of_part} for values, of_part in zip(parts, (rate, head_rate), strict=True)]
    return torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
