"""What a `layerlab.gradflow.monitoring.monitor.Monitor` saw of a training, as plain values and as a JSON file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerlab import __version__
from layerlab.errors import UserError
from layerlab.lab.json_files import read_json, write_json

FORMAT = "layerlab-monitor"
FORMAT_VERSION = 1

_FIELDS: dict[str, type] = {
    "model": str,
    "steps": int,
    "layers": list,
    "snapshots": list,
    "probes": list,
    "notes": list,
    "overhead": dict,
}
_NOTES = 50


@dataclass
class Record:
    """Snapshots of a training.

    Attributes:
        model: the class of the model.
        steps: how many steps of training went by, watched or not.
        layers: rows in order of execution, ``{"name", "kind"}`` each. A layer that one pass calls again has a row
            for each call (``"relu#1"``), an activation called as a function one after the module (``"block: relu"``).
        snapshots: of each watched step ``{"step", "seconds", "not_finite", "layers"}``, where ``layers`` has for each
            row the measures that there are (`layerlab.gradflow.monitoring.monitor.MEASURES`).
        probes: what the probe's measure returned, ``{"step", "values"}`` each.
        notes: what could not be measured, in words.
        overhead: seconds spent on watching, seconds of training (watching left out), their ratio.
    """

    model: str
    steps: int = 0
    layers: list[dict[str, str]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    overhead: dict[str, float] = field(
        default_factory=lambda: {"seconds": 0.0, "training": 0.0, "share": 0.0}
    )

    def add(
        self, step: int, seconds: float, not_finite: str | None, rows: Mapping[str, dict[str, Any]]
    ) -> None:
        """Appends the snapshot of a step."""
        self._order(rows)
        layers = {name: {k: v for k, v in row.items() if k != "kind"} for name, row in rows.items()}
        self.snapshots.append({"step": step, "seconds": seconds, "not_finite": not_finite, "layers": layers})

    def _order(self, rows: Mapping[str, dict[str, Any]]) -> None:
        """Enters new rows, each after the one it follows."""
        known = [entry["name"] for entry in self.layers]
        place = 0
        for name, row in rows.items():
            if name in known:
                place = known.index(name) + 1
            else:
                known.insert(place, name)
                self.layers.insert(place, {"name": name, "kind": str(row["kind"])})
                place += 1

    def thin(self) -> int:
        """Leaves out every second snapshot, but the last; returns the mean distance of the rest in steps."""
        last = self.snapshots[-1]
        self.snapshots = [s for s in self.snapshots[::2] if s is not last] + [last]
        steps = self.snapshots[-1]["step"] - self.snapshots[0]["step"]
        return max(1, math.ceil(steps / (len(self.snapshots) - 1)))

    def note(self, text: str) -> None:
        """Keeps a remark, once."""
        if text not in self.notes and len(self.notes) < _NOTES:
            self.notes.append(text)

    @property
    def first_not_finite(self) -> tuple[int, str] | None:
        """The first watched step with NaN or Inf, and where it appeared first."""
        for snapshot in self.snapshots:
            if snapshot["not_finite"]:
                return snapshot["step"], snapshot["not_finite"]
        return None

    def series(self, measure: str) -> dict[str, list[float | None]]:
        """A measure over the snapshots, for each row that ever had it; what is not finite is None."""
        found: dict[str, list[float | None]] = {}
        for entry in self.layers:
            line = [s["layers"].get(entry["name"], {}).get(measure) for s in self.snapshots]
            if any(value is not None for value in line):
                found[entry["name"]] = [v if v is not None and math.isfinite(v) else None for v in line]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it; numbers that are not finite are written as null."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "layerlab": __version__,
            **{name: getattr(self, name) for name in _FIELDS},
        }

    def save(self, path: str | Path) -> None:
        """Writes the file, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        write_json(path, self.to_dict())

    @staticmethod
    def load(path: str | Path) -> Record:
        """Reads a file of `save`.

        Raises:
            UserError: it is missing, damaged, or no record of a monitor.
        """
        there = read_json(path)
        mend = "choose another file, or remove it"
        if not isinstance(there, dict) or there.get("format") != FORMAT:
            raise UserError(f'expected the record of a monitor ("format": "{FORMAT}"); {mend}', file=path)
        if there.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"expected a record of format version {FORMAT_VERSION}, got {there.get('format_version')!r}; {mend}",
                file=path,
            )
        for name, kind in _FIELDS.items():
            if not isinstance(there.get(name), kind):
                raise UserError(f"the field {name!r} is missing or damaged; {mend}", file=path)
        snapshots_fit = all(
            isinstance(s, dict)
            and isinstance(s.get("step"), int)
            and "not_finite" in s
            and isinstance(s.get("layers"), dict)
            and all(isinstance(row, dict) and _measures(row) for row in s["layers"].values())
            for s in there["snapshots"]
        )
        layers_fit = all(
            isinstance(entry, dict) and all(isinstance(entry.get(part), str) for part in ("name", "kind"))
            for entry in there["layers"]
        )
        probes_fit = all(
            isinstance(p, dict) and isinstance(p.get("step"), int) and "values" in p for p in there["probes"]
        )
        notes_fit = all(isinstance(note, str) for note in there["notes"])
        overhead_fits = all(
            isinstance(there["overhead"].get(k), (int, float)) for k in ("seconds", "training", "share")
        )
        if not (snapshots_fit and layers_fit and probes_fit and notes_fit and overhead_fits):
            raise UserError(f"the record is damaged; {mend}", file=path)
        return Record(**{name: there[name] for name in _FIELDS})


def _measures(row: dict[str, Any]) -> bool:
    """Whether a row of a snapshot holds numbers only; what was not finite is None."""
    return all(value is None or isinstance(value, int | float) for value in row.values())
