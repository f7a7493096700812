"""Calls metrics: modules of `evaluate` without their files, functions by the names of their parameters."""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, Signature
from typing import Any

import evaluate
import numpy as np
from evaluate import CombinedEvaluations
from sacrebleu.metrics.base import Metric as SacreMetric

EvaluateMetric = evaluate.EvaluationModule | CombinedEvaluations
LoadedMetric = EvaluateMetric | SacreMetric | Callable[[list, list], Any]
Call = Callable[[list, list], Any]

# Parameters with these names get the predictions, or the references, in any position.
PREDICTIONS = ("predictions", "prediction", "preds", "pred", "y_pred", "hypotheses", "hypothesis")
REFERENCES = ("references", "reference", "refs", "ref", "y_true", "targets", "target")
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (*_POSITIONAL, Parameter.KEYWORD_ONLY)
_SEED = 0  # for metrics that draw and have no seed of their own


class VectorisedMetric(ABC):
    """A metric that scores many groups at once, because hundreds of calls take too long."""

    @abstractmethod
    def __call__(self, predictions: list, references: list) -> Any:
        """The score of one group."""

    @abstractmethod
    def scores(self, predictions: np.ndarray, references: np.ndarray) -> np.ndarray | dict[str, np.ndarray] | None:
        """The scores of groups of one size, shape `(groups,)`, equal to those of `__call__`. A dict if a group has
        several; the keys of nested results are joined by dots. None if these predictions have to be scored one group
        after the other.

        Args:
            predictions: predictions of the groups, shape `(groups, size, ...)`; of lists of texts, `(groups, size)`.
            references: references of the groups, likewise.
        """

    def scores_of_groups(
        self, predictions: np.ndarray, references: np.ndarray, groups: np.ndarray
    ) -> np.ndarray | dict[str, np.ndarray] | None:
        """The scores of groups of rows, as `scores` gives them.

        Args:
            predictions: a row for each example.
            references: likewise.
            groups: rows, integers of shape `(groups, size)`; a row may be in many groups.
        """
        return self.scores(predictions[groups], references[groups])


def unwrapped(metric: Any) -> tuple[Any, dict[str, Any]]:
    """The object behind `module.compute` or `BLEU().corpus_score`, and the settings of a `functools.partial` of it. Any
    other metric is returned unchanged."""
    function, options = metric, {}
    if isinstance(metric, functools.partial) and not metric.args:
        function, options = metric.func, metric.keywords
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", None)
    if isinstance(owner, EvaluateMetric) and name == "compute":
        return owner, options
    if isinstance(owner, SacreMetric) and name == "corpus_score" and not options:
        return owner, options
    return metric, {}


def name_of(metric: LoadedMetric) -> str:
    """The name of a metric, for logs and errors."""
    if isinstance(metric, CombinedEvaluations):
        return "+".join(metric.evaluation_module_names)
    if isinstance(metric, functools.partial):
        return name_of(metric.func)
    return str(getattr(metric, "name", None) or getattr(metric, "__name__", type(metric).__name__))


def call_of(metric: LoadedMetric, options: Mapping[str, Any]) -> Call:
    """A function `(predictions, references)` that returns the metric's result. It seeds NumPy's global generator first,
    so the result is the same each time; see `kept_numpy_state`.

    Args:
        metric: any metric but those of sacrebleu, which are not called.
        options: keywords for the metric.

    Raises:
        ValueError: the metric does not accept an option, or it is not clear how to call it.
    """
    if isinstance(metric, evaluate.EvaluationModule):
        return _module_call(metric, options)
    if isinstance(metric, CombinedEvaluations):
        return _combined_call(metric, options)
    call = _function_call(metric, options)

    def seeded_call(predictions: list, references: list) -> Any:
        np.random.seed(_SEED)
        return call(predictions, references)

    return seeded_call


