"""What a model call costs, in whole micro-dollars.

One dollar per million tokens is one micro-dollar per token. Prices have decimals, so the sums are done in integers of
10^-12 dollars and rounded once, at the end; a float never holds money.
"""

import re
import tomllib
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Struct

from schemas.usage import Usage

PICOS_PER_MICRO = 1_000_000
DATED = re.compile(r"(?P<model>.+?)(?:[-@]\d{8}|-latest)")
MAX_UNKNOWN_NAMES = 1_000
"""Names that were warned about; a bound, because a name comes from users."""

_log = structlog.get_logger(__name__)


class PriceFileError(Exception):
    """The price file cannot be used; the message says why, and what is expected."""


class Rates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal

    def __post_init__(self) -> None:
        for rate in (self.input, self.output, self.cache_read, self.cache_write):
            if not rate.is_finite() or rate < 0 or _picos(rate) != rate * PICOS_PER_MICRO:
                raise ValueError(f"expected a price of 0 or more dollars with at most 6 decimals, got {rate}")

    def cost_picos(self, usage: Usage) -> int:
        return (
            usage.input_tokens * _picos(self.input)
            + usage.output_tokens * _picos(self.output)
            + usage.cache_read_tokens * _picos(self.cache_read)
            + usage.cache_write_tokens * _picos(self.cache_write)
        )


class LongPromptRates(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rates of requests whose prompt has more than `above_tokens`."""

    above_tokens: Annotated[int, msgspec.Meta(ge=0)]


class ModelRates(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    long_prompt: LongPromptRates | None = None


class Prices:
    """Prices by model."""

    def __init__(self, rates: dict[str, ModelRates]) -> None:
        self._rates = rates
        self._unknown: set[str] = set()

    def cost_micros(self, model: str, usage: Usage) -> int:
        """Cost of one request, in micro-dollars, to the nearest; 0, with one warning, for a model without a price."""
        rates = self._rates_of(model)
        if rates is None:
            return 0
        long = rates.long_prompt
        prompt_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        picos = (long if long and prompt_tokens > long.above_tokens else rates).cost_picos(usage)
        return (picos + PICOS_PER_MICRO // 2) // PICOS_PER_MICRO

    def _rates_of(self, model: str) -> ModelRates | None:
        rates = self._rates.get(model)
        if rates is None and (dated := DATED.fullmatch(model)):
            rates = self._rates.get(dated["model"])
        if rates is None and model not in self._unknown and len(self._unknown) < MAX_UNKNOWN_NAMES:
            self._unknown.add(model)
            _log.warning("model has no price, its cost counts as 0", model=model, fix="add it to your price file")
        return rates


def load_prices(override: Path | None = None) -> Prices:
    """The prices that Headrace ships, with those of the user's file over them, model by model.

    Raises:
        PriceFileError: `override` cannot be read, or is no price file.
    """
    rates = _parse(resources.files("agents.models").joinpath("prices.toml").read_text(encoding="utf-8"), "prices.toml")
    if override is not None:
        try:
            text = override.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PriceFileError(f"the price file {override} cannot be read: {error}") from error
        rates |= _parse(text, str(override))
    return Prices(rates)


def _parse(text: str, source: str) -> dict[str, ModelRates]:
    try:
        tables: dict[str, Any] = tomllib.loads(text, parse_float=Decimal)
        return msgspec.convert(tables, dict[str, ModelRates])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PriceFileError(
            f"{source}: {error}. Expected one table per model, such as [claude-sonnet-5-5], with input, output, "
            "cache_read and cache_write in dollars per million tokens"
        ) from error


def _picos(rate: Decimal) -> int:
    return int(rate * PICOS_PER_MICRO)
