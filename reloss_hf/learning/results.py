"""Finds the number in a metric's result."""

import dataclasses
import math
import numbers
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sacrebleu.metrics.base import Score

# Names of error rates. scikit-learn: "functions ending with _error, _loss, or _deviance return a value to minimize"
# (user guide, section 3.4.1.1).
_ERROR_RATES = {"wer", "cer", "ter", "mer", "per", "der", "wil", "word_information_lost"}
_ERROR_MEASURES = {"mse", "rmse", "mae", "mape", "smape", "mase"}
_ERROR_ENDINGS = ("_error", "_loss", "_deviance", "_error_rate", "_edit_rate")


def is_error_rate(name: str) -> bool:
    """Whether a metric with this name is an error rate, so that lower values are better."""
    name = name.rpartition(".")[2].lower()
    return name in _ERROR_RATES | _ERROR_MEASURES or name.endswith(_ERROR_ENDINGS)


def number_of(result: Any, key: str | None = None, main_keys: Collection[str] = ()) -> tuple[float, str | None]:
    """The number that a result means, and its key if the result has several parts.

    Args:
        result: a number, an array, tensor or list of numbers (their mean counts), a score of sacrebleu, or a mapping,
            named tuple or dataclass of these, which may be nested.
        key: the key of one of its numbers, such as `"rouge1.fmeasure"`. A beginning or an end of the key is enough if
            it fits only one number.
        main_keys: the keys to look for if `key` is None and the result has several numbers.

    Raises:
        ValueError: there is no such number, there are several, or it is NaN or infinite. The message shows the result.
    """
    number, _ = _number(result)
    if number is None:
        parts = _parts(result)
        if parts is None:
            raise ValueError(f"the metric gave {_short(result)} instead of a number{_of_type(result)}")
        found = {name: _number(value) for name, value in _leaves(parts)}
        sizes = {name: size for name, (number, size) in found.items() if number is not None}
        key = _named(key, sizes, result) if key is not None else _main(sizes, main_keys, result)
        number = found[key][0]
    elif key is not None:
        raise ValueError(f"metric_key={key!r} names a part of the result, but the metric gave {_short(result)} alone")
    if not math.isfinite(number):
        raise ValueError(f"the metric gave {number}" + (f" for {key!r}" if key else ""))
    return number, key


def _number(value: Any) -> tuple[float | None, int]:
    """A number, or the mean of several, and how many there are."""
    if isinstance(value, Score):
        value = value.score
    if isinstance(value, numbers.Real):
        return float(value), 1
    if isinstance(value, torch.Tensor):
        value = np.array(value.detach().cpu().tolist())  # NumPy has no bfloat16
    if isinstance(value, list) and value:
        values = [_number(item) for item in value]
        if any(number is None or size != 1 for number, size in values):
            return None, 0
        value = np.array([number for number, _ in values])
    if isinstance(value, np.ndarray | np.generic) and value.size and value.dtype.kind in "biuf":
        return float(value.astype(np.float64).mean()), value.size
    return None, 0


def _parts(value: Any) -> Mapping | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: getattr(value, name) for name in value._fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _leaves(parts: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in parts.items():
        inner = _parts(value)
        if inner is None:
            yield f"{prefix}{name}", value
        else:
            yield from _leaves(inner, f"{prefix}{name}.")


def _named(key: str, sizes: Mapping[str, int], result: Any) -> str:
    if key in sizes:
        return key
    found = [name for name in sizes if name.startswith(f"{key}.") or name.endswith(f".{key}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"metric_key={key!r} fits several numbers of the metric's result; pass one of {found}")
    raise ValueError(f"metric_key={key!r} is not in the metric's result{_choices(sizes, result)}")


def _main(sizes: Mapping[str, int], main_keys: Collection[str], result: Any) -> str:
    # If one number stands beside lists or nested parts, the result means that number.
    alone = [name for name, size in sizes.items() if size == 1 and "." not in name]
    for names in (alone, list(sizes)):
        if len(names) == 1:
            return names[0]
        for name in main_keys:
            if name in names:
                return name
    if sizes:
        raise ValueError(f"the metric's result has several numbers, {list(sizes)}: name one of them by metric_key=")
    raise ValueError(f"the metric gave {_short(result)}, in which there is no number")


def _choices(sizes: Mapping[str, int], result: Any) -> str:
    return f"; pass one of {list(sizes)}" if sizes else f", {_short(result)}, in which there is no number"


def _of_type(value: Any) -> str:
    if isinstance(value, tuple):
        return ": return one number, or a dict and name it by metric_key="
    return "" if value is None or isinstance(value, str | list) else f", a {type(value).__name__}"


def _short(value: Any, longest: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def json_value(value: Any) -> Any:
    """An option in the form for JSON. Anything but a plain value or a list of such becomes its `repr`."""
    plain = str | int | float | bool | None
    if isinstance(value, list | tuple) and all(isinstance(one, plain) for one in value):
        return list(value)
    return value if isinstance(value, plain) else repr(value)
