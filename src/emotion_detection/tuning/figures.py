"""What a study found, as pictures: how the best value rose, and which hyperparameters matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def history(values: Sequence[float], ended_early: Sequence[bool], metric: str) -> Figure:
    """The value of each trial, and the best so far.

    Args:
        values: what each trial (N,) reached, in the order of their numbers; higher is better unless it is a loss.
        ended_early: which of them (N,) were ended early or failed.
        metric: name of the values.
    """
    colours, early, reached = sns.color_palette("colorblind", 3), np.asarray(ended_early, bool), np.asarray(values)
    figure = Figure(figsize=(8, 4.2))
    axes = figure.subplots()
    places = np.arange(1, len(reached) + 1)
    axes.plot(places[~early], reached[~early], "o", color=colours[0], markersize=5, label="all epochs")
    axes.plot(places[early], reached[early], "x", color=colours[1], markersize=5, label="ended early")
    best = (np.fmin if metric.endswith("loss") else np.fmax).accumulate(np.where(early, np.nan, reached))
    axes.step(places, best, where="post", color="black", linewidth=1, label="best so far")
    axes.set(title=f"{len(values)} trials", xlabel="Finished trials", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def importance(shares: Mapping[str, float], metric: str) -> Figure:
    """Bars of the share of each hyperparameter in what tells good trials from the others, the largest on top."""
    ordered = sorted(shares.items(), key=lambda item: item[1])
    figure = Figure(figsize=(8, 0.42 * len(ordered) + 1.5))
    axes = figure.subplots()
    bars = axes.barh(
        [key for key, _ in ordered], [share for _, share in ordered], color=sns.color_palette("colorblind", 1)
    )
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(title=f"Importance for {metric} (PED-ANOVA)", xlabel="Share", xlim=(0, 1.12 * ordered[-1][1]))
    axes.grid(visible=False, axis="y")
    return figure
