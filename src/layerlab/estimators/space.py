"""What a black-box function is a function of: bits, categories or real numbers, and the parameters of their law."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from layerlab.errors import UserError
from layerlab.lab.arrays import BROKEN

if TYPE_CHECKING:
    from layerlab.estimators.families import Family

Kind = Literal["bits", "categories", "gaussian"]

MOST_PARAMETERS = 1 << 24
"""More parameters than this are refused: estimates of their gradient would not fit into memory."""

_CATEGORIES = re.compile(r"(\d{1,9})\s*[x×*]\s*(\d{1,9})")


@dataclass(frozen=True)
class Space:
    """A space of samples with independent coordinates, and where the parameters of their distribution live.

    Attributes:
        kind: "bits" (Bernoulli, parameters: logits ``(bits,)``), "categories" (categorical, logits ``(dims, k)``) or
            "gaussian" (normal, ``(2, d)``: means above logarithms of standard deviations).
        size: number of variables.
        values: number of values of each category; 2 for bits, 0 for real numbers.

    Raises:
        UserError: another kind, no variable, values that the kind has not, or more than `MOST_PARAMETERS` parameters.

    >>> space = Space.parse(categories="4x8")
    >>> space.shape, space.outcomes, space.describe()
    ((4, 8), 4096, '4 variables of 8 values')
    """

    kind: Kind
    size: int
    values: int

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UserError(f"expected a space of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.kind != "categories" and self.values != (2 if self.kind == "bits" else 0):
            raise UserError(
                f"expected 2 values of a bit and 0 of a real number, got {self.values} of {self.kind}; take categories"
            )
        if self.size < 1:
            raise UserError(f"expected at least one variable, got {self.size}; give 1 or more")
        if self.kind == "categories" and self.values < 2:
            raise UserError(f"expected at least 2 values of a category, got {self.values}; one never varies")
        if math.prod(self.shape) > MOST_PARAMETERS:
            raise UserError(
                f"{self.describe()} have {math.prod(self.shape):,} parameters, more than {MOST_PARAMETERS:,}; "
                "look at a smaller problem"
            )

    @classmethod
    def parse(
        cls, bits: int | None = None, categories: str | None = None, gaussian: int | None = None
    ) -> Space:
        """The space of exactly one of the three options.

        Args:
            bits: number of variables that are 0 or 1.
            categories: ``"4x8"``: 4 variables of 8 values (0 to 7) each.
            gaussian: number of real variables.

        Raises:
            UserError: none or several are given, or it is not of that form.

        >>> Space.parse(bits=16).describe()
        '16 bits'
        >>> Space.parse(bits=0)
        Traceback (most recent call last):
        layerlab.errors.UserError: expected at least one variable, got 0; give 1 or more
        """
        given = [option for option in (bits, categories, gaussian) if option is not None]
        if len(given) != 1:
            raise UserError(
                f"expected one of --bits N, --categories DIMSxK and --gaussian D, got {len(given)} of them; "
                "say what the function takes, such as --bits 16"
            )
        if bits is not None:
            return cls("bits", bits, 2)
        if gaussian is not None:
            return cls("gaussian", gaussian, 0)
        found = _CATEGORIES.fullmatch(str(categories).strip())
        if found is None:
            raise UserError(
                f"expected categories as DIMSxK, such as 4x8 for 4 variables of 8 values, got {categories!r}"
            )
        return cls("categories", int(found[1]), int(found[2]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameters."""
        if self.kind == "bits":
            return (self.size,)
        return (self.size, self.values) if self.kind == "categories" else (2, self.size)

    @property
    def outcomes(self) -> int | None:
        """Number of different samples; None for real numbers."""
        return None if self.kind == "gaussian" else self.values**self.size

    @property
    def option(self) -> str:
        """The option that `parse` takes this space from."""
        return {
            "bits": f"--bits {self.size}",
            "categories": f"--categories {self.size}x{self.values}",
            "gaussian": f"--gaussian {self.size}",
        }[self.kind]

    def describe(self) -> str:
        """In words, without an article."""
        many = "" if self.size == 1 else "s"
        if self.kind == "bits":
            return f"{self.size} bit{many}"
        if self.kind == "gaussian":
            return f"{self.size} real number{many}"
        return f"{self.size} variable{many} of {self.values} values"

    def default(self) -> Tensor:
        """Parameters that favour nothing: fair bits, uniform categories, standard normal; float64."""
        return torch.zeros(self.shape, dtype=torch.float64)

    def sampled(self, count: int, generator: torch.Generator) -> list[Tensor]:
        """Random parameters: probabilities uniform (of a category: uniform on the simplex), means standard normal,
        logarithms of standard deviations normal with standard deviation 1/2.

        Args:
            count: how many.
            generator: the only source of randomness.

        >>> first, second = Space.parse(bits=3).sampled(2, torch.Generator().manual_seed(0))
        >>> first.shape, bool((first != second).all())
        (torch.Size([3]), True)
        """
        return [self._drawn(generator) for _ in range(count)]

    def _drawn(self, generator: torch.Generator) -> Tensor:
        if self.kind == "gaussian":
            normal = torch.randn(self.shape, dtype=torch.float64, generator=generator)
            return normal * torch.tensor([[1.0], [0.5]], dtype=torch.float64)
        tiny = torch.finfo(torch.float64).tiny
        uniform = torch.rand(self.shape, dtype=torch.float64, generator=generator).clamp(tiny, 1 - 2**-53)
        if self.kind == "bits":
            return torch.logit(uniform)
        # Exponential variables, normalised, are uniform on the simplex.
        return torch.log_softmax(torch.log(-torch.log(uniform)), dim=-1)

    def at_probability(self, probability: float) -> Tensor:
        """Logits at which every bit is 1 with ``probability``.

        Raises:
            UserError: the variables are no bits, or the probability is not strictly between 0 and 1.

        >>> Space.parse(bits=2).at_probability(0.5)
        tensor([0., 0.], dtype=torch.float64)
        """
        if self.kind != "bits":
            raise UserError(
                f"--probability is the chance of a 1 of every bit, but there are {self.describe()}; "
                "give --parameters FILE"
            )
        return self._logits(np.full(self.size, probability), "--probability")

    def read(self, path: str | Path) -> Tensor:
        """Parameters from a file: ``.npy`` with an array of the parameters' `shape`, or JSON: such an array, or
        ``{"logits": ...}``, ``{"probabilities": ...}``, or ``{"mean": ..., "std": ...}`` (or ``"log_std"``).

        Raises:
            UserError: the file is not there, damaged, of another shape, not finite, or a probability is 0 or 1.
        """
        given = _load(Path(path))
        try:
            if not isinstance(given, Mapping):
                return self._finite(given)
            if isinstance(given.get("parameters"), Mapping):  # The record of an optimisation.
                given = given["parameters"]
            if self.kind != "gaussian" and "logits" in given:
                return self._finite(given["logits"])
            if self.kind != "gaussian" and "probabilities" in given:
                return self._logits(_array(given["probabilities"]), "probabilities")
            if self.kind == "gaussian" and "mean" in given and "log_std" in given:
                return self._finite([given["mean"], given["log_std"]])
            if self.kind == "gaussian" and "mean" in given and "std" in given:
                std = _array(given["std"])
                if not (std > 0).all():
                    raise UserError("expected standard deviations above 0")
                return self._finite([given["mean"], np.log(std).tolist()])
        except UserError as error:
            raise UserError(str(error), file=path) from None
        names = (
            '{"mean": [...], "std": [...]}'
            if self.kind == "gaussian"
            else '{"logits": ...} or {"probabilities": ...}'
        )
        raise UserError(f"expected an array or {names}, got the keys {', '.join(map(str, given))}", file=path)

    def to_json(self, parameters: Tensor) -> dict[str, Any]:
        """Parameters in a form that `read` understands.

        >>> Space.parse(bits=2).to_json(torch.zeros(2))
        {'logits': [0.0, 0.0]}
        """
        if self.kind != "gaussian":
            return {"logits": parameters.tolist()}
        return {"mean": parameters[0].tolist(), "log_std": parameters[1].tolist()}

    def family(self, parameters: Tensor | None = None) -> Family:
        """The distribution with these parameters; with `default` ones if none are given.

        Args:
            parameters: of shape `shape`.

        Raises:
            UserError: another shape, or not finite.

        >>> Space.parse(bits=2).family().kind
        'bernoulli'
        """
        from layerlab.estimators import families

        chosen = self.default() if parameters is None else parameters
        if tuple(chosen.shape) != self.shape:
            raise UserError(self._misshapen(tuple(chosen.shape)))
        if self.kind == "bits":
            return families.Bernoulli(chosen)
        if self.kind == "categories":
            return families.Categorical(chosen)
        return families.Gaussian(chosen[0], chosen[1])

    def _misshapen(self, shape: tuple[int, ...]) -> str:
        return f"expected parameters of shape {self.shape} for {self.describe()}, got {shape}"

    def _finite(self, given: Any) -> Tensor:
        array = _array(given)
        if array.shape != self.shape:
            raise UserError(self._misshapen(array.shape))
        if not np.isfinite(array).all():
            what = "means and log standard deviations" if self.kind == "gaussian" else "logits"
            raise UserError(
                f"expected finite {what}; a variable that never varies has no gradient: leave it out"
            )
        return torch.from_numpy(array.copy())

    def _logits(self, probabilities: np.ndarray[Any, np.dtype[np.float64]], source: str) -> Tensor:
        if not ((probabilities > 0) & (probabilities < 1)).all():
            raise UserError(
                f"expected {source} strictly between 0 and 1: at 0 and 1 a variable never varies; "
                "give 0.001 or 0.999, or leave the variable out"
            )
        if self.kind == "bits":
            return self._finite(np.log(probabilities) - np.log1p(-probabilities))
        if probabilities.shape == self.shape and not np.allclose(probabilities.sum(-1), 1, atol=1e-6):
            raise UserError(f"expected {source} that add up to 1 in every row")
        return self._finite(np.log(probabilities))


def _array(given: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        array = np.asarray(given)
    except ValueError:  # Lists of different lengths.
        raise UserError("expected numbers in a rectangle, got lists of different lengths") from None
    if array.dtype.kind not in "iuf":
        raise UserError(f"expected real numbers, got {array.dtype}")
    return array.astype(np.float64)


def _load(path: Path) -> Any:
    expected = "expected parameters as .npy or .json"
    if not path.is_file():
        raise UserError("there is no such file; check the path", file=path)
    try:
        if path.suffix == ".npy":
            with path.open("rb") as stream:
                return np.load(stream, allow_pickle=False)
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", file=path) from None
    except (RecursionError, *BROKEN) as error:
        raise UserError(f"{expected}, but it is damaged or something else ({error})", file=path) from None
