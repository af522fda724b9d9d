"""``layerlab claims``: the theorems this package checks, and the checks themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from layerlab.cli.options import AsJson

if TYPE_CHECKING:
    from layerlab.claims import CheckResult, Claim, Outcome

app = typer.Typer(
    help="List, read and check the theorems.",
    epilog="Example: layerlab claims check 'graph.*'",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: layerlab claims list --json")
def list_(as_json: AsJson = False) -> None:
    """Name every claim: where it is from, and whether it is expected to hold or to be refuted."""
    from layerlab.catalogue import catalogue
    from layerlab.cli.output import print_json, print_table

    claims = catalogue().values()
    if as_json:
        keys = ("id", "title", "source", "relation", "expected")
        print_json([{key: getattr(claim, key) for key in keys} for claim in claims])
        return
    rows = [[claim.id, claim.title, claim.source, claim.relation, claim.expected] for claim in claims]
    print_table("Claims", ["id", "title", "source", "relation", "expected"], rows, left=5)


@app.command(epilog="Example: layerlab claims show graph.lambda-max")
def show(
    claim_id: str = typer.Argument(metavar="ID", help="A claim's id; `layerlab claims list` names them."),
    as_json: AsJson = False,
) -> None:
    """Print one claim: statement, hypotheses, source, what it is checked on, and what must make it fail."""
    from layerlab.catalogue import catalogue
    from layerlab.cli.output import answer, print_json

    claim = catalogue()[claim_id]
    if as_json:
        print_json(_description(claim))
        return
    answer(f"{claim.id}: {claim.title}")
    answer(f"  statement   {claim.statement}")
    answer(f"  relation    measured {claim.relation} bound; expected: {claim.expected}")
    answer(f"  source      {claim.source}")
    for hypothesis in claim.hypotheses:
        answer(f"  hypothesis  {hypothesis}")
    answer(f"  subjects    {', '.join(claim.subjects)}")
    for name, falsifier in claim.falsifiers.items():
        answer(f"  falsifier   {name}: {falsifier.what} (must come out: {falsifier.expected})")
    answer(f"  check       layerlab claims check {claim.id}")


@app.command(
    epilog="Example: layerlab claims check 'graph.*' --seed 1 --json\n\nlayerlab claims check"
    " --on friends.csv 'graph.*'"
)
def check(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="Claims by id; * and ? match (quote them). All, if none is given."
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="DATA",
            help="Check claims about graphs on your own: a data set's name or folder, an .npz, or an edge list.",
        ),
    ] = None,
    seed: int = typer.Option(0, "--seed", help="The same seed gives the same numbers, bit for bit."),
    full: bool = typer.Option(
        False, "--full", help="Repeat more often what is repeated: minutes, not seconds."
    ),
    as_json: AsJson = False,
) -> None:
    """Measure claims on their default subjects, or on your graph, and on what must make them fail.

    The exit status is 0 when every subject and every falsifier came out as expected, 1 otherwise, 2 for bad
    arguments. On your own graph, unmet hypotheses are an answer and no failure; the falsifiers run as well.
    ``--json`` also tells where each slack comes from.
    """
    from layerlab.catalogue import catalogue, graph_for
    from layerlab.claims import check as check_claim
    from layerlab.cli import progress
    from layerlab.cli.output import answer, print_json

    chosen = catalogue().select(patterns or (("graph.*",) if on is not None else ()))
    graph = None if on is None else graph_for(on, chosen)
    given = None if graph is None else {"mine": lambda: graph}
    results = []
    # Results are printed once all are there: a bar and tables do not share a terminal well.
    for claim in progress.each(chosen, lambda claim: claim.id):
        results.append(check_claim(claim, seed, given, full=full))  # noqa: PERF401 (the bar advances between checks)
    as_expected = all(result.as_expected for result in results)
    if as_json:
        about = (
            {} if graph is None else {"on": {"data": on, "graph": repr(graph), "notes": list(graph.notes)}}
        )
        claims = [result.to_dict() for result in results]
        print_json({"seed": seed, "as_expected": as_expected, **about, "claims": claims})
    else:
        if graph is None:
            for result in results:
                _print_result(result)
        else:
            _print_given(f"{on}: {graph!r}", results)
        failed = [result.claim.id for result in results if not result.as_expected]
        answer(
            f"{len(results) - len(failed)} of {len(results)} claims came out as expected (seed {seed})"
            + (f"; not so: {', '.join(failed)}" if failed else "")
        )
    if not as_expected:
        raise typer.Exit(1)


def _description(claim: Claim) -> dict[str, object]:
    keys = ("id", "title", "source", "statement", "hypotheses", "relation", "expected")
    return {
        **{key: getattr(claim, key) for key in keys},
        "subjects": list(claim.subjects),
        "falsifiers": [
            {"name": name, "what": falsifier.what, "expected": falsifier.expected}
            for name, falsifier in claim.falsifiers.items()
        ],
    }


def _numbers(outcome: Outcome) -> list[str]:
    """Measured, bound and slack as text."""
    if outcome.unmet is not None:
        return ["-", "-", "-"]
    # What is next to nothing needs no digits.
    measured = outcome.measured
    shown = f"{measured:.6g}" if measured == 0 or abs(measured) >= 1e-3 else f"{measured:.1e}"
    return [shown, f"{outcome.bound:.6g}", f"{outcome.slack:.2g}"]


def _print_given(title: str, results: list[CheckResult]) -> None:
    """One row a claim: what came out on the caller's own graph; then the reasons, and the falsifiers."""
    from layerlab.cli.output import answer, print_table

    rows, remarks = [], []
    for result in results:
        own, *controls = result.checked
        outcome, name = own.outcome, result.claim.id
        measured, bound, slack = _numbers(outcome)
        rows.append(
            [
                name.removeprefix("graph."),
                outcome.verdict.removeprefix("hypotheses ") + ("" if own.as_expected else ", NOT OK"),
                measured,
                bound if outcome.unmet is not None else f"{result.claim.relation} {bound}",
                slack,
            ]
        )
        if outcome.unmet is not None:
            remarks.append(f"{name}: hypotheses unmet, {outcome.unmet}")
        elif result.claim.expected == "refuted":
            remarks.append(
                f"{name}: false as printed; here it {outcome.verdict.replace('violated', 'is violated')}"
            )
        remarks += [
            f"{name}: falsifier {entry.name} came out {entry.outcome.verdict}, NOT OK"
            for entry in controls
            if not entry.as_expected
        ]
    print_table(title, ["claim", "verdict", "measured", "bound", "slack"], rows, left=2)
    for remark in remarks:
        answer(f"  {remark}")
    answer()


def _print_result(result: CheckResult) -> None:
    from layerlab.cli.output import answer, print_table

    rows = []
    for entry in result.checked:
        outcome = entry.outcome
        falsifier = entry.role == "falsifier"
        rows.append(
            [
                f"falsifier: {entry.name}" if falsifier else entry.name,
                outcome.verdict,
                "ok" if entry.as_expected else "NOT OK",
                *_numbers(outcome),
                "-" if outcome.tightness is None else f"{outcome.tightness:.4f}",
            ]
        )
    claim = result.claim
    print_table(
        f"{claim.id} (measured {claim.relation} bound): {claim.title}",
        ["subject", "verdict", "", "measured", "bound", "slack", "tightness"],
        rows,
        left=3,
    )
    for entry in result.checked:
        if entry.outcome.unmet is not None:
            answer(f"  {entry.name}: hypotheses unmet, {entry.outcome.unmet}")
    answer()
