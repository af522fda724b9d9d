"""``python -m layerlab.cli.rank``: the command line in one of the processes that ``--processes`` starts."""

from __future__ import annotations

from layerlab.lab import launching

if __name__ == "__main__":
    launching.watch_parent()

    def _command() -> None:
        from layerlab.cli import main

        main()

    launching.finish(_command)
