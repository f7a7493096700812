"""A small corpus of spoken words that needs no download: digits and commands, synthesised with numpy.

A vowel is three tones at its formants, which glide and pulse at the pitch of the voice. A consonant is noise, a hum, or
silence with a burst. Voices differ in the length of their vocal tract, in pitch and in speed, words are said faster and
slower, and there is noise. The voices of the test data speak nowhere else. The corpus is deterministic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np

RATE = 16_000  # samples of a second
WORDS = {
    "zero": "Z IH R OW", "one": "W AH N", "two": "T UW", "three": "TH R IY", "four": "F AO R", "five": "F AY V",
    "six": "S IH K S", "seven": "S EH V AH N", "eight": "EY T", "nine": "N AY N", "yes": "Y EH S", "no": "N OW",
    "left": "L EH F T", "right": "R AY T", "up": "AH P", "down": "D AW N", "stop": "S T AO P", "go": "G OW",
    "on": "AO N", "off": "AO F",
}  # fmt: skip
# Formants in hertz (Peterson and Barney 1952, rounded). A diphthong goes from one vowel to another.
_VOWELS = {
    "IY": (270, 2290, 3010), "IH": (390, 1990, 2550), "EH": (530, 1840, 2480), "AE": (660, 1720, 2410),
    "AH": (640, 1190, 2390), "AO": (570, 840, 2410), "UH": (440, 1020, 2240), "UW": (300, 870, 2240),
    "AA": (730, 1090, 2440),
}  # fmt: skip
_GLIDES = {"AY": ("AA", "IY"), "EY": ("EH", "IY"), "OW": ("AO", "UW"), "AW": ("AA", "UW")}
_HUMS = {
    "N": (250, 1500, 2500), "R": (350, 1200, 1600), "L": (350, 1000, 2900), "W": (300, 650, 2200),
    "Y": (280, 2200, 3000),
}  # fmt: skip
# Loudness and colour of noise: 1 is high, as in "s", -1 is low. The last is whether it hums, too.
_NOISES = {"S": (0.4, 1, 0), "F": (0.15, 0, 0), "TH": (0.1, 1, 0), "Z": (0.3, 1, 1), "V": (0.1, 0, 1)}
_BURSTS = {"T": 1, "K": 0, "P": -1, "D": 1, "G": 0}
_LOUDNESS = (1.0, 0.6, 0.3)  # of the formants


@dataclass
class Voice:
    """Attributes:
    tract: the factor of all formants.
    pitch: in hertz.
    speed: a factor.
    """

    tract: float
    pitch: float
    speed: float


def load(
    train: int = 1600, validation: int = 200, test: int = 400, noise: float = 0.5, words: int = 4, seed: int = 0
) -> datasets.DatasetDict:
    """Columns `audio`, samples at `RATE`, and `text`.

    Args:
        noise: the loudness of the noise; that of a loud vowel is about 1.
        words: the most words of an utterance.
    """
    draw = np.random.default_rng(seed)
    heard, unheard = _voices(draw, 24), _voices(draw, 8)
    sizes = {"train": (train, heard), "validation": (validation, heard), "test": (test, unheard)}
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_list([_utterance(draw, voices, noise, words) for _ in range(size)])
            for split, (size, voices) in sizes.items()
        }
    )


def speak(words: Sequence[str], voice: Voice, draw: np.random.Generator, noise: float) -> np.ndarray:
    """The samples of words, float32."""
    parts = [_silence(draw, voice)]
    for word in words:
        haste = voice.speed * draw.uniform(0.85, 1.2)
        parts += [_sound(sound, voice, haste, draw) for sound in WORDS[word].split()]
        parts.append(_silence(draw, voice))
    speech = np.concatenate(parts)
    return (speech + noise * draw.uniform(0.3, 1) * draw.normal(size=len(speech))).astype(np.float32)


def _utterance(draw: np.random.Generator, voices: Sequence[Voice], noise: float, most: int) -> dict:
    words = draw.choice(list(WORDS), draw.integers(1, most + 1)).tolist()
    return {"audio": speak(words, voices[draw.integers(len(voices))], draw, noise), "text": " ".join(words)}


def _voices(draw: np.random.Generator, count: int) -> list[Voice]:
    return [Voice(draw.uniform(0.85, 1.2), draw.uniform(90, 240), draw.uniform(0.8, 1.25)) for _ in range(count)]


def _sound(name: str, voice: Voice, haste: float, draw: np.random.Generator) -> np.ndarray:
    if name in _BURSTS:
        return _burst(_BURSTS[name], haste, draw)
    length = int(RATE * (0.07 if name in _HUMS or name in _NOISES else 0.12) * draw.uniform(0.8, 1.3) / haste)
    if name in _NOISES:
        loudness, colour, hums = _NOISES[name]
        return loudness * _coloured(length, colour, draw) + 0.3 * hums * _tones(_HUMS["N"], _HUMS["N"], voice, length)
    if name in _HUMS:
        return 0.5 * _tones(_HUMS[name], _HUMS[name], voice, length)
    start, end = _GLIDES.get(name, (name, name))
    return _tones(_VOWELS[start], _VOWELS[end], voice, length)


def _tones(start: Sequence[float], end: Sequence[float], voice: Voice, length: int) -> np.ndarray:
    """Formants that glide from one vowel to another, in pulses of the voice."""
    share = np.linspace(0, 1, length)
    pulse = 0.5 + 0.5 * np.cos(2 * np.pi * voice.pitch * np.arange(length) / RATE)
    tones = np.zeros(length)
    for loudness, first, last in zip(_LOUDNESS, start, end, strict=True):
        hertz = voice.tract * (first + (last - first) * share)
        tones += loudness * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
    return tones * pulse * np.minimum(1, 8 * np.minimum(share, 1 - share))


def _burst(colour: int, haste: float, draw: np.random.Generator) -> np.ndarray:
    return np.concatenate([np.zeros(int(RATE * 0.04 / haste)), 0.6 * _coloured(int(RATE * 0.02), colour, draw)])


def _coloured(length: int, colour: int, draw: np.random.Generator) -> np.ndarray:
    white = draw.normal(size=length + 1)
    return {1: np.diff(white), 0: white[1:], -1: (white[1:] + white[:-1]) / 2}[colour]


def _silence(draw: np.random.Generator, voice: Voice) -> np.ndarray:
    return np.zeros(int(RATE * draw.uniform(0.02, 0.12) / voice.speed))
