"""Small modules of `evaluate`."""

import datasets
import evaluate

TEXT = datasets.Value("string")


class Module(evaluate.Metric):
    columns = ("predictions", "references")

    def _info(self):
        return evaluate.MetricInfo(
            description="",
            citation="",
            inputs_description="",
            features=datasets.Features({column: TEXT for column in self.columns}),
        )


class Share(Module):
    def _compute(self, predictions, references, lower=False):
        pairs = zip(predictions, references, strict=True)
        return {"share": sum((p.lower() if lower else p) == r for p, r in pairs) / len(references)}


def keywords_alone(*, predictions, references):
    return 10 * len(predictions[0]) + len(references[0])


def anything(first, second):
    return keywords_alone(predictions=first, references=second)
