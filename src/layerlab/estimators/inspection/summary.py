"""What was looked at, as the record holds it: rows, recommendation, notes; over several parameters their medians."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from layerlab.estimators.curves import signal_to_noise
from layerlab.estimators.inspection.contenders import Refused
from layerlab.estimators.inspection.point import Point, Row
from layerlab.estimators.inspection.probe import Probe
from layerlab.estimators.recommend import Candidate, Recommendation, ratio, recommend, times

# A gradient below this share of what f could give is rounding.
_NOTHING = 1e-12

# A known constant baseline that leaves less than this share of the variance is worth a remark.
_WORTH = 0.5


def summary(
    points: Sequence[Point],
    refused: Sequence[Refused],
    seen: Probe,
    samples: int,
    overheads: Mapping[str, float],
) -> dict[str, Any]:
    """The part of the record that tells what was found; see `layerlab.estimators.inspection.measure.inspect`."""
    everybody = [row.contender.name for row in points[0].rows]
    everybody = [name for name in everybody if all(_of(point, name) is not None for point in points)]
    tables = {name: [row for point in points if (row := _of(point, name)) is not None] for name in everybody}
    left_out = {one.name: one for point in points for one in point.refused}
    advice = _advice(points, tables, samples)
    gone = _no_gradient(points)
    noise = _noise(points, seen, samples)
    return {
        "estimators": [_entry(rows, overheads) for rows in tables.values()],
        "not_applicable": [
            {"name": one.name, "title": one.title, "why": one.why} for one in [*refused, *left_out.values()]
        ],
        "recommendation": {
            "name": advice.name,
            "reason": advice.reason,
            "remarks": [*advice.remarks, *_remarks(points, tables, advice.name)],
        },
        "gradient": {
            "length": median(point.reference.length for point in points),
            "exact": points[0].reference.error is None,
            "zero": gone,
        },
        "f": {
            "mean": median(point.reference.mean for point in points),
            "deviation": math.sqrt(median(point.reference.variance for point in points)),
            "best_baseline": median(point.reference.best for point in points),
            "deterministic": seen.deterministic,
            "alone": seen.alone,
            **noise,
        },
        "notes": [*_notes(points, seen, noise, gone), *_caught(tables)],
    }


def _of(point: Point, name: str) -> Row | None:
    return next((row for row in point.rows if row.contender.name == name), None)


def _entry(rows: Sequence[Row], overheads: Mapping[str, float]) -> dict[str, Any]:
    """One estimator over all points: the figures of the only one, or medians with the range."""
    one, alone = rows[0], len(rows) == 1
    ratios = [row.ratio[0] for row in rows]
    worst = max(rows, key=lambda row: row.test.z / row.test.limit)
    return {
        "name": one.contender.name,
        "title": one.contender.title,
        "biased": one.contender.estimator.biased,
        "usable": one.usable,
        "known_baseline": one.contender.limit is not None,
        "scaled": one.contender.scaled,
        "everywhere": one.everywhere,
        "how": one.how,
        "variance": median(row.variance for row in rows),
        "low": median(row.low for row in rows),
        "high": median(row.high for row in rows),
        "ratio": median(ratios),
        "ratio_low": one.ratio[1] if alone else min(ratios),
        "ratio_high": one.ratio[2] if alone else max(ratios),
        "signal": median(row.signal for row in rows),
        "signal_to_noise": median(row.signal_to_noise for row in rows),
        "bias": {
            "exact": None if one.bias is None else median(row.bias or 0.0 for row in rows),
            "measured": median(row.test.norm for row in rows),
            "z": worst.test.z,
            "limit": worst.test.limit,
            "p": worst.test.p,
            "passed": all(row.test.passed for row in rows),
            "failed_at": sum(not row.test.passed for row in rows),
            "repetitions": one.test.repetitions,
        },
        "mean_squared_error": None if one.contender.scaled else median(row.candidate().error for row in rows),
        "cost": one.contender.estimator.cost,
        "overhead_seconds": overheads[one.contender.name],
    }


def _advice(points: Sequence[Point], tables: Mapping[str, Sequence[Row]], samples: int) -> Recommendation:
    if len(points) == 1:
        return recommend([rows[0].candidate() for rows in tables.values()], samples)
    found = recommend([_median_candidate(rows, tables["reinforce"]) for rows in tables.values()], samples)
    return Recommendation(
        found.name, f"over {len(points)} random parameters, by the median: {found.reason}", found.remarks
    )


def _median_candidate(rows: Sequence[Row], plain: Sequence[Row]) -> Candidate:
    """Variances in units of plain REINFORCE's, which differ from point to point."""
    each = [row.candidate() for row in rows]
    middle = median(row.ratio[0] for row in rows)
    biases = [ratio(one.bias**2, below.variance) for one, below in zip(each, plain, strict=True)]
    return Candidate(
        each[0].name,
        middle,
        median(row.ratio[1] for row in rows),
        median(row.ratio[2] for row in rows),
        bias=math.sqrt(median(biases)),
        biased=each[0].biased,
        usable=each[0].usable,
    )


