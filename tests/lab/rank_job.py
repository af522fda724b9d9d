"""``python -m rank_job WHAT FOLDER``: what `test_launching` starts in several processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from layerlab.lab import launching


def train(what: str, folder: Path) -> None:
    from rank_talks import Shared

    from layerlab.lab.process_group import LostPeerError
    from layerlab.lab.rendezvous import joined, place
    from layerlab.lab.schedule import Schedule
    from layerlab.lab.training import fit

    where = place()
    assert where is not None

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        if what == "die" and epoch == 4 and where.rank == 1 and not launching.restarts():
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with joined(where) as group:
            found = fit(
                *(Shared(group), Schedule(6)),
                seed=3,
                checkpoint=folder / "checkpoint",
                every_seconds=0.0,
                on_epoch=on_epoch,
                group=group,
            )
            if group.first:
                said = {"history": found.history, "starts": launching.restarts() + 1}
                (folder / "found").write_text(json.dumps(said))
    except LostPeerError:
        sys.exit(launching.LOST)


def job() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    with (folder / f"{os.environ['RANK']}.pid").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if what == "refuse":
        sys.exit(2)
    if what == "leave":
        # The one says why it goes, the other only hears that it has gone.
        if os.environ["RANK"] == "0":
            sys.exit(launching.LOST)
        time.sleep(0.3)
        sys.exit(2)
    if what == "fail":
        sys.exit(7 if os.environ["RANK"] == "1" else 0)
    if what == "wait":
        time.sleep(60)
    train(what, folder)


if __name__ == "__main__":
    launching.watch_parent()
    if sys.argv[1] == "fail":
        job()
    launching.finish(job)
