"""Settings of the service: flags > environment ``AGIQA_*`` > file > defaults. Frozen, read once, at
the root.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from model.resources import usable_cores, usable_memory

PREFIX = "AGIQA_"
# Of ``agiqa models --server``; refused here all the same, since whoever meant to guard the service
# with it would leave it open.
_CLIENT_KEY = "AGIQA_API_KEY"
_KEY_HINT = " (a client's key; the service takes AGIQA_API_KEYS)"


# What decoding one image may take; the default number of decode workers reckons with it.
DECODE_MIB = 512.0


_LISTS = (
    *("models", "allowed_hosts", "allowed_origins", "forwarded_allow_ips"),
    *("api_keys", "admin_keys"),
)
# What a browser on this machine may call a service that listens on the loopback alone.
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class SettingsError(Exception):
    """Unusable settings; the message lists all of them."""


def _decode_workers() -> int:
    """As many as cores, eight at most, whose images fit into half of the memory."""
    memory = usable_memory() // int(2 * DECODE_MIB * 2**20)
    return max(1, min(8, usable_cores(), memory))


class Settings(BaseSettings):
    """Every setting, with its default; lists in the environment are separated by commas."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Names; none: the loopback's if only it is listened on, else any."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    forwarded_allow_ips: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "::1")
    keep_alive_seconds: int = Field(default=75, ge=1)
    max_connections: int = Field(default=1024, ge=1)
    header_seconds: float = Field(default=10.0, gt=0)
    body_seconds: float = Field(default=30.0, gt=0)
    models: Annotated[tuple[str, ...], NoDecode] = ("tiny-mpiqe", "tiny-clip-agiqa")
    device: str = Field(
        default="auto", description="auto, cpu, cuda, cuda:1; several, as in cuda:0,cuda:1."
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="On each device; None: one, but on a CPU as many as were measured to be best.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = Field(
        default=None,
        ge=1,
        description="Of the network on a CPU, for each worker; None: torch's choice within the "
        "usable cores, which several workers share.",
    )
    decode_workers: int = Field(default_factory=_decode_workers, ge=1)
    decode_threads: int | None = Field(
        default=None, ge=1, description="The former name of decode_workers."
    )

    load_seconds: float = Field(default=600.0, gt=0)
    deadline_seconds: float = Field(default=10.0, gt=0)
    drain_delay_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    drain_seconds: float = Field(default=30.0, ge=0)
    max_image_mib: float = Field(default=32.0, gt=0)
    max_megapixels: float = Field(default=50.0, gt=0)
    max_decode_mib: float = Field(default=DECODE_MIB, gt=0)
    decode_seconds: float = Field(default=0.5, gt=0)
    decode_seconds_per_megapixel: float = Field(default=0.1, ge=0)
    max_batch_images: int = Field(default=64, ge=1)
    max_body_mib: float = Field(default=256.0, gt=0)
    max_bodies_mib: float = Field(default=512.0, gt=0)
    max_prompt_chars: int = Field(default=4096, ge=1)
    max_prompt_tokens: int = Field(default=512, ge=1)

    max_rows: int = Field(default=4096, ge=1)
    max_crop_mib: float = Field(default=256.0, gt=0)
    max_batch_seconds: float = Field(default=0.25, gt=0)
    max_batch_rows: int | None = Field(default=None, ge=1, description="None: 128; 512 on CUDA.")
    cache_answers: int = Field(
        default=0, ge=0, description="Most scores that are kept, 2 KiB each in the mean; 0: none."
    )

    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(default=(), validate_default=False)
    keys_file: Path | None = Field(default=None, description="TOML; see app.key_file.")
    admin_keys: Annotated[tuple[str, ...], NoDecode] = Field(default=(), validate_default=False)
    slow_request_seconds: float = Field(
        default=5.0, ge=0, description="A request that takes as long gets a log line; 0: none."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text on a terminal, else JSON."
    )

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("decode_threads") is not None:
            values.setdefault("decode_workers", values["decode_threads"])
        return values

    @field_validator(*_LISTS, mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("models")
    @classmethod
    def _has_one(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one model")
        return value

    @field_validator("device")
    @classmethod
    def _names_devices(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")]
        if not all(names) or (len(names) > 1 and "auto" in names):
            raise ValueError("name one device, or several with commas between; auto stands alone")
        return ",".join(names)

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if one != "*":
                ipaddress.ip_network(one)  # a name would never fit, silently
        return value

    @field_validator("api_keys", "admin_keys")
    @classmethod
    def _has_a_key(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Whoever sets it means to guard the service; an empty variable must not open it.
        if not value or not all(key.strip() for key in value):
            raise ValueError(
                "it is set, but holds no key or an empty one; leave it unset to serve without keys"
            )
        return value

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that the service answers to; ``*`` stands for any."""
        if self.allowed_hosts:
            return self.allowed_hosts
        return _LOOPBACK if f"[{self.host}]" in _LOOPBACK or self.host in _LOOPBACK else ("*",)

    @property
    def worker_devices(self) -> tuple[str, ...]:
        """The device of each worker."""
        return tuple(self.device.split(",")) * (self.workers or 1)

    def most_workers(self, cores: int) -> int:
        """How many may share the CPU if that turns out to be faster: more than one only where
        nobody set how many there are, or their threads.
        """
        is_set = self.workers is not None or self.threads is not None
        return 1 if is_set or self.device not in {"auto", "cpu"} else cores

    def batch_rows(self, device: str) -> int:
        """Most rows of a batch there; more on a GPU, for which 128 are milliseconds, on paper."""
        return self.max_batch_rows or (512 if device.startswith("cuda") else 128)

    def worker_threads(self, cores: int) -> int | None:
        """Threads of the network in each worker: what is set, or a share of the cores where several
        workers may compute on the CPU; None: torch's choice.
        """
        on_cpu = sum(not name.startswith("cuda") for name in self.worker_devices)
        return self.threads or (max(1, cores // on_cpu) if on_cpu > 1 else None)

    @property
    def max_image_bytes(self) -> int:
        """Largest upload of one image."""
        return int(self.max_image_mib * 2**20)

    @property
    def max_body_bytes(self) -> int:
        """Largest body of a batch."""
        return int(self.max_body_mib * 2**20)

    @property
    def max_bodies_bytes(self) -> int:
        """Most bytes of all bodies together."""
        return int(self.max_bodies_mib * 2**20)

    @property
    def max_pixels(self) -> int:
        """Largest image, as its header says."""
        return int(self.max_megapixels * 1e6)

    @property
    def max_decode_bytes(self) -> int:
        """Most memory that decoding one image may take."""
        return int(self.max_decode_mib * 2**20)

    @property
    def arena_bytes(self) -> int:
        """Shared memory for crops, in whole pages."""
        return max(1, int(self.max_crop_mib * 2**20) // 4096) * 4096


def load_settings(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> Settings:
    """Reads and validates all sources: these two, and ``os.environ``.

    Args:
        flags: settings given on the command line.
        file: a TOML file.

    Raises:
        SettingsError: unknown keys and unfitting values, all at once.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + "CONFIG"}
    faults = [
        f"{n}: unknown setting{_KEY_HINT if n.upper() == _CLIENT_KEY else ''}"
        for n in os.environ
        if n.upper().startswith(PREFIX) and n.upper() not in known
    ]
    values: dict[str, Any] = {}
    for source in _sources(flags, file).values():
        values |= source
    try:
        settings = Settings(**values)
    except ValidationError as error:
        faults += [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    if faults:
        raise SettingsError("the settings can't be used:\n  " + "\n  ".join(faults))
    return settings


def origins(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> dict[str, str]:
    """Where ``load_settings`` takes each setting from: flag, environment, file, default, or derived
    from what the process may use of the machine.

    Raises:
        SettingsError: there is no such file.
    """
    found = {
        name: "derived from the usable cores and memory" if field.default_factory else "default"
        for name, field in Settings.model_fields.items()
    }
    for origin, values in _sources(flags, file).items():
        found |= dict.fromkeys(values, origin)
        if "decode_threads" in values and "decode_workers" not in values:
            found["decode_workers"] = found["decode_threads"]
    return found


def _sources(flags: Mapping[str, Any] | None, file: Path | None) -> dict[str, dict[str, Any]]:
    """What each source sets, in rising order: what ``Settings`` is called with outranks all that it
    reads itself.
    """
    if file is not None and not file.is_file():
        raise SettingsError(f"no settings file {file}")
    return {
        "file": TomlConfigSettingsSource(Settings, file)(),
        "environment": EnvSettingsSource(Settings)(),
        "flag": {key: value for key, value in (flags or {}).items() if value is not None},
    }
