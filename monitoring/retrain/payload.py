"""Alertmanager's webhook, version 4: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config.

notification = Notification.model_validate_json(body)
notification.wanted()       the alerts that ask for a retraining
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

MAX_BYTES = 1_000_000
"""Of a notification; Alertmanager's are a few kilobytes for each alert."""
ACTION = "retrain"
Text = Annotated[str, StringConstraints(max_length=10_000)]
Labels = Annotated[dict[Text, Text], Field(max_length=200)]


class _Part(BaseModel):
    # What later versions of Alertmanager add is no mistake.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Alert(_Part):
    """One alert, as it is now."""

    status: Literal["firing", "resolved"]
    labels: Labels
    annotations: Labels = {}
    starts_at: AwareDatetime = Field(alias="startsAt")
    """Stays the same for as long as the alert fires."""
    generator_url: Text = Field("", alias="generatorURL")
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,64}$")]
    """Hash of the labels."""

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "")

    @property
    def key(self) -> str:
        """What this alert is called from its start to its end, in every notification of every Alertmanager."""
        return f"{self.fingerprint}@{self.starts_at.timestamp():.3f}"


class Notification(_Part):
    """What Alertmanager posts: the alerts of a group."""

    version: Literal["4"]
    group_key: Text = Field(alias="groupKey")
    truncated_alerts: int = Field(0, alias="truncatedAlerts", ge=0)
    status: Literal["firing", "resolved"]
    receiver: Text
    external_url: Text = Field("", alias="externalURL")
    alerts: Annotated[list[Alert], Field(max_length=1000)]

    def wanted(self) -> list[Alert]:
        """Alerts that fire and are labelled `action=retrain`, each once, the oldest first."""
        alerts = {
            alert.key: alert
            for alert in self.alerts
            if alert.status == "firing" and alert.labels.get("action") == ACTION
        }
        return sorted(alerts.values(), key=lambda alert: (alert.starts_at, alert.fingerprint))
