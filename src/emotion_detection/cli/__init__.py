"""The command line: `emotion --help`.

Exit status of every command: 0 done; 1 an error, or the gate refused; 2 the command line is wrong. Errors go to
standard error, results to standard output, as JSON with `--json`. Nothing heavy is imported here: each command
imports what it needs, so that help is there at once.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from emotion_detection.cli import (
    comparison,
    detect,
    explain,
    feedback,
    import_hf,
    keys,
    labels,
    params,
    promotion,
    replay,
    report,
    results,
    run,
    serve,
    tune,
    ui,
    webcam,
)
from emotion_detection.errors import reported


class _Reported(TyperGroup):
    """Reports an EmotionError of any command as one message."""

    def invoke(self, ctx: Any) -> Any:
        with reported():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Reported,
    help="From labelled face images to a served emotion classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command(cls=run.WithDvcArguments)(run.run)
app.command(name="import-hf")(import_hf.import_hf)
app.command()(results.results)
app.command()(comparison.compare)
app.command()(report.report)
app.command()(tune.tune)
app.command()(labels.labels)
app.command(name="params")(params.show_params)
app.command()(promotion.promote)
app.command()(promotion.challenge)
app.command()(promotion.rollback)
app.command()(promotion.gate)
app.command()(promotion.trace)
app.command()(results.runs)
app.command()(explain.explain)
app.command()(detect.detect)
app.command()(webcam.webcam)
app.command()(replay.replay)
app.command(context_settings=serve.OPTIONS)(serve.serve)
app.command(name="fetch-face-model")(detect.fetch_face_model)
app.command()(ui.ui)
app.add_typer(keys.keys, name="keys")
app.add_typer(feedback.feedback, name="feedback")
