"""``python -m layerlab`` is the same as the console script ``layerlab``."""

from layerlab.cli import main

if __name__ == "__main__":
    main()
