"""Watches a deep network of sigmoids that hardly learns, and writes what happened as a page of heat maps.

    python examples/monitor_training.py [PAGE.html]

The gradient shrinks by a factor at every layer on its way back, so the first layers stand still. Exchange
`nn.Sigmoid` for `nn.Tanh` and look again.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

from layerlab.gradflow import Monitor

DEPTH, WIDTH, STEPS = 8, 32, 200


def model() -> nn.Module:
    """Hidden layers of sigmoids between two linear maps."""
    hidden = [layer for _ in range(DEPTH - 1) for layer in (nn.Linear(WIDTH, WIDTH), nn.Sigmoid())]
    return nn.Sequential(nn.Linear(2, WIDTH), nn.Sigmoid(), *hidden, nn.Linear(WIDTH, 1))


def main(page: str = "monitor.html") -> None:
    """Trains on points inside and outside a circle."""
    torch.manual_seed(0)
    net = model()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    loss_fn = nn.BCEWithLogitsLoss()

    # Often, for a run of a second. Without `every` the monitor keeps under 5 per cent of the time by itself.
    with Monitor(net, every=10, optimizer=optimizer) as monitor:
        for _ in range(STEPS):
            x = torch.randn(64, 2)
            y = (x.square().sum(1, keepdim=True) < 1.4).float()
            with monitor.step():
                loss = loss_fn(net(x), y)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    monitor.report(page)
    gradients = monitor.record.series("gradient_out")
    print(f"loss {loss.item():.3f}; gradient norm {gradients['0'][-1]:.1e} at the first layer,")
    print(
        f"{gradients[str(2 * DEPTH)][-1]:.1e} at the last; watching took {monitor.overhead['share']:.1%}: {page}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:2])
