"""A small reading-comprehension corpus that needs no download: facts from CLDR, read through `babel`.

A passage tells two facts about each of three territories, in any order: their currency, their official languages, the
first day of their week, or their name in another language. A question asks for one fact about one territory, and the
other facts distract. A model that looks only at the kind of question is right one time in three, because no two
territories of a passage share the answer. A question without an answer asks for a fact of another kind about one of the
territories, or for the same about a territory that is not there. The corpus is deterministic.
"""

import random

import datasets
from babel import Locale
from babel.core import UnknownLocaleError
from babel.languages import get_official_languages
from babel.lists import format_list
from babel.numbers import get_territory_currencies

ENGLISH = Locale("en")
NAMES_IN = ("de", "es", "fi", "fr", "hu", "it", "nl", "pl", "pt", "sv", "tr")
FACTS = {
    "currency": (
        ("{territory} pays in {answer} .", "{answer} is the currency of {territory} ."),
        "which currency does {territory} have ?",
    ),
    "languages": (
        ("people in {territory} speak {answer} .", "{answer} can be heard in {territory} ."),
        "what is spoken in {territory} ?",
    ),
    "week": (
        ("in {territory} the week begins on {answer} .", "{answer} is the first day of the week in {territory} ."),
        "on which day does the week of {territory} begin ?",
    ),
    "name": (
        ("{territory} is called {answer} in {language} .", "in {language} , {territory} is {answer} ."),
        "what is {territory} called in {language} ?",
    ),
}  # fmt: skip


def load(
    train: int = 20000,
    validation: int = 500,
    test: int = 1000,
    territories: int = 40,
    unanswerable: float = 0.0,
    seed: int = 0,
) -> datasets.DatasetDict:
    """The corpus in the hub's `squad` schema. Its facts are about so many territories. A share of the questions has no
    answer."""
    draw = random.Random(seed)
    known = _territories()
    known = {name: known[name] for name in draw.sample(list(known), territories)}
    sizes = {"train": train, "validation": validation, "test": test}
    rows = [_unambiguous(draw, known, str(number), unanswerable) for number in range(sum(sizes.values()))]
    splits, start = {}, 0
    for name, size in sizes.items():
        splits[name] = datasets.Dataset.from_list(rows[start : start + size])
        start += size
    return datasets.DatasetDict(splits)


def _unambiguous(draw: random.Random, territories: dict[str, dict], name: str, unanswerable: float) -> dict:
    """An example whose passage has the answer only once, so no two of its territories share a currency, say. Then it
    may get a question that the passage does not answer."""
    while True:
        example, missing = _example(draw, territories, name)
        if example["context"].count(example["answers"]["text"][0]) == 1:
            return example | missing if random.Random(f"answer {name}").random() < unanswerable else example


def _example(draw: random.Random, territories: dict[str, dict], name: str) -> tuple[dict, dict]:
    """An example, and what makes it one without an answer."""
    kinds, language = draw.sample(list(FACTS), 2), draw.choice(NAMES_IN)
    told = draw.sample(list(territories), 3)
    facts = [(kind, _fact(kind, territory, territories[territory], language)) for territory in told for kind in kinds]
    draw.shuffle(facts)
    asked, context, start = draw.randrange(len(facts)), "", 0
    for number, (kind, fact) in enumerate(facts):
        template = draw.choice(FACTS[kind][0])
        if number == asked:
            start = len(context) + len(template.split("{answer}")[0].format(**fact))
        context += template.format(**fact) + " "
    kind, fact = facts[asked]
    example = {
        "id": name,
        "title": fact["territory"],
        "context": context.strip(),
        "question": FACTS[kind][1].format(**fact),
        "answers": {"text": [fact["answer"]], "answer_start": [start]},
    }
    other = random.Random(name)  # so that the examples with an answer are the same
    if other.random() < 0.5:
        kind = other.choice([kind for kind in FACTS if kind not in kinds])
    else:
        fact = fact | {"territory": other.choice([name for name in territories if name not in told])}
    missing = {"title": fact["territory"], "question": FACTS[kind][1].format(**fact)}
    return example, missing | {"answers": {"text": [], "answer_start": []}}


def _fact(kind: str, territory: str, known: dict, language: str) -> dict[str, str]:
    answer = Locale(language).territories[known["code"]] if kind == "name" else known[kind]
    return {"territory": territory, "language": ENGLISH.languages[language], "answer": answer}


def _territories() -> dict[str, dict]:
    """The facts about each territory, by its English name. Territories with unknown facts are left out."""
    territories = {}
    for code, name in sorted(ENGLISH.territories.items()):
        languages = get_official_languages(code) if len(code) == 2 and code.isalpha() else ()
        languages = [ENGLISH.languages[language] for language in languages if language in ENGLISH.languages]
        currencies = get_territory_currencies(code) if languages else ()
        if not currencies or any(code not in Locale(language).territories for language in NAMES_IN):
            continue
        try:
            day = Locale.parse(f"und_{code}").first_week_day
        except UnknownLocaleError:
            continue
        territories[name] = {
            "code": code,
            "currency": ENGLISH.currencies[currencies[0]],
            "languages": format_list(languages, locale=ENGLISH),
            "week": ENGLISH.days["format"]["wide"][day],
        }
    return territories
