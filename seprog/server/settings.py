"""What the server can be told: by flags, by environment (``SEPROG_…``), or by a TOML file."""

from __future__ import annotations

import ipaddress
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from seprog.errors import InputError


def is_loopback(host: str) -> bool:
    """Whether an address is one that only this machine can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Settings(BaseSettings):
    """Settings; flags go before environment, environment before the file."""

    model_config = SettingsConfigDict(env_prefix="SEPROG_", extra="forbid")

    model: str | None = Field(None, description="The base model; none: Atlas, which ships.")
    memory: Path = Field(Path("seprog.db"), description="The file of the edits.")
    generator: Path | None = Field(None, description="A generator trained for the model.")
    gate: Path | None = Field(None, description="A scope gate.")
    device: str = Field("cpu", description="Where the model runs.")
    threads: int = Field(1, ge=1, description="CPU threads of the model.")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    auth: bool = Field(True, description="Whether API keys are asked for.")
    cors_origins: tuple[str, ...] = Field((), description="Web pages that may call the API.")

    batch: int = Field(32, ge=1, description="Answers written together.")
    window_ms: float = Field(4.0, ge=0, description="How long a lone request waits for company.")
    queue: int = Field(256, ge=1, description="Requests that may wait; more are refused (429).")
    timeout: float = Field(120.0, gt=0, description="Seconds until a request is given up.")
    drain: float = Field(30.0, gt=0, description="Seconds that requests have to end on SIGTERM.")
    max_body: int = Field(10_000_000, ge=1000, description="Largest request body, in bytes.")
    max_tokens: int = Field(1024, ge=1, description="Most tokens that one answer may have.")

    log_level: str = Field("info", description="debug, info, warning or error.")
    log_queries: bool = Field(False, description="Whether texts of queries go into the log.")

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("one of debug, info, warning, error")
        return value.lower()

    @property
    def name(self) -> str:
        """What clients call the model."""
        return Path(os.path.abspath(self.model)).name if self.model else "atlas"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    def checked(self) -> Settings:
        """The same settings, if they can be served.

        Raises:
            InputError: Keys are switched off on an address that others can reach.
        """
        if not self.auth and not self.loopback:
            raise InputError(
                f"API keys are switched off for {self.host}, which other machines can reach",
                "127.0.0.1 without keys, or any address with keys",
                "Leave out --no-auth and make a key with: seprog keys add NAME",
            )
        return self

    @classmethod
    def _unknown(cls, name: str) -> InputError:
        """What is said of a setting that there is not."""
        near = get_close_matches(name, cls.model_fields, 1)
        known = "seprog serve --print-config shows"
        return InputError(
            f"There is no setting {name}",
            f"{near[0]}, or another that {known}" if near else f"one that {known}",
            "Correct its name, or leave it out",
        )

    @classmethod
    def load(cls, file: Path | None = None, **flags: Any) -> Settings:
        """Settings from flags, environment and file.

        Args:
            file: TOML, with the names of the fields.
            **flags: Fields; those that are ``None`` were not given.

        Raises:
            InputError: The file or the environment cannot be read, or a value does not fit.
        """
        if file is not None and not file.is_file():
            raise InputError(f"There is no file {file}", "a TOML file", "Check the path")

        class FromFile(cls):  # type: ignore[valid-type,misc]
            """The same fields, read from this file too."""

            @classmethod
            def settings_customise_sources(
                inner,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,
                file_secret_settings: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                """Flags, environment, file."""
                sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
                return (*sources, TomlConfigSettingsSource(settings_cls, file)) if file else sources

        try:
            found = FromFile(**{k: v for k, v in flags.items() if v is not None})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                raise cls._unknown(name) from error
            raise InputError(
                f"The setting {name} is {first.get('input')!r} ({first['msg']})",
                "a value that fits",
                "See seprog serve --help",
            ) from error
        except SettingsError as error:
            raise InputError(
                f"The environment cannot be read ({error})",
                "lists as JSON",
                """Write them as in: SEPROG_CORS_ORIGINS='["https://example.org"]'""",
            ) from error
        except ValueError as error:  # TOML that is none
            raise InputError(f"{file} cannot be read ({error})", "TOML", "Mend the file") from error
        return cls.model_construct(**found.model_dump()).checked()
