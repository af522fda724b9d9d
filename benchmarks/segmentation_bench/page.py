"""docs/benchmarks-segmentation.md from the stored results: no figure on it is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench_common import words
from bench_common.sections import Goals, circumstances, of_parts, page, write_page

from segmentation_bench import races

_HEAD = """\
# Segmentation benchmarks: what training and predicting with a U-Net cost

Written by `python benchmarks/segmentation.py --docs` from
[the stored results](../benchmarks/results/segmentation.json); `make bench` measures anew. The rules are those of
[benchmarks/README.md](../benchmarks/README.md): nothing is timed before every contestant agrees with a reference, times
are paired within one process, and what is slower is listed too.
"""

TRAINING, PREDICTION, MEMORY = 1.3, 1.5, 3e9


def write(stored: dict[str, Any], folder: Path) -> None:
    """Write ``benchmarks-segmentation.md`` into ``folder``."""
    write_page(folder, "benchmarks-segmentation", render(stored))


def render(stored: dict[str, Any]) -> str:
    """The page of what `bench_common.store.read` returns."""
    parts = stored["parts"]
    sections = (
        ("gate", _gate),
        ("training", _training),
        ("prediction", _prediction),
        ("monai", _monai),
        ("sizes", _sizes),
        ("large", _large),
    )
    return page(_HEAD, stored, circumstances(parts), goals(parts), *of_parts(parts, sections))


def goals(parts: dict[str, Any]) -> str:
    """The table of the goals whose parts were measured."""
    reached = Goals()
    for name, contestant, goal in (
        ("training", races.KEEPING, TRAINING),
        ("prediction", races.PREPARED, PREDICTION),
    ):
        if name in parts:
            times = parts[name]["rows"][contestant]["times"]
            work = f"{name}, {parts[name]['images']} images of {parts[name]['side']} x {parts[name]['side']}"
            reached.add(work, f"{goal} times a plain layout", words.span(times), times["ratio"] >= goal)
    if "large" in parts:
        part = parts["large"]
        work = f"{part['side']:,} x {part['side']:,} pixels by tiles, peak memory"
        reached.add(work, "under 3 GB", words.size(part["peak_bytes"]), part["peak_bytes"] < MEMORY)
    return reached.table()


def _gate(part: dict[str, Any]) -> str:
    rows = [[name, f"{value:.1e}"] for name, value in part["rows"].items()]
    return (
        "## The gate\n\nThe largest difference from torch in float64, of the largest number of the tensor, "
        f"on {part['batches']} batches; allowed {part['allowed']:.0e}. Gradients are those of the first and the last "
        f"weight, and the norms of all, on the best batch, allowed {part['kinked']:.0e}: in float32 a ReLU or a "
        "maximum falls to the other side now and then. The kernels are compared one by one besides.\n\n"
        + words.table(["contestant", "difference"], rows)
    )


def _rows(part: dict[str, Any]) -> str:
    rows = [
        [
            name,
            words.significant(row["images_a_second"]),
            words.span(row["times"]),
            _share(row, part["floor"]),
        ]
        for name, row in part["rows"].items()
    ]
    return words.table(["contestant", "images a second", "times as fast", "of the floor's rate"], rows)


def _share(row: dict[str, Any], floor: dict[str, float]) -> str:
    return f"{100 * row['images_a_second'] / floor['images_a_second']:.0f} %"


def _floor(part: dict[str, Any]) -> str:
    floor = part["floor"]
    return (
        f"The floor: {floor['operations'] / 1e9:.2f} G operations of convolutions an image at the rate of a product of "
        f"1,024 x 1,024 matrices ({floor['arithmetic'] / 1e9:.0f} GFLOP/s), or {words.size(floor['bytes'])} read and "
        f"written when each convolution's maps pass through memory once ({words.size(floor['bandwidth'])}/s), "
        f"whichever takes longer: {words.significant(floor['images_a_second'])} images a second."
    )


def _training(part: dict[str, Any]) -> str:
    return (
        f"## Training\n\nWidths {races.WIDTHS}, batch norm, {part['images']} images of {part['side']} x "
        f"{part['side']}, {races.STEPS} steps in a row: forward, cross-entropy of 11 classes, backward, AdamW "
        "(fused). Plain layout: the network as one writes it, contiguous `(n, channels, h, w)`. Channels-last, torch "
        "alone: our network without its kernels. Ours: with batch norm and ReLU in one step, and, where the "
        "processor has no AVX-512, the kernel for the weights' gradients. Keeping memory: within `keeping_memory()`, "
        "as a training runs, whose first step asks the system for it; in the others memory "
        f"is as a process has it by default.\n\n{_rows(part)}\n\n{_floor(part)}"
    )


def _prediction(part: dict[str, Any]) -> str:
    return (
        f"## Prediction\n\nThe same network and images, without a gradient (inference mode). Prepared: "
        f"`prepared(network)`, norms folded into convolutions.\n\n{_rows(part)}\n\n{_floor(part)}"
    )


def _monai(part: dict[str, Any]) -> str:
    rows = []
    for norm, races_of in part["norms"].items():
        for name, race in races_of.items():
            rows += [
                [
                    f"{name}, {norm} norm: {contestant}",
                    words.significant(row["images_a_second"]),
                    words.span(row["times"]),
                    _share(row, race["floor"]),
                ]
                for contestant, row in race["rows"].items()
            ]
    return (
        f"## Against MONAI's BasicUNet\n\nFive levels, widths {races.DEEP}, leaky ReLU of slope 0.1, the same weights "
        f"on both sides; {part['images']} images of {part['side']} x {part['side']}. MONAI's default is the instance "
        "norm.\n\n" + words.table(["work", "images a second", "times as fast", "of the floor's rate"], rows)
    )


def _sizes(part: dict[str, Any]) -> str:
    rows = [
        [
            f"{tuple(row['widths'])}, {row['images']} images of {row['side']} x {row['side']}",
            words.significant(row["training"]["rows"][races.PLAIN]["images_a_second"]),
            *(words.span(row["training"]["rows"][name]["times"]) for name in (races.ALONE, races.KEEPING)),
            words.significant(row["prediction"]["rows"][races.PLAIN]["images_a_second"]),
            words.span(row["prediction"]["rows"][races.PREPARED]["times"]),
        ]
        for row in part["rows"]
    ]
    head = [
        "widths and batch",
        "plain, trained a second",
        "torch alone",
        "ours",
        "plain, predicted a second",
        "prepared",
    ]
    return "## Other sizes\n\nTimes as fast as the plain layout.\n\n" + words.table(head, rows)


def _large(part: dict[str, Any]) -> str:
    return (
        f"## An image of {part['side']:,} x {part['side']:,} pixels\n\n{part['classes']} classes, tiles of "
        f"{part['tile']} x {part['tile']} with a quarter in common, mask and confidence; a process of its own. Peak "
        f"memory {words.size(part['peak_bytes'])}, {words.size(part['above_idle_bytes'])} above the idle process, of "
        f"which the image itself is {words.size(part['image_bytes'])}. It took {words.seconds(part['seconds'])} on a "
        "machine that others used too."
    )
