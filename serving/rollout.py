"""The settings that say how a challenger is tried beside the champion; part of `settings.Settings`.

EMOTION_SHADOW_SHARE=0.2     it judges a fifth of the images as well, and nobody sees what it says
EMOTION_CANARY_SHARE=0.05    it answers a twentieth of the callers
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class RolloutSettings(BaseSettings):
    """How a challenger is tried."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    challenger_alias: str = Field("challenger", min_length=1)
    """Alias, or number, of the version that is tried; the alias may come and go. Asked for where one of the shares is
    more than 0."""
    shadow_share: float = Field(0, ge=0, le=1)
    """Share of the images that the challenger judges unseen, after they have been answered; 0: none."""
    shadow_queue_size: int = Field(256, ge=1)
    """Faces that may wait for that; with more, they are left out."""
    canary_share: float = Field(0, ge=0, le=1)
    """Share of the callers that the challenger answers; 0: none. A caller is an X-Session-Id, without it the name of an
    API key, without either a single request."""
    canary_failures: int = Field(5, ge=1, le=100)
    """So many failures among the last 100 requests for the challenger switch the canary off until there is another
    version; the champion answers what fails."""

    @property
    def tries_challenger(self) -> bool:
        """Whether there is anything for a challenger to do."""
        return self.shadow_share > 0 or self.canary_share > 0
