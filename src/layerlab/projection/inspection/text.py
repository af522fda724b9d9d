"""Records of codebooks and inspections in words and rows: for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]
Row = list[str]


def number(value: float | None) -> str:
    """A coherence to five digits, without trailing zeros.

    >>> number(0.03125), number(1 / 3), number(0.0), number(None), number(0.9999999)
    ('0.03125', '0.33333', '0', '-', '1.0000')
    """
    if value is None:
        return "-"
    shown = f"{value:.5g}"
    # What rounds to 1 and is not is shown so that it is not taken for whole.
    return "1.0000" if shown == "1" and value != 1 else shown


def measured(record: Record) -> str:
    """How far the coherence of a record is known."""
    pairs = f"all {record['pairs']:,} pairs"
    if record.get("proved_by"):
        how = f"proved; {record['measured_pairs']:,} of {record['pairs']:,} pairs measured"
        return how if record["exact"] else f"at most {number(record['coherence'] + record['error'])} is {how}"
    if record["exact"]:
        return f"exact, over {pairs}"
    return f"over {pairs}, to {record['error']:.1g}"


def codebook_title(record: Record) -> str:
    """Count, field and dimension."""
    kind = "complex " if record["field"] == "complex" else ""
    return f"{record['count']:,} {kind}vectors of dimension {record['dim']:,}: coherence {number(record['coherence'])}"


def codebook_rows(record: Record) -> list[Row]:
    """The coherence, the floors beside it, and what others promise."""
    rows = [
        ["coherence", number(record["coherence"]), measured(record)],
        [
            "floor",
            number(record["floor"]),
            f"no {record['count']:,} vectors have less ({record['floor_name']})",
        ],
    ]
    rows += [
        [name, number(record[key]), "lower bound on the coherence"]
        for name, key in (("Welch", "welch"), ("Levenshtein", "levenshtein"))
        if record[key] > 0 and not record["floor_name"].startswith(name)
    ]
    rows.append(
        ["document", f"{record['document_count']:,}", "vectors its theorem promises at this coherence"]
    )
    return rows


def codebook_sentences(record: Record) -> list[str]:
    """Why this construction, what proves it, and what is peculiar to it."""
    said = [record["why"]]
    if record.get("proved_by"):
        said.append(f"proof: {record['proved_by']}")
    if (starts := record.get("starts")) is not None:
        end = record["spread"][0]
        same = sum(value <= end * (1 + 1e-4) for value in record["spread"])
        said.append(f"{same} of {starts} random starts ended at this coherence; nothing proves it the least")
    if (draws := record.get("draws")) is not None and draws > 1:
        said.append(f"{draws} draws until no pair was beyond")
    if "document_promised" in record:
        said += [
            f"the document promises {record['document_promised']:,} vectors at {record['document_coherence']:.4g}; map "
            f"{record['document_draws']} kept all squared distances within {record['document_distortion']:.4f} "
            f"(allowed: δ/3 = {record['document_epsilon']:.4f})",
            "as it is written, divided by the squared norms, their lengths would be "
            f"{record['document_norm_as_written_least']:.3f} to {record['document_norm_as_written_largest']:.3f}; "
            "here they are divided by the norms",
        ]
    return said


def inspection_title(record: Record) -> str:
    """File, array, count, field and dimension."""
    name = f" [{record['array']}]" if record["array"] not in ("", "vectors") else ""
    kind = "complex " if record["field"] == "complex" else ""
    return f"{record['file']}{name}: {record['count']:,} {kind}vectors of dimension {record['dim']:,}"


def inspection_rows(record: Record) -> list[Row]:
    """The coherence, the floors, the random vectors and the moments, as text."""
    sampled = record["measured_count"] < record["count"]
    how = f"{measured(record)} of {record['measured_count']:,} drawn vectors" if sampled else measured(record)
    rows = [["coherence", number(record["coherence"]), how]]
    rows += [
        [f"{floor['name'].partition(',')[0]} floor", number(floor["value"]), _of_floor(floor, record)]
        for floor in record["floors"]
        if floor["value"] > 0
    ]
    rows.append(["random", number(record["random_coherence"]), "what as many random vectors typically have"])
    if record["mean_square_cosine"] is not None:
        rows.append(
            [
                "mean cos²",
                number(record["mean_square_cosine"]),
                f"over pairs; random {number(record['mean_square_cosine_random'])}, least possible "
                f"{number(record['mean_square_cosine_least'])}",
            ]
        )
    low, high = record["length_least"], record["length_largest"]
    # The record has no number for what is beyond the largest one.
    shown = [f"{size:.4g}" if size is not None else "beyond 1e308" for size in (low, high)]
    same = None not in (low, high) and math.isclose(low, high, rel_tol=1e-5)
    rows.append(
        [
            "length",
            number(low) if same else " to ".join(dict.fromkeys(shown)),
            "of the vectors; angles do not depend on it",
        ]
    )
    largest = record["largest_count_not_excluded"]
    rows.append(
        [
            "room",
            f"{largest:,}" if largest < 10**12 else "no limit",
            "vectors that no bound known here excludes at this coherence",
        ]
    )
    rows.append(
        ["document", f"{record['document_count']:,}", "vectors its theorem promises at this coherence"]
    )
    return rows


def _of_floor(floor: Mapping[str, Any], record: Record) -> str:
    order = floor["name"].partition(", ")[2]
    words = f"no {record['count']:,} vectors have less"
    return f"{words} ({order})" if order else words


def nearest_rows(record: Record) -> list[Row]:
    """The nearest pairs: numbers of the vectors from 0, cosine, and the angle between the lines."""
    return [
        [
            f"{pair['first']:,}",
            f"{pair['second']:,}",
            f"{pair['cosine']:+.6f}".replace("-", "−"),
            f"{math.degrees(math.acos(min(1.0, abs(pair['cosine'])))):.3f}",
        ]
        for pair in record["nearest"]
    ]
