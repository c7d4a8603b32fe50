"""What calls cost."""

from decimal import Decimal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agents.models.prices import ModelRates, PriceFileError, Prices, load_prices
from schemas.usage import Usage

USAGE = Usage(input_tokens=1_000, cache_read_tokens=10_000, cache_write_tokens=2_000, output_tokens=500)


def test_a_call_with_all_four_kinds_of_tokens() -> None:
    """1,000 input at 4, 10,000 read at 0.20, 2,000 written at 5, 500 output at 20 dollars per million."""
    assert load_prices().cost_micros("claude-opus-5-5", USAGE) == 4_000 + 2_000 + 10_000 + 10_000


@pytest.mark.parametrize("model", ["claude-haiku-4-5-20251001", "claude-haiku-4-5@20251001", "claude-haiku-4-5-latest"])
def test_dated_names_have_the_price_of_their_model(model: str) -> None:
    """A dated name is the same model."""
    usage = Usage(input_tokens=7, output_tokens=3)
    assert load_prices().cost_micros(model, usage) == 7 + 15


def test_a_name_that_only_begins_alike_has_no_price() -> None:
    """`claude-opus-5-6` is not a dated `claude-opus-5`; its cost is 0, and one warning says so."""
    prices = load_prices()
    with capture_logs() as logs:
        assert [prices.cost_micros("claude-opus-5-6", USAGE) for _ in range(3)] == [0, 0, 0]
    assert [(log["log_level"], log["model"]) for log in logs] == [("warning", "claude-opus-5-6")]


def test_fractions_of_a_micro_dollar_are_rounded_once() -> None:
    """Haiku's cache reads cost a hundredth of a micro-dollar each: 149 of them 1, 150 of them 2."""
    prices = load_prices()
    costs = [prices.cost_micros("claude-haiku-5-5", Usage(cache_read_tokens=count)) for count in (49, 50, 149, 150)]
    assert costs == [0, 1, 1, 2]


def test_a_long_prompt_has_its_own_rates() -> None:
    """Above 100,000 tokens of prompt, cache reads included, all of Haiku's tokens cost five times as much."""
    prices = load_prices()
    short = Usage(input_tokens=20_000, cache_read_tokens=80_000, output_tokens=1_000)
    long = Usage(input_tokens=20_001, cache_read_tokens=80_000, output_tokens=1_000)
    assert prices.cost_micros("claude-haiku-5-5", short) == 2_000 + 800 + 500
    assert prices.cost_micros("claude-haiku-5-5", long) == 10_001 + 4_000 + 2_500  # 10,000.5 is rounded up


def test_a_user_file_overrides_and_adds(tmp_path: Path) -> None:
    """The user's prices win, model by model; the shipped ones stay for the others."""
    file = tmp_path / "prices.toml"
    file.write_text("[claude-opus-5-5]\ninput=1\noutput=2\ncache_read=0\ncache_write=0\n[mine]\ninput=0.5\noutput=1\n")
    with pytest.raises(PriceFileError, match="cache_read"):
        load_prices(file)
    file.write_text(file.read_text() + "cache_read=0\ncache_write=0\n")
    prices = load_prices(file)
    usage = Usage(input_tokens=10, output_tokens=10)
    assert [prices.cost_micros(model, usage) for model in ("claude-opus-5-5", "mine", "claude-sonnet-5-5")] == [
        30,
        15,
        120,
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[m", "Expected"),
        ("[m]\ninput=-1\noutput=1\ncache_read=0\ncache_write=0", "0 or more"),
        ("[m]\ninput=nan\noutput=1\ncache_read=0\ncache_write=0", "0 or more"),
        ("[m]\ninput=0.0000001\noutput=1\ncache_read=0\ncache_write=0", "6 decimals"),
        ("[m]\ninptu=1\noutput=1\ncache_read=0\ncache_write=0", "inptu|input"),
        ("m = 3", "Expected"),
    ],
)
def test_a_wrong_price_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """The message names the file and what is expected of it."""
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(PriceFileError, match=said) as caught:
        load_prices(file)
    assert str(file) in str(caught.value)


def test_a_missing_price_file_is_refused(tmp_path: Path) -> None:
    """A path that leads nowhere is an error, not silently the shipped prices."""
    with pytest.raises(PriceFileError, match="nowhere"):
        load_prices(tmp_path / "nowhere.toml")


def test_no_model_is_priced_by_a_float() -> None:
    """0.1 + 0.2 dollars per million is exactly 0.3."""
    rates = ModelRates(input=Decimal("0.1"), output=Decimal("0.2"), cache_read=Decimal(0), cache_write=Decimal(0))
    usage = Usage(input_tokens=10**15, output_tokens=10**15)
    assert Prices({"m": rates}).cost_micros("m", usage) == 3 * 10**14
