"""What training and predicting with a U-Net cost: correctness first, then against a plain network and MONAI's.

Usage: python benchmarks/segmentation.py [--quick] [--only gate,training,...] [--threads N] [--docs] [--results FILE]

Parts: gate (outputs and gradients of every contestant against the plain network in float64; always run, and nothing is
timed if one differs), training and prediction (widths 16, 32, 64, 128; eight images of 128 x 128), monai (five levels
that are MONAI's BasicUNet to the weight), sizes (other widths, images and batches), large (an image of
10,000 x 10,000 pixels by tiles, in a process of its own: its peak memory). Each is written to the results as soon as it
is finished. `--quick` is a smoke run at small sizes: its figures mean nothing, and it writes to build/. `--docs`
measures nothing and writes docs/benchmarks-segmentation.md from the stored results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from bench_common import command
from bench_common.command import Benchmark, say
from bench_common.workers import ask
from segmentation_bench import gate, page, races

IMAGES, SIDE, LARGE, TILE = 8, 128, 10_000, 256
WORKER = "segmentation_bench.worker"
# Widths, images of a batch, side.
OTHERS = (((8, 16, 32), 16, 64), ((16, 32, 64, 128), 2, 256), ((32, 64, 128, 256), 4, 128))


def check(quick: bool, threads: int) -> dict[str, Any]:
    say("gate: outputs and gradients against the plain network in float64")
    found = gate.check_all(32 if quick else 64)
    say(f"    largest difference {found['largest']:.1e}, allowed {gate.ALLOWED:.0e}")
    return found


def training(quick: bool, threads: int) -> dict[str, Any]:
    images, side = (2, 32) if quick else (IMAGES, SIDE)
    say(f"training: {images} images of {side} x {side}")
    return told(
        {"images": images, "side": side, **races.training(races.WIDTHS, images, side, 2 if quick else 7)}
    )


def prediction(quick: bool, threads: int) -> dict[str, Any]:
    images, side = (2, 32) if quick else (IMAGES, SIDE)
    say(f"prediction: {images} images of {side} x {side}")
    found = races.prediction(races.WIDTHS, images, side, 2 if quick else 25)
    return told({"images": images, "side": side, **found})


def monai(quick: bool, threads: int) -> dict[str, Any]:
    images, side = (2, 32) if quick else (IMAGES, SIDE)
    found: dict[str, Any] = {"images": images, "side": side, "norms": {}}
    for norm in ("batch", "instance"):
        say(f"monai: {images} images of {side} x {side}, {norm} norm")
        found["norms"][norm] = races.monai(norm, images, side, 2 if quick else 5)
        for part in found["norms"][norm].values():
            told(part)
    return found


def sizes(quick: bool, threads: int) -> dict[str, Any]:
    rows = []
    for widths, images, side in (((8, 16, 32), 2, 16),) if quick else OTHERS:
        say(f"sizes: widths {widths}, {images} images of {side} x {side}")
        rounds = 2 if quick else 5
        trained, predicted = (
            told(race(widths, images, side, rounds)) for race in (races.training, races.prediction)
        )
        rows.append(
            {"widths": widths, "images": images, "side": side, "training": trained, "prediction": predicted}
        )
    return {"rows": rows}


def large(quick: bool, threads: int) -> dict[str, Any]:
    side, tile = (300, 64) if quick else (LARGE, TILE)
    say(f"large: {side:,} x {side:,} pixels by tiles of {tile}")
    found = ask(WORKER, {"task": "large", "side": side, "tile": tile, "threads": threads})
    say(f"    peak {found['peak_bytes'] / 1e9:.2f} GB in {found['seconds']:.0f} s")
    return found


def told(found: dict[str, Any]) -> dict[str, Any]:
    for name, row in found["rows"].items():
        say(f"    {name}: {row['images_a_second']:.1f} images a second, {row['times']['ratio']:.2f} times")
    return found


PARTS: dict[str, Callable[[bool, int], dict[str, Any]]] = {
    "gate": check,
    "training": training,
    "prediction": prediction,
    "monai": monai,
    "sizes": sizes,
    "large": large,
}

# Whatever is timed, the gate comes first.
BENCHMARK = Benchmark("segmentation", __doc__, PARTS, page.write, page.goals, first=("gate",))


def main() -> int:
    return command.main(BENCHMARK)


if __name__ == "__main__":
    sys.exit(main())
