"""``layerlab estimator policy``: policy gradients on an environment of gymnasium, with their variance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from layerlab.cli.options import AsJson, On, listed
from layerlab.cli.run_folder import typed

EPILOG = (
    "Example: layerlab estimator policy CartPole-v1 --seeds 3\n\n"
    "Baselines side by side: layerlab estimator policy CartPole-v1 --baseline none,mean,leave-one-out,value --report"
)


def policy(
    environment: Annotated[
        str,
        typer.Argument(
            metavar="ENV", help="An id of gymnasium, or FILE.py:FACTORY that returns a gymnasium.Env."
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Trainings with different seeds.")] = 1,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of these seeds.")] = 0,
    baseline: Annotated[
        str, typer.Option(help="Comma-separated: none, mean, optimal, leave-one-out, value.")
    ] = "value",
    steps: Annotated[
        int,
        typer.Option(min=1, help="Environment steps a training may spend; it ends earlier at the target."),
    ] = 3_000_000,
    target: Annotated[
        float | None, typer.Option(help="Mean return at which training ends. Default: the environment's own.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Fresh episodes of the final evaluation.")] = 100,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Evaluate with the most probable actions, not sampled ones."),
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Whole episodes an update.")] = 32,
    groups: Annotated[
        int, typer.Option(min=2, help="Independent parts of a batch, from which the variance is taken.")
    ] = 4,
    discount: Annotated[float, typer.Option(help="Of rewards to come, above 0 and at most 1.")] = 0.99,
    exact_discount: Annotated[
        bool, typer.Option("--exact-discount", help="Weight step t by discount^t: no bias of the discount.")
    ] = False,
    gae: Annotated[
        float, typer.Option(help="Lambda of generalised advantages (baseline value); 1: plain rewards-to-go.")
    ] = 1.0,
    normalise: Annotated[
        bool, typer.Option("--normalise", help="Divide advantages by their running root mean square.")
    ] = False,
    raw_observations: Annotated[
        bool, typer.Option("--raw-observations", help="Do not standardise observations.")
    ] = False,
    entropy: Annotated[float, typer.Option(help="Weight of the entropy bonus.")] = 0.0,
    clip: Annotated[float, typer.Option(help="Largest length of the gradient; 0: any.")] = 0.0,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, for the policy.")] = 0.01,
    hidden: Annotated[str, typer.Option(help="Widths of hidden layers, comma-separated.")] = "64,64",
    max_episode_steps: Annotated[int | None, typer.Option(min=1, help="Truncate episodes.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="For the environment; again for several.")
    ] = None,
    vectorisation: Annotated[
        str, typer.Option(help="auto, vector (the environment's own), sync or async (processes).")
    ] = "auto",
    copies: Annotated[int | None, typer.Option(min=1, help="Of the environment that run together.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Seeds at a time; the number of cores by default.")
    ] = None,
    on: On = "local",
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/policy-ENV.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Write report.html with the curves.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a policy by REINFORCE, log its gradient's variance, and evaluate it in fresh episodes.

    Needs pip install 'layerlab\\[rl]'. Ctrl-C or a kill loses nothing but seconds: the same command goes on, with the
    same bits; with more seeds or baselines only what is missing runs.
    """
    from layerlab.cli import progress
    from layerlab.cli.output import print_json, print_table, say
    from layerlab.estimators.policy.page import policy_page
    from layerlab.estimators.policy.runs import policy_run, under_way
    from layerlab.estimators.policy.settings import Settings
    from layerlab.estimators.policy.source import Source
    from layerlab.lab.cluster.executor import opened
    from layerlab.lab.race import cell_key
    from layerlab.lab.report.page import write
    from layerlab.lab.subjects import notice

    names = listed(baseline) or [""]
    source = Source(environment, _options(option or []), max_episode_steps, vectorisation, copies)
    if source.is_file:
        say(notice(environment))
    settings = Settings(
        baseline=names[0],
        steps=steps,
        batch=batch,
        groups=groups,
        discount=discount,
        exact_discount=exact_discount,
        gae=gae,
        normalise=normalise,
        normalise_observations=not raw_observations,
        entropy=entropy,
        clip=clip,
        learning_rate=learning_rate,
        hidden=_widths(hidden),
        target=target,
        episodes=episodes,
        sampled=not deterministic,
    )
    wanted = range(first_seed, first_seed + seeds)
    folder = out or Path("runs") / f"policy-{_slug(environment)}"
    keys = [cell_key(name, seed) for name in names for seed in wanted]

    def look(key: str) -> tuple[float, str]:
        found = under_way(folder, key)
        if not found:
            return 0.0, ""
        return found["steps"] / steps, f"seed {int(key.rpartition('-')[2])}: return {found['return']:.1f}"

    try:
        with (
            opened(on, jobs) as workers,
            progress.parts(f"{_slug(environment)}, at most", keys, look) as done,
        ):
            run, summary = policy_run(
                source,
                settings,
                baselines=names,
                seeds=wanted,
                out=folder,
                jobs=jobs,
                workers=workers,
                command=typed(),
                on_cell=lambda cell: done(cell_key(cell["contestant"], cell["seed"])),
            )
    except KeyboardInterrupt:
        say(f"interrupted; what was trained is in {folder}: run the same command to go on")
        raise
    page = write(policy_page(run), run.path / "report.html") if report else None
    if as_json:
        print_json({"run": str(run.path), "report": None if page is None else str(page), **summary})
        return
    for title, columns, rows in _tables(summary):
        print_table(title, columns, rows)
    say(f"run folder: {run.path}, weights in its folder weights")
    if page is not None:
        say(f"report: {page}")


