"""Mean IoU of a sample of the pixels of each image, beside that of all pixels.

    python benchmarks/pixel_samples.py --shared ../shared/data

Predictions are the gold masks of the validation images of CamVid, moved by a few pixels.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from PIL import Image

_CLASSES, _VOID, _ROAD = 11, 255, 3
_MOVED = (2, 3)  # pixels down and to the right
_DRAWS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default="../shared/data", help="the folder of the data sets")
    options = parser.parse_args()
    table = parquet.read_table(options.shared / "camvid" / "validation.parquet", columns=["label"])
    gold = np.stack([np.asarray(Image.open(io.BytesIO(row["label"]["bytes"]))) for row in table.to_pylist()])
    found = np.roll(gold, _MOVED, (1, 2))
    found[found == _VOID] = _ROAD
    draw = np.random.default_rng(0)
    for count in (22, len(gold)):
        rows = np.arange(0, len(gold), len(gold) // count)[:count]
        images = [(found[row][gold[row] != _VOID], gold[row][gold[row] != _VOID]) for row in rows]
        print(f"{count} images, all pixels: {mean_iou(images):.4f}")
        for pixels in (128, 256, 512, 1024, 2048):
            values = [mean_iou([_some(image, pixels, draw) for image in images]) for _ in range(_DRAWS)]
            print(f"{pixels} pixels of each: {np.mean(values):.4f} ± {np.std(values):.4f}")
        values = [mean_iou([images[row] for row in draw.integers(0, count, count)]) for _ in range(_DRAWS)]
        print(f"all pixels of images that are drawn again: {np.mean(values):.4f} ± {np.std(values):.4f}")


def mean_iou(images: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of predicted and gold classes of labelled pixels."""
    found, gold = (np.concatenate(side) for side in zip(*images, strict=True))
    hits, predicted, examples = (
        np.bincount(classes, minlength=_CLASSES) for classes in (gold[gold == found], found, gold)
    )
    union = predicted + examples - hits
    return float(np.mean(hits[union > 0] / union[union > 0]))


def _some(image: tuple[np.ndarray, np.ndarray], pixels: int, draw: np.random.Generator) -> tuple:
    places = draw.integers(0, len(image[1]), pixels)
    return image[0][places], image[1][places]


if __name__ == "__main__":
    main()
