"""Section 4 of the solutions: the U-Net with and without its skip connections, on the built-in set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from layerlab.lab.report.page import Block, Callout, Code, KeyFigure, Section, Text
from layerlab.reproduce import verdicts
from layerlab.reproduce.chapter import Amount, ChapterResult, Finding, Options, Step
from layerlab.segmentation.arms import DOCUMENT, label
from layerlab.segmentation.digits import Digits
from layerlab.segmentation.experiments import BUILT_IN, race_run
from layerlab.segmentation.inspection import race_page

_TITLE = "U-Nets on digits"
_SECONDS = 22.0
# For a quick look: half-trained.
SMALL = replace(BUILT_IN, epochs=4)
_SMALL_SECONDS = 10.0


def steps(amount: Amount) -> list[Step]:
    """The race."""
    return [
        Step(
            _TITLE, dict.fromkeys(amount.arms, _SMALL_SECONDS if amount.small else _SECONDS), amount.trainings
        )
    ]


def chapter(options: Options) -> ChapterResult:
    """Race the arms and tell what came out."""
    arms, seeds, small = options.amount.arms, options.amount.trainings, options.amount.small
    settings = SMALL if small else BUILT_IN
    data = Digits(size=settings.size)
    command = ["layerlab", "segment", "race", "digits", "--arms", ",".join(arms), "--seeds", str(seeds)]
    if small:
        command += ["--epochs", str(settings.epochs)]
    _, results = race_run(
        data,
        settings,
        arms=arms,
        seeds=range(seeds),
        out=options.out / ("digits-small" if small else "digits"),
        source={"built_in": "digits", "count": data.count, "size": data.size, "seed": data.seed},
        workers=options.workers,
        command=command,
        on_cell=options.told(_TITLE),
    )
    again = " ".join(command)
    findings = [_iou_finding(results, again), _gradient_finding(results, again)]
    reference = [
        {"group": label(arm), "value": 100 * DOCUMENT[arm], "label": "the document, other data"}
        for arm in ("on", "off")
    ]
    blocks: list[Block] = [
        Text(
            f"The built-in set: {len(data)} images of {data.size} x {data.size} pixels, handwritten digits on "
            "photographs, ten classes and the ground. The document's data are not named, so its figures give a "
            "direction and no target."
            + (
                f" A quick look: networks half-trained, {settings.epochs} epochs instead of {BUILT_IN.epochs}."
                if small
                else ""
            )
        ),
        Callout(findings[0].verdict, results["verdict"]["sentence"]),
        race_page.strip(results, reference),
        *race_page.standings(results, DOCUMENT),
        Code(again, "Run this experiment alone"),
    ]
    sections = [Section("The U-Net with and without skip connections", "skips", blocks)]
    if compared := race_page.differences(results):
        sections.append(Section("Paired differences of the U-Nets", "differences", compared))
    return ChapterResult(findings, [_key_figure(results)], [], sections)


def _pair(results: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """With minus without, paired by seed."""
    (pair,) = (pair for pair in results["differences"] if (pair["left"], pair["right"]) == ("on", "off"))
    found: Mapping[str, Any] = pair["metrics"][metric]
    return found


def _iou_finding(results: Mapping[str, Any], command: str) -> Finding:
    pair = _pair(results, "validation_iou")
    on, off = (results["contestants"][arm]["metrics"]["validation_iou"]["mean"] for arm in ("on", "off"))
    judged = verdicts.of_interval(pair["low"], pair["high"])
    span = "" if pair["low"] is None else f", 95 % interval {pair['low']:+.3f} to {pair['high']:+.3f}"
    return Finding(
        "experiment.skips",
        "Is a U-Net better with its skip connections? Mean validation IoU with and without",
        f"about {DOCUMENT['on']:.2f} and {DOCUMENT['off']:.2f}, one run each, on data that are not named",
        f"{on:.3f} and {off:.3f}; difference {pair['mean']:+.3f}{span}{judged.told}".replace("-0.", "−0."),
        judged.verdict,
        command,
        {"document": DOCUMENT, "boundary_iou": _pair(results, "validation_boundary_iou"), **pair},
    )


def _gradient_finding(results: Mapping[str, Any], command: str) -> Finding:
    with_, without = (
        results["contestants"][arm]["metrics"]["stem_gradient"]["mean"] for arm in ("on", "off")
    )
    return Finding(
        "experiment.skips-gradient",
        "The reason given: do skip connections prevent unstable gradients? Norm of the gradient at the first layer",
        "yes; nothing was measured",
        f"{with_:.3g} with, {without:.3g} without, mean over training",
        "measured",
        command,
        {"with": with_, "without": without},
    )


def _key_figure(results: Mapping[str, Any]) -> KeyFigure:
    return KeyFigure(
        f"{100 * _pair(results, 'validation_iou')['mean']:+.1f}".replace("-", "−"),
        "points of IoU, U-Net with over without skips, paired",
        f"the document: {100 * (DOCUMENT['on'] - DOCUMENT['off']):+.0f}",
    )
