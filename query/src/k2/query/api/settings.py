"""What the API is told by its environment, `K2_API_...`, and by nothing else."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final

from limits import parse
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from k2.common.validation_errors import ABSENT, InvalidSpec, Problem, from_pydantic

PAGE: Final = 10_000  # rows of a page, at most
PORT: Final = 8000
_KIB: Final = 1024


def _rate(value: str) -> str:
    try:
        parse(value)
    except ValueError as error:
        raise ValueError("must be a number and a time, such as 600/minute") from error
    return value


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Rate = Annotated[str, AfterValidator(_rate)]


class ApiSettings(BaseSettings):
    """How the API serves. Everything has a default; on this machine alone it needs none."""

    model_config = SettingsConfigDict(env_prefix="K2_API_", frozen=True)

    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(PORT, ge=0, le=65535, description="0: any free one")
    keys: Path | None = Field(
        None, description="a file of API keys, as `k2 keys` writes it; read again when it changes"
    )
    open: bool = Field(False, description="serve without keys on an address that others can reach")
    cors: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = Field(
        (), description="origins whose pages may ask, comma separated"
    )
    secret: SecretStr = Field(SecretStr(""), description="signs cursors; empty: made from the catalog's address")
    rate: Rate = Field("600/minute", description="requests of a key that has no rate of its own")
    rate_open: Rate = Field("1200/minute", description="requests of an address, where there are no keys")
    rate_refused: Rate = Field("30/minute", description="requests of an address with no key or a wrong one")
    requests: int = Field(256, ge=1, description="at once; more are told to come back")
    queries: int = Field(8, ge=1, description="at once; more wait")
    queries_each: int = Field(4, ge=1, description="at once of one key, or of one address")
    statements: int = Field(2, ge=1, description="of SQL at once, each with its share of their memory; more wait")
    waiting: int = Field(64, ge=0, description="queries that wait; more are told to come back")
    seconds: float = Field(30.0, gt=0, description="until a query has its first rows, and between any two batches")
    stall: float = Field(30.0, gt=0, description="until a client that reads nothing is let go")
    header_seconds: float = Field(10.0, gt=0, description="until a request's headers, or its body, are there")
    header_bytes: int = Field(16 * _KIB, ge=_KIB)
    body_bytes: int = Field(128 * _KIB, ge=_KIB)
    memory: str = Field(
        "1GB", pattern=r"^[1-9][0-9]{0,5} ?[KMGT]i?B$", description="of DuckDB; of all SQL statements as much again"
    )
    sql_rows: int = Field(1_000_000, ge=1, description="of a SQL answer; in JSON a page's worth")

    @classmethod
    def read(cls, **given: Any) -> "ApiSettings":
        """What the environment says, and what is given in its place. Raises `InvalidSpec` that names the variables."""
        try:
            found = cls(**given)
        except ValidationError as error:
            problems = from_pydantic(error)
        else:
            found.check()
            return found
        raise InvalidSpec(
            Problem(f"K2_API_{problem.path.upper()}", problem.value, problem.allowed) for problem in problems
        )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    def check(self) -> None:
        """Raises `InvalidSpec` for an API that would be open to others without being told to be."""
        if self.keys is None and not self.open and not self.loopback:
            raise InvalidSpec(
                [
                    Problem(
                        "K2_API_KEYS",
                        ABSENT,
                        f"without keys nobody but this machine is served, and {self.host} can be reached by others; "
                        "make a key with `k2 keys new` and name its file, or set K2_API_OPEN=true (--open)",
                    )
                ]
            )
