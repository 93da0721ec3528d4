"""`emotion params`: what params.yaml says, whether it is right, and what could stand in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from emotion_detection.cli.output import print_json

if TYPE_CHECKING:
    from emotion_detection.params import Params


def show_params(
    check: Annotated[bool, typer.Option("--check", help="Only check, hyperparameters included.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema, hyperparameters included.")] = False,
) -> None:
    """Print all parameters as JSON, defaults included."""
    from emotion_detection.params import load_params

    if schema:
        print_json(_schema())
        return
    params = load_params()
    if check:
        check_models(params)
        print(f"params.yaml is valid; models: {', '.join(params.models)}")
    else:
        print_json(params.model_dump(mode="json"))


def check_models(params: Params) -> None:
    """Hold the hyperparameters of every model against the signature of its architecture.

    Raises:
        ParamsError: one does not fit.
    """
    from emotion_detection.models import check_hyperparameters

    for name, model in params.models.items():
        check_hyperparameters(name, model)


def _schema() -> dict[str, object]:
    from emotion_detection.models import architectures, hyperparameter_schema
    from emotion_detection.params import Params

    return {
        **Params.model_json_schema(),
        "hyperparameters": {architecture: hyperparameter_schema(architecture) for architecture in architectures()},
    }