@contextmanager
def kept_numpy_state() -> Iterator[None]:
    """Restores NumPy's global generator afterwards."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


def check_options(
    name: str, signature: Signature | None, options: Collection[str], passed: Collection[str] = ()
) -> None:
    """Refuse options that a callable does not take.

    Args:
        name: the name of the metric, for the error.
        signature: the signature of the callable; None if it has none and takes anything.
        options: the names of the options.
        passed: the parameters for the predictions and references.

    Raises:
        ValueError: an option is refused. The message names it and the accepted ones.
    """
    if signature is None:
        return
    accepted, takes_any = _keywords(signature)
    accepted = [parameter for parameter in accepted if parameter not in passed]
    for option in options:
        if option in passed or not (takes_any or option in accepted):
            raise ValueError(
                f"metric_options: {name!r} has no option {option!r}; it accepts {accepted if accepted else 'none'}"
            )


def signature_of(function: Callable) -> Signature | None:
    """The signature of a function; None for functions in C that have none. A decorated function has the signature of
    its decorator, if that names its parameters, or else of the wrapped function."""
    try:
        outer = inspect.signature(function, follow_wrapped=False)
        has_names = any(parameter.kind in _NAMED for parameter in outer.parameters.values())
        return outer if has_names else inspect.signature(function)
    except (ValueError, TypeError):
        return None


def _module_call(module: evaluate.EvaluationModule, options: Mapping[str, Any]) -> Call:
    # `compute` writes an Arrow file for each call; `_compute` is the method that a module implements.
    schemas = module.features if isinstance(module.features, list) else [module.features]
    columns = list(schemas[0])
    others = [column for column in columns if column not in ("predictions", "references")]
    if others:
        raise ValueError(f"the metric {module.name!r} needs {others}, but is given predictions and references alone")
    signature = signature_of(module._compute)
    check_options(module.name, signature, options, columns)
    _require_arguments(module.name, signature, {*columns, *options})
    # If no schema of a module has a plain string as the reference, the module takes lists of references.
    wrap = not any(getattr(schema.get("references"), "dtype", None) == "string" for schema in schemas)
    formatted = np.asarray if module.info.format == "numpy" else list
    as_written = type(module).compute is not evaluate.EvaluationModule.compute

    def call(predictions: list, references: list) -> Any:
        references = [[r] if wrap and isinstance(r, str) else r for r in references]
        inputs = {"predictions": predictions, "references": references}
        if as_written:
            return module.compute(**inputs, **options)
        np.random.seed(module.seed)
        return module._compute(**{column: formatted(inputs[column]) for column in columns}, **options)

    return call


def _combined_call(combined: CombinedEvaluations, options: Mapping[str, Any]) -> Call:
    """A call that passes each module the options that it accepts."""
    accepted = [_keywords(signature_of(module._compute)) for module in combined.evaluation_modules]
    if not any(takes_any for _, takes_any in accepted):
        known = sorted({name for names, _ in accepted for name in names} - {"predictions", "references"})
        parameters = [Parameter(name, Parameter.KEYWORD_ONLY) for name in known]
        check_options(name_of(combined), Signature(parameters), options)
    calls = [
        _module_call(module, {name: options[name] for name in options if takes_any or name in names})
        for module, (names, takes_any) in zip(combined.evaluation_modules, accepted, strict=True)
    ]
    return lambda predictions, references: combined._merge_results([call(predictions, references) for call in calls])


def _function_call(function: Callable, options: Mapping[str, Any]) -> Call:
    name, signature = name_of(function), signature_of(function)
    if getattr(function, "__module__", None) == "sacrebleu.compat":
        raise ValueError(
            f"metric={name} takes references in another order than by example: pass a metric of sacrebleu.metrics "
            "instead, such as BLEU(), or its name"
        )
    if signature is None:
        return lambda predictions, references: function(predictions, references, **options)
    prediction, reference = _by_name(name, signature)
    if prediction is not None and reference is not None:
        check_options(name, signature, options, (prediction.name, reference.name))
        _require_arguments(name, signature, {prediction.name, reference.name, *options})
        if Parameter.POSITIONAL_ONLY not in (prediction.kind, reference.kind):
            return lambda predictions, references: function(
                **{prediction.name: predictions, reference.name: references}, **options
            )
        places = list(signature.parameters)
        if places.index(reference.name) < places.index(prediction.name):
            return lambda predictions, references: function(references, predictions, **options)
    else:
        first_two = [parameter.name for parameter in _positional(signature)[:2]]
        check_options(name, signature, options, first_two)
        try:
            signature.bind([], [], **options)
        except TypeError as error:
            if _binds(signature, {"predictions": [], "references": []} | dict(options)):
                return lambda predictions, references: function(
                    predictions=predictions, references=references, **options
                )
            raise ValueError(
                f"the metric {name}{signature} cannot be called as (predictions, references): {error}; pass a "
                "callable(predictions, references) -> float, and settings by metric_options="
            ) from error
    return lambda predictions, references: function(predictions, references, **options)


def _by_name(name: str, signature: Signature) -> tuple[Parameter | None, Parameter | None]:
    """The parameters that have a name for predictions and for references.

    Raises:
        ValueError: only one of the two has such a name, and it is not at its place in `(predictions, references)`.
    """
    positional = _positional(signature)
    rest = [parameter for parameter in signature.parameters.values() if parameter not in positional[:2]]
    inputs = positional[:2] + [
        parameter
        for parameter in rest
        if parameter.kind in _NAMED and (parameter.default is Parameter.empty or len(positional) < 2)
    ]
    prediction = next((parameter for parameter in inputs if parameter.name in PREDICTIONS), None)
    reference = next((parameter for parameter in inputs if parameter.name in REFERENCES), None)
    for found, place, other in ((prediction, 0, reference), (reference, 1, prediction)):
        if found is not None and other is None and found not in positional[place : place + 1]:
            unknown = next((parameter.name for parameter in inputs if parameter is not found), "...")
            pair = [f"{found.name}={('predictions', 'references')[place]}"]
            pair.append(f"{unknown}={('references', 'predictions')[place]}")
            raise ValueError(
                f"metric={name}{signature}: {found.name!r} is not where (predictions, references) has it, and it is "
                f"not clear what {unknown!r} means: pass a function that says so, such as lambda predictions, "
                f"references: {name}({', '.join(pair)})"
            )
    return prediction, reference


def _binds(signature: Signature, keywords: Mapping[str, Any]) -> bool:
    try:
        signature.bind(**keywords)
    except TypeError:
        return False
    return True


def _positional(signature: Signature) -> list[Parameter]:
    return [parameter for parameter in signature.parameters.values() if parameter.kind in _POSITIONAL]


def _keywords(signature: Signature | None) -> tuple[list[str], bool]:
    """The names of all keywords, and whether the callable takes any other keyword."""
    parameters = signature.parameters.values() if signature else ()
    names = [p.name for p in parameters if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    return names, signature is None or any(p.kind == Parameter.VAR_KEYWORD for p in parameters)


def _require_arguments(name: str, signature: Signature | None, given: Collection[str]) -> None:
    missing = [
        parameter.name
        for parameter in (signature.parameters.values() if signature else ())
        if parameter.kind in _NAMED and parameter.default is Parameter.empty and parameter.name not in given
    ]
    if missing:
        raise ValueError(f"the metric {name!r} needs {missing}: pass them by metric_options=")
