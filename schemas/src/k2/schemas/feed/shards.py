"""The part of a feed that says over how many shards its symbols are spread."""

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WrapValidator, model_validator
from pydantic.alias_generators import to_camel

from k2.schemas.sharding import MAX_SHARDS

AUTO: Final = "auto"
SHARDS_ALLOWED: Final = f"must be auto or a whole number from 1 to {MAX_SHARDS}, without quotes"
BOUNDS_IN_ORDER: Final = "autoscale.min must be at most autoscale.max"


class Part(BaseModel):
    """A part of a feed: frozen, without unknown fields, in camel case."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


def _or_auto(value: Any, handler: Any) -> Any:
    if isinstance(value, str) and value != AUTO:
        raise ValueError(SHARDS_ALLOWED)
    return value if value == AUTO else handler(value)


if TYPE_CHECKING:
    Shards = int | Literal["auto"]
else:  # one type for the CRD, with the bounds of the number
    Shards = Annotated[
        int,
        Field(strict=True, ge=1, le=MAX_SHARDS),
        WrapValidator(_or_auto),
        PlainSerializer(lambda value: value, return_type=Any),
    ]


class Autoscale(Part):
    """Of `shards: auto`."""

    mode: Literal["apply", "recommend"] = Field("apply", description="recommend: the status says what apply would do.")
    min: Annotated[int, Field(strict=True)] = Field(1, ge=1, le=MAX_SHARDS, description="Never fewer shards.")
    max: Annotated[int, Field(strict=True)] = Field(8, ge=1, le=MAX_SHARDS, description="Never more shards.")

    @model_validator(mode="after")
    def _in_order(self) -> "Autoscale":
        if self.min > self.max:
            raise ValueError(BOUNDS_IN_ORDER)
        return self
