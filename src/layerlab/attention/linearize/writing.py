"""What ``layerlab model linearize`` leaves behind: weights, plain torch code, a record and a page."""

from __future__ import annotations

import inspect
import os
import pprint
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from layerlab.attention.linearize import plain
from layerlab.attention.linearize.linearization import Linearization
from layerlab.attention.linearize.page import linearization_page
from layerlab.errors import UserError
from layerlab.lab.files import write_atomic
from layerlab.lab.records import create_run
from layerlab.lab.report.page import write
from layerlab.lab.weights import write_tensors

KIND = "model-linearization"

_EMPTY = "SWAPS: dict[str, dict[str, Any]] = {}\n"


def check_free(folder: Path) -> None:
    """That a folder can be made: it is not there, or empty, and its parent can be written.

    Raises:
        UserError: otherwise.
    """
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            return
        if folder.exists():
            raise UserError("is there already; choose another --out, or remove it", file=folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot be made ({error.strerror or error}); choose another --out", file=folder
        ) from error
    if not os.access(folder.parent, os.W_OK):
        raise UserError("its folder cannot be written; choose another --out", file=folder)


def code(swaps: Mapping[str, Mapping[str, Any]]) -> str:
    """The source of a module that needs torch only, and puts linear attention into a model.

    >>> "import layerlab" in code({}), "SWAPS: dict[str, dict[str, Any]] = {'a'" in code({"a": {}})
    (False, True)
    """
    source = inspect.getsource(plain)
    assert source.count(_EMPTY) == 1
    table = pprint.pformat({name: dict(swap) for name, swap in swaps.items()}, width=100, sort_dicts=False)
    return source.replace(_EMPTY, f"SWAPS: dict[str, dict[str, Any]] = {table}\n")


def usage(subject: str) -> str:
    """The lines that use what was written."""
    where, _, factory = subject.rpartition(":")
    module = Path(where).stem if where.endswith(".py") else where
    return f"from {module} import {factory}\nfrom attention import load\n\nmodel = load({factory}()).eval()\n"


def write_folder(found: Linearization, folder: Path, command: list[str]) -> Path:
    """Writes the folder, whole or not at all.

    Args:
        found: with swaps, not refused.
        folder: must not be there, or be empty.
        command: that was given.

    Raises:
        UserError: it is there, or cannot be written.
    """
    if found.model is None or found.refused is not None:
        raise UserError(f"nothing to write: {found.refused}")
    check_free(folder)
    # Beside the place it takes in the end, so that taking it is one step.
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp~")
    try:
        config = {"subject": found.subject.name, **asdict(found.settings)}
        run = create_run(unfinished, KIND, command, config)
        run.finish(found.to_dict())
        write_tensors(unfinished / "model.safetensors", found.model.state_dict())
        write_atomic(unfinished / "attention.py", code(found.swaps).encode())
        write_atomic(unfinished / "README.md", _readme(found).encode())
        write(linearization_page(run), unfinished / "report.html")
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error}); choose another --out", file=folder
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _readme(found: Linearization) -> str:
    assert found.whole is not None
    whole = found.whole
    chosen = [site for site in found.sites if site.chosen]
    swaps = "\n".join(
        f"- `{site.call.site}`: {site.mechanism}, predicted {site.predicted[site.mechanism or '']:.2%}, "
        f"measured {site.measured:.2%}"
        for site in chosen
    )
    held = "" if whole.held_out is None else f", {whole.held_out:.2%} on inputs that were held out"
    return f"""# Linear attention for {found.subject.name}

{len(chosen)} of {len(found.sites)} attentions exchanged, each with the error that it brings to the output alone:

{swaps}

Together: predicted {whole.predicted:.2%}, measured {whole.measured:.2%}{held}. With an output of 0 in their place the
error would be {whole.zeroed:.2%}. A forward pass takes {whole.seconds_after:.3g} s, {whole.seconds_before:.3g} before.

`attention.py` needs torch, and safetensors to read `model.safetensors`, which holds all weights of the model. With this
folder and the model's own code on the path:

```python
{usage(found.subject.name)}```

`run.json` is the record, `report.html` the page.
"""
