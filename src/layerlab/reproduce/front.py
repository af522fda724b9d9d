"""The front of the page: how many statements hold, how many do not, and the four pictures worth seeing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerlab.lab.report.page import Block, Figure, KeyFigure, KeyFigures, Pictures
from layerlab.lab.report.small import small_intervals, small_lines
from layerlab.reproduce.theorems import CheckedClaim


def front(findings: Sequence[Mapping[str, Any]], checks: Sequence[CheckedClaim]) -> list[Block]:
    """The story in one screen.

    Args:
        findings: of the summary.
        checks: every claim that was checked, errata among them.

    Returns:
        The big numbers, then the pictures of those parts that were run.
    """
    holds = sum(checked.holds for checked in checks)
    wrong = sum(checked.as_expected and checked.claim.expected == "refuted" for checked in checks)
    surprises = sum(not checked.as_expected for checked in checks)
    controls = [entry for checked in checks for entry in checked.outcomes(falsifiers=True)]
    experiments = [finding for finding in findings if finding["id"].startswith("experiment.")]
    judged = [finding["verdict"] for finding in experiments if finding["verdict"] != "measured"]
    left = len(experiments) - len(judged)
    numbers = [
        KeyFigure(
            str(holds), "statements hold", f"of {len(checks)} of the documents, each checked by machine"
        ),
        KeyFigure(
            str(wrong),
            "are false as printed",
            "[each with a counterexample](#errata)" if wrong else "none among these",
        ),
        KeyFigure(
            f"{sum(entry['as_expected'] for entry in controls)}/{len(controls)}",
            "controls caught",
            "broken on purpose, to see that a check can fail",
        ),
    ]
    if surprises:
        numbers.insert(
            2, KeyFigure(str(surprises), "came out otherwise", "see the column “unexpected” below")
        )
    if experiments:
        numbers.append(
            KeyFigure(
                f"{judged.count('holds')}/{len(judged)}" if judged else "–",
                "printed figures",
                "of documents and papers lie where ours do" + (f"; {left} without a verdict" if left else ""),
            )
        )
    domains = {checked.claim.id.split(".")[0] for checked in checks}
    drawn = [
        *([_gradients()] if "gradflow" in domains else []),
        *([_variance()] if "estimators" in domains else []),
        *_graphs({finding["id"]: finding for finding in findings}),
        *_skips({checked.claim.id: checked for checked in checks}),
    ]
    return [KeyFigures(numbers), *([Pictures(drawn)] if drawn else [])]


def _gradients() -> Figure:
    """What autograd measures through chains of units with weight 1, where each lets most through."""
    import torch

    depths = list(range(1, 41))
    curves: list[dict[str, Any]] = []
    for label, unit in (("tanh", torch.tanh), ("sigmoid", torch.sigmoid)):
        x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        h, slopes = x, []
        for _ in depths:
            h = unit(h)
            slopes.append(float(torch.autograd.grad(h, x, retain_graph=True)[0]))
        curves.append({"label": label, "x": depths, "y": slopes})
    curves.append({"label": "(1/4)ⁿ", "x": depths, "y": [0.25**depth for depth in depths], "at": 23})
    return small_lines(
        curves,
        "depth n",
        title="The gradient through a chain of units",
        caption="**A sigmoid lets a quarter through at most**, a tanh all of it. The gradient at 0 through n units of "
        "weight 1, by autograd. [More on gradients](#gradflow-claims)",
        scale="log",
    )


def _variance() -> Figure:
    """The variance of REINFORCE for f(a) = a over both outcomes, the score by autograd."""
    import torch

    mu = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    theta = torch.logit(mu).requires_grad_()
    score = {
        outcome: torch.autograd.grad(
            torch.nn.functional.logsigmoid(theta if outcome else -theta).sum(), theta, retain_graph=True
        )[0]
        for outcome in (0, 1)
    }
    curves: list[dict[str, Any]] = []
    for label, baseline, at in (("no baseline", 0.0, 32), ("μ", mu, 84), ("1 − μ", 1 - mu, 16)):
        estimates = {outcome: (outcome - baseline) * score[outcome] for outcome in (0, 1)}
        mean = mu * estimates[1] + (1 - mu) * estimates[0]
        variance = mu * (estimates[1] - mean) ** 2 + (1 - mu) * (estimates[0] - mean) ** 2
        curves.append({"label": label, "x": mu.tolist(), "y": variance.round(decimals=12).tolist(), "at": at})
    return small_lines(
        curves,
        "probability μ",
        title="The variance of REINFORCE",
        caption="**REINFORCE is noisiest at μ = 1/4**; the baseline 1 − μ leaves no noise, the mean makes it worse "
        "above 2/3. By enumeration. [More on estimators](#estimators-claims)",
    )


def _graphs(findings: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """Each model's single runs beside the document's, where the race was run."""
    rows = []
    for model, label in (("gcn", "GCN"), ("gat", "GAT")):
        if (finding := findings.get(f"experiment.{model}-cora")) is None:
            return []
        detail = finding["detail"]
        accuracy = detail["accuracy"]
        rows.append(
            {
                "label": label,
                "low": 100 * accuracy["single_run_low"],
                "high": 100 * accuracy["single_run_high"],
                "mean": 100 * accuracy["mean"],
                "said": 100 * detail["document"]["accuracy"],
            }
        )
    gap, said = rows[1]["mean"] - rows[0]["mean"], rows[1]["said"] - rows[0]["said"]
    return [
        small_intervals(
            rows,
            "accuracy on Cora, per cent",
            said="the document",
            title="GCN and GAT on Cora",
            caption=f"**GAT minus GCN is {gap:+.1f} points on the same splits**; the document has {said:+.1f}. Bars: "
            "95 % of single runs; ◇: the document's run. [More on the comparison](#comparison)".replace(
                "-", "−"
            ),
        )
    ]


def _skips(checks: Mapping[str, CheckedClaim]) -> list[Figure]:
    """The interval of what skips bring, on thin strokes and on coarse blocks: each end is in a claim's record."""
    ends = []
    for claim, strokes in (
        ("segmentation.skips", "off"),
        ("segmentation.skips-always-as-printed", "strokes"),
    ):
        if claim not in checks:
            return []
        measured = {entry["name"]: entry["measured"] for entry in checks[claim].record["outcomes"]}
        ends.append((measured.get(strokes), measured.get("blocks")))
    rows = [
        {"label": label, "low": ends[0][place], "high": ends[1][place], "said": 0.1}
        for place, label in enumerate(("thin strokes", "coarse blocks"))
        if ends[0][place] is not None and ends[1][place] is not None
    ]
    if not rows:
        return []
    return [
        small_intervals(
            rows,
            "mean IoU with skips minus without",
            said="the document",
            title="What a U-Net's skips bring",
            caption=f"**{_told(rows)}** Bars: 95 % interval over paired seeds; ◇: the document's 0.78 − 0.68. "
            "[More on skips](#segmentation-claims)",
        )
    ]


def _told(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the intervals of the skips say, in a sentence each.

    >>> _told([{"label": "thin strokes", "low": 0.3, "high": 0.4, "said": 0.1}])
    'On thin strokes skips bring more than the 0.10 of the document.'
    """
    words = []
    for row in rows:
        low, high, said = row["low"], row["high"], row["said"]
        if low > said:
            told = f"bring more than the {said:.2f} of the document"
        elif high < 0:
            told = "do harm"
        elif high < said:
            told = f"bring less than the {said:.2f} of the document{' and maybe nothing' if low <= 0 else ''}"
        else:
            told = f"bring {low:.2f} to {high:.2f}, which leaves the document's {said:.2f} open"
        words.append(f"On {row['label']} skips {told}.")
    return " ".join(words).replace("-", "−")
