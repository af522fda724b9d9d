"""Every swap of a trained model: its error as predicted and as measured.

The measure, fixed with the set: the relative error ``|y' - y| / |y|`` of all numbers of the model's output (logits or
real numbers), over 32 samples that nothing was fitted to; y' with one attention exchanged; in float64, so that small
errors are no rounding. Predicted is the first-order error on the same samples. A swap is a hit if predicted / measured
lies between 1/2 and 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layerlab.attention.calls import AttentionCall
from layerlab.attention.linearize.fitting import fit_hedgehog
from layerlab.attention.mechanisms import LowRank, Mechanism, Nystrom, mechanism
from layerlab.attention.prediction import predict, replaced_output
from layerlab.attention.watching import attention_calls, replacing
from linearize_bench.zoo import Trained

MECHANISMS = ("linear", "linear-relu", "linear-random", "hedgehog", "nystrom", "low-rank")


def mechanisms_for(call: AttentionCall, validation: AttentionCall) -> dict[str, Mechanism]:
    """Those that can stand in the place of a call. Landmarks and ranks are small, or they would be exact."""
    heads, size, n, m = call.heads, call.q.shape[-1], call.q.shape[2], call.k.shape[2]
    made: dict[str, Mechanism] = {
        name: mechanism(name, heads=heads, head_size=size)
        for name in ("linear", "linear-relu", "linear-random")
    }
    made["hedgehog"], _ = fit_hedgehog(call, validation)
    made["nystrom"] = Nystrom(max(2, m // 8))
    made["low-rank"] = LowRank(max(1, m // 16))
    return {
        name: attention.double()
        for name, attention in made.items()
        if attention.supports(causal=call.causal, mask=call.mask, n=n, m=m) is None
    }


def study(trained: Trained, progress: Any = None) -> dict[str, Any]:
    """What the case is, how well it learnt, and each swap."""
    model, case = trained.model.double(), trained.case
    fitted, held_out = (
        tuple(x.double() if x.is_floating_point() else x for x in given)
        for given in (trained.fitted, trained.held_out)
    )
    watched = attention_calls(model, held_out)
    clean: Tensor = watched.output
    before = {call.site: call for call in attention_calls(model, fitted).calls}
    # Of the inputs to fit to, a quarter judges the fit.
    candidates = {
        site: mechanisms_for(_some(call, slice(8, None)), _some(call, slice(8)))
        for site, call in before.items()
    }
    prediction = predict(model, held_out, candidates)
    swaps = []
    for (site, name), swap in prediction.swaps.items():
        attention = candidates[site][name]

        def exchanged(call: AttentionCall, attention: Mechanism = attention) -> Tensor:
            return replaced_output(attention, call)

        with torch.no_grad(), replacing(model, {site: exchanged}):
            output = model(*held_out)
        measured = float((output - clean).norm() / clean.norm())
        swaps.append(
            {
                "site": site,
                "mechanism": name,
                "local": swap.local,
                "predicted": swap.error,
                "measured": measured,
                "ratio": swap.error / measured,
            }
        )
    return {
        "case": {name: getattr(case, name) for name in case.__dataclass_fields__},
        "score": trained.score,
        "seconds": trained.seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
        "sites": len(before),
        "way": prediction.way,
        "swaps": swaps,
    }


def _some(call: AttentionCall, samples: slice) -> AttentionCall:
    from dataclasses import replace

    mask = call.mask if call.mask is None or len(call.mask) == 1 else call.mask[samples]
    return replace(call, q=call.q[samples], k=call.k[samples], v=call.v[samples], mask=mask)
