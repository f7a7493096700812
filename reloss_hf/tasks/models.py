"""Facts about any model and its processing class, for all tasks."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import FeatureExtractionMixin, ImageProcessingMixin, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto


def named_outputs(outputs: Any, names: Sequence[str]) -> dict[str, Tensor | None]:
    """These outputs of a model; None for each name that it does not have.

    A `ModelOutput` or a dict has them by name. In a tuple they come in this order, after the loss. The loss is a number
    and may be missing, so the first output is the first tensor with at least two dimensions.
    """
    if hasattr(outputs, "keys"):
        return {name: outputs.get(name) for name in names}
    if isinstance(outputs, Tensor):
        outputs = (outputs,)
    if not isinstance(outputs, (tuple, list)):
        return {name: getattr(outputs, name, None) for name in names}
    first = next((place for place, value in enumerate(outputs) if _is_matrix(value)), len(outputs))
    found = [value if _is_matrix(value) else None for value in outputs[first : first + len(names)]]
    return dict(zip(names, [*found, *[None] * (len(names) - len(found))], strict=True))


def loss_of(outputs: Any) -> Tensor | None:
    """The loss that a model returns if it is given labels: under `"loss"`, or before the other outputs."""
    if isinstance(outputs, (tuple, list)):
        return outputs[0] if outputs and isinstance(outputs[0], Tensor) and not _is_matrix(outputs[0]) else None
    return named_outputs(outputs, ["loss"])["loss"]


def model_and_wrapped(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The model, then the model that it wraps: by PEFT, or as its only child."""
    while True:
        yield model
        children = list(model.children())
        if hasattr(model, "get_base_model"):
            model = model.get_base_model()
        elif len(children) == 1:
            model = children[0]
        else:
            return


def arguments_of(model: torch.nn.Module) -> frozenset[str] | None:
    """The arguments of `forward` of the model, or of the model inside PEFT; None if it takes any argument."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    parameters = inspect.signature(model.forward).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return None if takes_all else frozenset(parameters)


def takes(model: torch.nn.Module, argument: str) -> bool:
    """Whether `forward` of the model can be called with this argument."""
    known = arguments_of(model)
    return known is None or argument in known


def learns_prompts(model: torch.nn.Module) -> bool:
    """Whether PEFT puts a learned prompt or prefix before the input of the model."""
    return any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values())


def prompt_has_logits(model: torch.nn.Module) -> bool:
    """Whether a prompt learned by PEFT is part of the input, so that the model returns logits for it, too."""
    configs = getattr(model, "peft_config", {}).values()
    return any(config.is_prompt_learning and config.peft_type in ("PROMPT_TUNING", "P_TUNING") for config in configs)


def tokenizer_of(processing_class: Any) -> Any:
    """The tokenizer, or the tokenizer of a processor. None for a feature extractor or an image processor."""
    if isinstance(processing_class, PreTrainedTokenizerBase):
        return processing_class
    within = getattr(processing_class, "tokenizer", None)
    if within is not None:
        return within
    return None if isinstance(processing_class, (FeatureExtractionMixin, ImageProcessingMixin)) else processing_class


def class_names(*mappings: str) -> frozenset[str]:
    """The names of the models in these mappings of `transformers.models.auto.modeling_auto`, such as
    `"MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES"`."""
    names: set[str] = set()
    for mapping in mappings:
        if mapping.endswith("_MAPPING_NAMES"):
            for value in getattr(modeling_auto, mapping).values():
                names.update([value] if isinstance(value, str) else value)
    return frozenset(names)


def is_known_as(module: torch.nn.Module, names: frozenset[str]) -> bool:
    """Whether the module belongs to one of these classes, or to a subclass."""
    return any(parent.__name__ in names for parent in type(module).__mro__)


def is_one_of(module: torch.nn.Module, names: frozenset[str]) -> bool:
    """Whether the module, or the one inside PEFT, is of one of these classes of transformers, and of no subclass."""
    module = module.get_base_model() if hasattr(module, "get_base_model") else module
    return type(module).__name__ in names and type(module).__module__.startswith("transformers.")


def same(left: Iterable[Tensor | None], right: Iterable[Tensor | None]) -> bool:
    """Whether the tensors are equal, up to rounding."""
    for one, other in zip(left, right, strict=True):
        if one is None or other is None or one.shape != other.shape:
            return False
        one, other = one.float().nan_to_num(), other.float().nan_to_num()
        if not torch.allclose(one, other, rtol=1e-2, atol=1e-2 * max(1.0, one.abs().max().item())):
            return False
    return True


@contextmanager
def forked_random_state() -> Iterator[None]:
    """Restores the random state of torch afterwards, also on the GPU in use."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        yield


@contextmanager
def as_in_evaluation(model: torch.nn.Module) -> Iterator[None]:
    """Turns off gradients and dropout. Restores each module and the random state afterwards."""
    training = [module for module in model.modules() if module.training]
    with torch.no_grad(), forked_random_state():
        model.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True


def _is_matrix(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim >= 2
