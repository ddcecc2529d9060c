"""Configuration of the HTTP API, read from `K2_API_...` environment variables."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final

from limits import parse
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from k2.common.environment import unknown_variables
from k2.common.validation_errors import ABSENT, InvalidSpec, Problem, from_pydantic
from k2.query.sql.cage.limits import Limits, parse_memory

MAX_PAGE_ROWS: Final = 10_000  # rows of a page, at most
PORT: Final = 8000
_PREFIX: Final = "K2_API_"
_KIB: Final = 1024


def _rate(value: str) -> str:
    try:
        parse(value)
    except ValueError as error:
        raise ValueError("must be a count and a period, such as 600/minute") from error
    return value


def _split(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for each in value:
        try:
            ip_network(each)
        except ValueError:
            raise ValueError("must be addresses or networks, such as 10.1.0.0/16, comma separated") from None
    return value


def _port(value: Any) -> Any:
    """Ignore the URL that Kubernetes puts into K2_API_PORT for a Service named k2-api."""
    return PORT if isinstance(value, str) and value.startswith("tcp://") else value


Rate = Annotated[str, AfterValidator(_rate)]


class ApiSettings(BaseSettings):
    """Settings of the API. Every one has a default; serving this machine only needs none."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, BeforeValidator(_port)] = Field(
        PORT, ge=0, le=65535, description="port to listen on; 0: any free one"
    )
    keys: Path | None = Field(
        None, description="file of API keys, as written by `k2 keys create`; reloaded when it changes"
    )
    allow_anonymous: bool = Field(False, description="serve without keys on an address that other machines can reach")
    cors: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="allowed CORS origins, comma separated"
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_networks)] = Field(
        (), description="addresses or networks of proxies whose X-Forwarded-For is believed, comma separated"
    )
    secret: SecretStr = Field(SecretStr(""), description="signs cursors; empty: derived from the catalog's address")
    rate: Rate = Field("600/minute", description="request rate of a key without a rate of its own")
    rate_anonymous: Rate = Field(
        "1200/minute", description="request rate per client address when no keys are configured"
    )
    rate_unauthorized: Rate = Field(
        "30/minute", description="request rate per client address with a missing or unknown key"
    )
    max_requests: int = Field(256, ge=1, description="concurrent requests; more get 503")
    max_queries: int = Field(8, ge=1, description="concurrent queries; more are queued")
    max_queries_per_client: int = Field(4, ge=1, description="concurrent queries of one key, or of one address")
    max_statements: int = Field(
        2, ge=1, description="concurrent SQL statements, which share their memory evenly; more are queued"
    )
    max_queued: int = Field(64, ge=0, description="queued queries; more get 503")
    query_timeout: float = Field(
        30.0, gt=0, description="seconds until the first rows of a query, and between any two batches"
    )
    send_timeout: float = Field(30.0, gt=0, description="seconds until a client that reads nothing is disconnected")
    max_unread_bytes: int = Field(
        1_000_000_000,
        ge=0,
        description="bytes on disk, in the folder for temporary files, of results that clients have not read yet",
    )
    header_timeout: float = Field(
        10.0, gt=0, description="seconds within which a request's headers, and its body, must arrive"
    )
    max_header_bytes: int = Field(16 * _KIB, ge=_KIB)
    max_body_bytes: int = Field(128 * _KIB, ge=_KIB)
    memory: str = Field(
        "1GB",
        pattern=r"^[1-9][0-9]{0,5} ?[KMGT]i?B$",
        description="memory limit of DuckDB; all SQL statements together get as much again",
    )
    max_sql_rows: int = Field(1_000_000, ge=1, description="rows of a SQL result; JSON returns at most one page")
    max_sql_bytes: int = Field(2_000_000_000, ge=1, description="bytes of a SQL result, as Arrow")
    sql_cpu_seconds: float = Field(60.0, gt=0, description="CPU time of a SQL statement, of all its threads together")
    sql_seconds: float = Field(
        300.0, gt=0, description="seconds from the start of a SQL statement until it has its last row"
    )

    @classmethod
    def read(cls, **overrides: Any) -> "ApiSettings":
        """Read the environment; `overrides` take precedence.

        Raises `InvalidSpec` that names every invalid or unknown variable.
        """
        problems = unknown_variables(_PREFIX, [name.upper() for name in cls.model_fields])
        try:
            settings = cls(**overrides)
        except ValidationError as error:
            problems += [
                Problem(f"{_PREFIX}{problem.path.upper()}", problem.value, problem.allowed)
                for problem in from_pydantic(error)
            ]
        if problems:
            raise InvalidSpec(problems)
        settings.check()
        return settings

    @property
    def sql_limits(self) -> Limits:
        """What one SQL statement may use."""
        return Limits(
            memory=parse_memory(self.memory) // self.max_statements,
            cpu_seconds=self.sql_cpu_seconds,
            wall_seconds=self.sql_seconds,
            output_bytes=self.max_sql_bytes,
        )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    def check(self) -> None:
        """Raise `InvalidSpec` if other machines could use the API without a key and nothing allows it."""
        if self.keys is None and not self.allow_anonymous and not self.loopback:
            raise InvalidSpec(
                [
                    Problem(
                        "K2_API_KEYS",
                        ABSENT,
                        f"required because other machines can reach {self.host}: create a key with `k2 keys create` "
                        "and name its file, or set K2_API_ALLOW_ANONYMOUS=true (--allow-anonymous)",
                    )
                ]
            )
