"""Functions run in several real processes that speak through gloo, for the tests of training together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PATIENCE = 120
MENDED = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun would say to a process."""
    own = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "True"}
    return {
        **os.environ,
        **MENDED,
        "OMP_NUM_THREADS": "1",
        **{name: str(value) for name, value in own.items()},
    }


def in_ranks(size: int, file: Path, function: str, *arguments: Any, lost: int = 0) -> list[Any]:
    """What ``function(group, *arguments)`` of a file returned in each of ``size`` processes; JSON goes in and out.

    An exception is ``{"raised": [class, message]}``. The last ``lost`` processes are not expected to end in order.
    """
    from torch.distributed import TCPStore

    # Here, as torchrun does it: the system gives a port that is free.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-W",
            "error",
            __file__,
            str(file),
            function,
            json.dumps(arguments),
            folder,
        ]
        processes = [
            subprocess.Popen(
                command, env=environment(rank, size, store.port), stderr=subprocess.PIPE, text=True
            )
            for rank in range(size)
        ]
        try:
            said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        files = [Path(folder) / str(rank) for rank in range(size - lost)]
        assert all(file.exists() for file in files), said
        return [json.loads(file.read_text()) for file in files]


def _main(file: str, function: str, arguments: str, folder: str) -> None:
    # Where the tests keep their helpers.
    place = Path(file).parent
    sys.path[:0] = [str(place), str(place.parent), str(place.parent.parent)]
    from layerlab.lab.rendezvous import joined
    from layerlab.lab.rendezvous import place as where

    name = Path(file).stem
    module = __import__(name)
    found = where()
    assert found is not None
    with joined(found) as group:
        try:
            result = getattr(module, function)(group, *json.loads(arguments))
        except Exception as error:  # noqa: BLE001
            result = {"raised": [type(error).__name__, str(error)]}
        (Path(folder) / str(group.rank)).write_text(json.dumps(result))


if __name__ == "__main__":
    _main(*sys.argv[1:])
