"""The settings that say who may use the server, how often, and what is logged of it; part of `settings.Settings`.

Lists are written with commas: EMOTION_CORS_ORIGINS=https://a.example,https://b.example
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, CliImplicitFlag, CliSuppress, NoDecode, SettingsConfigDict

from emotion_detection.api_keys import ApiKeyError
from serving.keys import Keys


def _split(value: object) -> object:
    """Words between commas; the command line may also repeat an option."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        return value
    return tuple(word.strip() for text in texts for word in str(text).strip("[]").split(",") if word.strip())


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class SafetySettings(BaseSettings):
    """Who may use the server, how often, and what is logged of it."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    api_keys_file: Path | None = None
    """Keys that are let in, a line of `emotion keys new` each; read again when it changes."""
    api_keys: CliSuppress[SecretStr | None] = None
    """The same lines, from the environment only, with commas for line ends."""
    allow_anonymous: CliImplicitFlag[bool] = False
    """Listen on more than loopback although there are no keys: everybody who reaches the port may use the server."""
    open_paths: Words = (
        "/",
        "/static/*",
        "/healthz",
        "/readyz",
        "/v2/health/live",
        "/v2/health/ready",
        "/webhooks/mlflow",
    )
    """Paths that ask for no key; `/*` at the end stands for all below. Webhooks carry a signature of their own."""
    rate_limit: float = Field(0, ge=0)
    """Requests, and frames of streams, per second that one key, or without keys one address, may send for long; 0: any
    number."""
    rate_burst: int = Field(0, ge=0)
    """Requests that it may send at once after a pause; 0: what `rate_limit` gives in 10 s."""
    cors_origins: Words = ()
    """Origins, such as https://app.example, whose pages may use the server from a browser; `*` for all."""
    allowed_hosts: Words = ()
    """Names in the Host header that are answered, `*.example.org` for all below; none: any."""
    log_format: Literal["text", "json"] = "text"
    """How the log looks; json has the time of each line as well."""
    access_log: CliImplicitFlag[bool] = True
    """Log a line for each request: id, route, status, time, bytes, name of the key."""
    log_addresses: CliImplicitFlag[bool] = False
    """Also log the callers' addresses, which are personal data."""

    @model_validator(mode="after")
    def _keys_are_keys(self) -> SafetySettings:
        try:
            self.load_keys()
        except ApiKeyError as error:
            raise ValueError(f"API keys: {error}") from None
        return self

    def load_keys(self) -> Keys | None:
        """The keys that are let in; none where everybody is.

        Raises:
            ApiKeyError: a line is none.
        """
        given = self.api_keys.get_secret_value() if self.api_keys else ""
        return Keys(self.api_keys_file, given) if self.needs_key else None

    @property
    def needs_key(self) -> bool:
        """Whether callers must show a key."""
        return self.api_keys_file is not None or self.api_keys is not None

    @property
    def burst(self) -> int:
        """`rate_burst`, with 0 resolved."""
        return self.rate_burst or max(1, round(10 * self.rate_limit))