def _options(given: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` pairs; a value that is JSON is read as such, any other is text."""
    import json

    from layerlab.errors import UserError

    found: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise UserError(f"expected an option of the environment as NAME=VALUE, got {text!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _widths(text: str) -> tuple[int, ...]:
    from layerlab.errors import UserError

    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UserError(
            f"expected widths of hidden layers such as 64,64, got {text!r}; mend --hidden"
        ) from None


def _slug(environment: str) -> str:
    import re

    return (
        re.sub(r"[^A-Za-z0-9._-]+", "-", environment.replace("\\", "/").rpartition("/")[2]) or "environment"
    )


def _tables(summary: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The tables of a run, as text: the baselines, their differences, and the variance of their gradients."""
    entries, target = summary["contestants"], summary["target"]
    many = any(entry["n"] > 1 for entry in entries.values())
    rows = []
    for name, entry in entries.items():
        keys = [key for key in summary["steps"] if key.rpartition("-")[0] == name]
        rows.append(
            [
                name,
                f"{entry['mean']:.1f}",
                f"{entry['low']:.1f} to {entry['high']:.1f}" if entry["n"] > 1 else "-",
                f"{min(entry['values']):.1f}",
                "-" if target is None else f"{summary['solved'][name]}/{entry['n']}",
                f"{sum(summary['steps'][key] for key in keys) / len(keys):,.0f}",
                f"{sum(summary['cell_seconds'][key] for key in keys) / len(keys):.1f}",
            ]
        )
    found = next(iter(summary["evaluation"].values()))
    kind = "sampled" if found["sampled"] else "most probable"
    solved = "" if target is None else f", solved at {target:g}"
    title = (
        f"{summary['environment']}: mean return of {found['n']} fresh episodes ({kind} actions), "
        f"{len(summary['seeds'])} seed{'s' if many else ''}{solved}"
    )
    columns = [
        "baseline",
        "return",
        "95 % interval",
        "least seed",
        "solved",
        "steps a seed",
        "seconds a seed",
    ]
    tables = [(title, columns, rows)]
    if pairs := [pair for pair in summary["differences"] if pair["n"] > 1]:
        rows = [
            [
                f"{pair['left']} - {pair['right']}",
                f"{pair['mean']:+.1f}",
                f"{pair['low']:+.1f} to {pair['high']:+.1f}",
                f"{pair['wins']}/{pair['n']}",
            ]
            for pair in pairs
        ]
        tables.append(("Paired differences of the return", ["pair", "mean", "95 % interval", "wins"], rows))
    if relative := summary["relative_variance"]:
        names = list(dict.fromkeys(name for row in relative.values() for name in row))
        rows = [
            [trained, *(f"{row[name]:.3g}" if name in row else "-" for name in names)]
            for trained, row in relative.items()
        ]
        title = "Variance of the gradient over that without a baseline, on the same batches (medians)"
        tables.append((title, ["trained with", *names], rows))
    return tables