def _no_gradient(points: Sequence[Point]) -> bool:
    """The gradient is 0, or not to be told from 0."""
    scale = [math.sqrt(point.reference.variance) for point in points]
    return all(
        point.reference.length <= _NOTHING * (size + 1e-300)
        for point, size in zip(points, scale, strict=True)
    )


def _remarks(points: Sequence[Point], tables: Mapping[str, Sequence[Row]], chosen: str) -> list[str]:
    """About baselines that nobody knows beforehand."""
    found = []

    def against(name: str) -> float | None:
        rows = tables.get(name)
        return None if rows is None else median(row.ratio[0] for row in rows)

    best, own = against("optimal, known"), against(chosen) or 0.0
    if best is not None and best < _WORTH * own and len(points) == 1:
        reference = points[0].reference
        found.append(
            f"the best constant baseline here is {reference.best:.4g}, where the mean of f is {reference.mean:.4g}: "
            f"known beforehand (constant with --baseline) it would leave {times(ratio(best, own))} the variance of "
            f"{chosen}"
        )
    return found


def _noise(points: Sequence[Point], seen: Probe, samples: int) -> dict[str, float]:
    """How much of a variance is f's own noise, which no baseline removes."""
    if seen.deterministic:
        return {"noise_of_f": 0.0, "noise_of_variance": 0.0}
    reference = points[0].reference
    row = _of(points[0], "leave-one-out") or points[0].rows[0]
    return {
        "noise_of_f": min(1.0, ratio(seen.noise, reference.variance)),
        "noise_of_variance": min(1.0, ratio(seen.noise_in_score / samples, row.variance)),
    }


def _notes(points: Sequence[Point], seen: Probe, noise: Mapping[str, float], gone: bool) -> list[str]:
    found = []
    if not seen.deterministic:
        found.append(
            "f is not deterministic: the same samples gave other values. Nothing is called exact; its own noise is "
            f"about {100 * noise['noise_of_f']:.2g} % of the variance of f and {100 * noise['noise_of_variance']:.2g} "
            "% of that of leave-one-out, and no baseline removes it"
        )
    if not seen.alone:
        found.append(
            "f gives a sample another value when other samples stand beside it: figures hold for batches as they were "
            "drawn here, and nothing is called exact"
        )
    if all(point.reference.variance == 0 for point in points):
        found.append("f had the same value wherever it was evaluated: there is nothing to learn from it here")
    elif gone:
        found.append(
            "the gradient is 0 at these parameters: whatever the estimator, an estimate is nothing but noise; look at "
            "other parameters, such as --sample-parameters 5"
        )
    elif points[0].reference.error is not None and not any(_seen(point) for point in points):
        found.append("the gradient is not seen above the noise: more --samples or --repetitions would tell")
    return found


def _caught(tables: Mapping[str, Sequence[Row]]) -> list[str]:
    """Estimators whose theory f does not keep to."""
    names = [name for name, rows in tables.items() if any(row.caught for row in rows)]
    if not names:
        return []
    return [
        f"{' and '.join(names)} failed the test of bias, although unbiased where f is continuous: between its outcomes "
        "f jumps, which no derivative tells"
    ]


def _seen(point: Point) -> bool:
    """The measured gradient is longer than noise alone would make it."""
    error = point.reference.error
    if error is None:
        return True
    return signal_to_noise(point.reference.length, float(error.square().sum())) > 1
