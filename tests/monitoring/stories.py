"""All scenarios, those that are told quickest first."""

from __future__ import annotations

from tests.monitoring.accuracy_scenarios import accuracy, feedback
from tests.monitoring.retrain_scenarios import retrain
from tests.monitoring.rollout_scenarios import canary, challengers, shadow
from tests.monitoring.scenarios import (
    class_drift,
    input_drift,
    near_the_limits_of_class_drift,
    near_the_limits_of_input_drift,
)
from tests.monitoring.server_scenarios import nobody_there, old_model, server
from tests.monitoring.slo_scenarios import slo_limits_of_hours, slo_of_days, slo_of_hours

STORIES = (
    near_the_limits_of_class_drift, near_the_limits_of_input_drift, class_drift, input_drift, accuracy, feedback,
    slo_limits_of_hours, slo_of_days, slo_of_hours, nobody_there, retrain, server, old_model,
    shadow, canary, challengers,
)  # fmt: skip
