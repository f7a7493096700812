"""Toy reading comprehension: a context lists things kind by kind, and a question asks for those of one kind."""

import random
import re
import string
from collections import Counter

import datasets
import evaluate
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification, PreTrainedTokenizerFast

KINDS = {
    "colours": ["red", "green", "blue", "black", "white", "grey"],
    "animals": ["dog", "cat", "bird", "fish", "horse", "cow"],
    "sizes": ["big", "small", "tall", "wide", "short", "thin"],
    "places": ["house", "tree", "road", "river", "field", "hill"],
}
WORDS = ["which", "?", ",", *KINDS, *(word for words in KINDS.values() for word in words)]


def make_tokenizer(padding_side="right", token_types=True, model_max_length=64):
    """Words are tokens; `[CLS] question [SEP] context [SEP]`, or, padded on the left, with both the other way round."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*specials, *WORDS])}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    second = 1 if token_types else 0
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS]:0 $A:0 [SEP]:0 $B:{second} [SEP]:{second}",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"] if token_types else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        padding_side=padding_side, model_input_names=names, model_max_length=model_max_length,
    )  # fmt: skip


def make_examples(count, seed=0, unanswerable=0.0, golds=1):
    """Rows of SQuAD's schema. With `unanswerable`, that share asks for a kind that the context does not list."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        listed = draw.sample(list(KINDS), 3)
        parts = [" ".join(draw.sample(KINDS[kind], draw.randint(1, 4))) for kind in listed]
        context = " , ".join(parts)
        text = draw.choice(parts)
        kind, starts = listed[parts.index(text)], [context.index(text)] * golds
        answers = {"text": [text] * golds, "answer_start": starts}
        if golds > 1:  # a shorter gold answer, too
            answers["text"][1] = text.split()[0]
        if draw.random() < unanswerable:
            kind = next(k for k in KINDS if k not in listed)
            answers = {"text": [], "answer_start": []}
        rows.append(
            {
                "id": f"{seed}-{number}",
                "title": "",
                "context": context,
                "question": f" which {kind} ?",
                "answers": answers,
            }
        )
    return datasets.Dataset.from_list(rows, features=FEATURES)


def make_texts(count, seed=0):
    """Texts of some of these words, with the numbers of their labels: one for each word, those of later kinds rarer.
    Of the last two kinds a text has the label less often than not, so that cross-entropy never predicts it."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        kinds = [place for place in range(len(KINDS)) if draw.random() < 0.6 / (1 + place)] or [0]
        words = [6 * place + word for place in kinds for word in draw.sample(range(6), 2)]
        labels = [word for word in words if draw.random() < (0.9 if word < 12 else 0.35)]
        rows.append({"text": " ".join(WORDS[7 + word] for word in words), "labels": labels})
    return datasets.Dataset.from_list(rows)


FEATURES = datasets.Features(
    {
        **{name: datasets.Value("string") for name in ("id", "title", "context", "question")},
        "answers": {"text": [datasets.Value("string")], "answer_start": [datasets.Value("int32")]},
    }
)


def make_model(seed=0, length=64, **changes):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
        **changes,
    )
    return BertForQuestionAnswering(config)


def warm_classifier(texts, labels=28):
    """A classifier that has learned from texts which labels they have."""
    config = make_model(length=512).config
    config.num_labels, config.problem_type = labels, "multi_label_classification"
    torch.manual_seed(0)
    model, tokenizer = BertForSequenceClassification(config), make_tokenizer()
    targets = torch.tensor([[float(label in found) for label in range(labels)] for found in texts["labels"]])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for rows in torch.arange(len(texts)).repeat(12).split(60):
        batch = tokenizer([texts[row]["text"] for row in rows.tolist()], padding=True, return_tensors="pt")
        model(**batch, labels=targets[rows]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


class Squad(evaluate.Metric):
    """The official scoring of SQuAD 1.1 as an `evaluate` module, written down naively."""

    def _info(self):
        text, number = datasets.Value("string"), datasets.Value("int32")
        return evaluate.MetricInfo(
            description="",
            citation="",
            inputs_description="",
            features=datasets.Features(
                {
                    "predictions": {"id": text, "prediction_text": text},
                    "references": {"id": text, "answers": {"text": [text], "answer_start": [number]}},
                }
            ),
        )

    def _compute(self, predictions, references):
        texts = {row["id"]: row["prediction_text"] for row in predictions}
        pairs = [(texts[row["id"]], row["answers"]["text"]) for row in references]
        return {
            "exact_match": 100 * sum(max(words(p) == words(g) for g in golds) for p, golds in pairs) / len(pairs),
            "f1": 100 * sum(max(f1(p, g) for g in golds) for p, golds in pairs) / len(pairs),
        }


class SquadV2(Squad):
    """The official scoring of SQuAD 2.0, likewise."""

    def _info(self):
        info = super()._info()
        info.features["predictions"]["no_answer_probability"] = datasets.Value("float32")
        return info

    def _compute(self, predictions, references):
        texts = {row["id"]: row["prediction_text"] for row in predictions}
        exact, overlap = {}, {}
        for row in references:
            golds = [gold for gold in row["answers"]["text"] if words(gold)] or [""]
            exact[row["id"]] = max(words(texts[row["id"]]) == words(gold) for gold in golds)
            overlap[row["id"]] = max(f1(texts[row["id"]], gold, empty_is_an_answer=True) for gold in golds)
        result = {}
        for prefix, wanted in (("", (True, False)), ("HasAns_", (True,)), ("NoAns_", (False,))):
            names = [row["id"] for row in references if bool(row["answers"]["text"]) in wanted]
            if names:
                result[prefix + "exact"] = 100 * sum(exact[name] for name in names) / len(names)
                result[prefix + "f1"] = 100 * sum(overlap[name] for name in names) / len(names)
                result[prefix + "total"] = len(names)
        return result


def words(text):
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(prediction, gold, empty_is_an_answer=False):
    left, right = words(prediction), words(gold)
    if empty_is_an_answer and not (left and right):
        return float(left == right)
    same = sum((Counter(left) & Counter(right)).values())
    return 0.0 if same == 0 else 2 / (len(left) / same + len(right) / same)
