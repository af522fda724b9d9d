"""``layerlab segment``: U-Nets on a folder of images and masks, with the skip connections on trial."""

from __future__ import annotations

import typer

from layerlab.cli import segment_check, segment_predict, segment_race, segment_train

app = typer.Typer(
    help="U-Net segmentation of a folder of images and masks, with the skip connections on trial.",
    no_args_is_help=True,
)


app.command("check", epilog=segment_check.EPILOG)(segment_check.check)
app.command("train", epilog=segment_train.EPILOG)(segment_train.train)
app.command("predict", epilog=segment_predict.EPILOG)(segment_predict.predict)
app.command("race", epilog=segment_race.EPILOG)(segment_race.race)
