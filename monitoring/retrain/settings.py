"""The webhook's settings, from environment variables or options; secrets from the environment or files alone.

RETRAIN_TOKEN_FILE=retrain-token python -m monitoring.retrain --dry-run
python -m monitoring.retrain --target github --github-repository owner/name     # --help lists them all
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliImplicitFlag, CliSuppress, SettingsConfigDict

from emotion_detection.network import is_loopback
from monitoring.retrain.errors import SettingsError

PREFIX = "RETRAIN_"
SHORTEST = 16
"""Characters of a token."""
_SECRETS = ("token", "github-token")


@dataclass(frozen=True)
class Secret:
    """A word from the environment, or a file that is read each time, so that a new one needs no restart."""

    given: SecretStr | None
    file: Path | None

    def read(self) -> str:
        """The word.

        Raises:
            SettingsError: the file cannot be read, or what is in it is no secret.
        """
        if self.given is not None:
            return _checked(self.given.get_secret_value(), "from the environment")
        assert self.file is not None  # noqa: S101 (for the type checker)
        try:
            return _checked(self.file.read_text(), f"in {self.file}")
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise SettingsError(f"{self.file}: cannot be read ({reason}); expected a file with a token") from None


class Settings(BaseSettings):
    """How the webhook runs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_prog_name="python -m monitoring.retrain",
        cli_kebab_case=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on; off this machine a token is required."""
    port: int = Field(9095, ge=0, le=65535)
    """0: any free port."""
    token_file: Path | None = None
    """File with the token that Alertmanager shows; read again at every notification."""
    token: CliSuppress[SecretStr | None] = None
    """The token itself, from the environment only."""
    target: Literal["github", "command"] = "command"
    """github: start the repository's workflow; command: run `command` on this machine."""
    dry_run: CliImplicitFlag[bool] = False
    """Only say what would be done; what is noted stays apart from what really was done."""
    state: Path = Path(".cache/retrain")
    """Directory for what has been done (sqlite), the audit log and the logs of commands."""
    cooldown_seconds: float = Field(21_600, ge=0)
    """After a dispatch there is no other for so long, whatever fires."""
    settle_seconds: float = Field(15, ge=0)
    """How long an event of which nobody knows whether it arrived is given before it is looked for."""
    repair_seconds: float = Field(60, ge=0)
    """Pause after a failure that a person has to repair, such as a token that has expired."""
    timeout_seconds: float = Field(4, gt=0, le=60)
    """How long GitHub may take to accept a connection, and then to answer."""
    command: str = "emotion run"
    """What retrains: words as in a shell, but no shell runs them. Its exit status must not be 0 where it failed."""
    directory: Path = Path()
    """Where the command runs."""
    github_repository: str = Field("", pattern=r"^([A-Za-z0-9-]+/[A-Za-z0-9._-]+)?$")
    """owner/name."""
    github_url: str = "https://api.github.com"
    """Of the API; with GitHub Enterprise https://HOST/api/v3."""
    github_token_file: Path | None = None
    """File with a token of GitHub; read again at every dispatch."""
    github_token: CliSuppress[SecretStr | None] = None
    """The token itself, from the environment only."""
    event_type: str = Field("retrain", min_length=1, max_length=100)
    """Of the `repository_dispatch`."""

    @field_validator("command")
    @classmethod
    def _command_has_words(cls, command: str) -> str:
        if not shlex.split(command):
            raise ValueError("expected a command, such as: emotion run")
        return command

    @field_validator("github_url")
    @classmethod
    def _url_keeps_the_token_secret(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise ValueError("expected https://...: the token would be sent for everybody to read")
        return url

    @model_validator(mode="after")
    def _strangers_need_a_token(self) -> Settings:
        if not self.needs_token and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines, and there is no token; make one with `openssl "
                "rand -hex 32` in a file, and name it in RETRAIN_TOKEN_FILE"
            )
        return self

    @model_validator(mode="after")
    def _github_is_known(self) -> Settings:
        token = self.github_token or self.github_token_file
        if self.target == "github" and not (self.github_repository and (token or self.dry_run)):
            raise ValueError("target github wants RETRAIN_GITHUB_REPOSITORY, and RETRAIN_GITHUB_TOKEN_FILE (or _TOKEN)")
        return self

    @property
    def needs_token(self) -> bool:
        """Whether Alertmanager must show a token."""
        return bool(self.token or self.token_file)

    @property
    def secret(self) -> Secret:
        """The token that Alertmanager shows."""
        return Secret(self.token, self.token_file)

    @property
    def github_secret(self) -> Secret:
        """The token that GitHub is shown."""
        return Secret(self.github_token, self.github_token_file)

    @property
    def lease_seconds(self) -> float:
        """How long a dispatch belongs to who sends it: longer than that takes."""
        return 2 * self.timeout_seconds + self.settle_seconds + 1

    @property
    def words(self) -> list[str]:
        """`command`, taken apart."""
        return shlex.split(self.command)

    @property
    def folder(self) -> Path:
        """`state`, or the part of it where a dry run notes things."""
        return self.state / "dry-run" if self.dry_run else self.state


def load_settings(arguments: Sequence[str] = ()) -> Settings:
    """Read the settings; options win over environment variables.

    Raises:
        SettingsError: a value does not fit, a variable looks like a misspelt setting, or a secret is none.
    """
    _refuse_typos()
    for name in _SECRETS:
        if any(argument.partition("=")[0] == f"--{name}" for argument in arguments):
            variable = PREFIX + name.replace("-", "_").upper()
            raise SettingsError(f"--{name}: every user of this machine could read it; set {variable}_FILE")
    try:
        settings = Settings(_cli_parse_args=list(arguments))
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(item) for item in error.errors())) from None
    if settings.needs_token:
        settings.secret.read()
    if settings.target == "github" and not settings.dry_run:
        settings.github_secret.read()
    return settings


def _refuse_typos() -> None:
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable not in known:
            for meant in difflib.get_close_matches(variable, known, n=1, cutoff=0.85):
                raise SettingsError(f"{variable}: no such setting; did you mean {meant}?")


def _checked(text: str, where: str) -> str:
    word = text.strip()
    if len(word) < SHORTEST or not word.isascii() or not word.isprintable() or " " in word:
        raise SettingsError(
            f"the token {where}: expected one word of at least {SHORTEST} characters; `openssl rand -hex 32` makes one"
        )
    return word


def _explain(item: Mapping[str, Any]) -> str:
    message = item["msg"].removeprefix("Value error, ")
    if not item["loc"]:  # two settings that contradict each other
        return f"settings: {message}"
    name = str(item["loc"][0])
    found = "" if "token" in name else f"found {item['input']!r}; "
    return f"{PREFIX}{name.upper()} or --{name.replace('_', '-')}: {found}{message}"
