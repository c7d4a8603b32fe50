"""Which faults are retried, and what their messages say."""

import pytest

from agents.models.faults import (
    MAX_DETAIL_CHARACTERS,
    HttpError,
    call_timeout,
    connection_failed,
    of_http_error,
    of_stream_error,
    scrubbed,
    stream_broken,
    unknown_block,
)
from schemas.failure import FailureCode


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, FailureCode.BAD_REQUEST, False),
        (401, FailureCode.AUTHENTICATION_FAILED, False),
        (402, FailureCode.SPEND_LIMIT_REACHED, False),
        (403, FailureCode.PERMISSION_DENIED, False),
        (404, FailureCode.MODEL_NOT_FOUND, False),
        (408, FailureCode.PROVIDER_ERROR, True),
        (409, FailureCode.PROVIDER_ERROR, True),
        (413, FailureCode.REQUEST_TOO_LARGE, False),
        (418, FailureCode.BAD_REQUEST, False),
        (422, FailureCode.BAD_REQUEST, False),
        (429, FailureCode.RATE_LIMITED, True),
        (500, FailureCode.PROVIDER_ERROR, True),
        (503, FailureCode.PROVIDER_ERROR, True),
        (529, FailureCode.OVERLOADED, True),
        (599, FailureCode.PROVIDER_ERROR, True),
    ],
)
def test_statuses(status: int, code: FailureCode, *, retryable: bool) -> None:
    """What can pass is retried; what the request or the account causes is not."""
    fault = of_http_error(HttpError(status=status, detail="Because.", retry_after_s=3))
    assert (fault.code, fault.retryable, fault.retry_after_s) == (code, retryable, 3)
    assert f"status {status}: Because. " in fault.message


@pytest.mark.parametrize(
    "error_code",
    ["enforced_spend_limit_reached", "contract_spend_limit_reached", "linked_organization_spend_limit_reached"],
)
def test_a_spend_limit_is_no_rate_limit(error_code: str) -> None:
    """It comes as a 429, and would be retried until the money is back."""
    fault = of_http_error(HttpError(status=429, detail="limit", error_code=error_code))
    assert (fault.code, fault.retryable) == (FailureCode.SPEND_LIMIT_REACHED, False)
    assert "spend limit" in fault.message


def test_x_should_retry_can_forbid_but_not_order() -> None:
    """The server may say that retrying is useless; a 400 stays final whatever it says."""
    assert not of_http_error(HttpError(status=429, detail="", should_retry=False)).retryable
    assert not of_http_error(HttpError(status=400, detail="", should_retry=True)).retryable


@pytest.mark.parametrize(
    ("error_type", "code", "retryable"),
    [
        ("overloaded_error", FailureCode.OVERLOADED, True),
        ("rate_limit_error", FailureCode.RATE_LIMITED, True),
        ("api_error", FailureCode.PROVIDER_ERROR, True),
        ("timeout_error", FailureCode.PROVIDER_ERROR, True),
        ("one_of_next_year", FailureCode.PROVIDER_ERROR, True),
        ("invalid_request_error", FailureCode.BAD_REQUEST, False),
        ("authentication_error", FailureCode.AUTHENTICATION_FAILED, False),
        ("permission_error", FailureCode.PERMISSION_DENIED, False),
        ("billing_error", FailureCode.SPEND_LIMIT_REACHED, False),
    ],
)
def test_errors_inside_a_stream(error_type: str, code: FailureCode, *, retryable: bool) -> None:
    """Their HTTP status is 200, so their type decides."""
    fault = of_stream_error(error_type, "Because")
    assert (fault.code, fault.retryable) == (code, retryable)


def test_network_faults_are_retried_and_unknown_blocks_are_not() -> None:
    """A new connection may work; the same request gives the same kind of block."""
    assert stream_broken("cut").retryable
    assert connection_failed("refused").retryable
    assert call_timeout(30, None).retryable
    fault = unknown_block("hologram")
    assert not fault.retryable
    assert "hologram" in fault.message


def test_a_timeout_names_what_happened_before() -> None:
    """A call that was retried until its time was over says why it was retried."""
    fault = call_timeout(30, of_http_error(HttpError(status=529, detail="Overloaded")))
    assert "30 s" in fault.message
    assert "Overloaded" in fault.message


def test_a_page_of_html_is_cut() -> None:
    """A proxy's error page does not fill the log."""
    message = of_http_error(HttpError(status=502, detail="<html>\n" + "x" * 10_000)).message
    assert len(message) < MAX_DETAIL_CHARACTERS + 200
    assert "\n" not in message


def test_secrets_are_scrubbed() -> None:
    """Neither the configured key nor any key of Anthropic's survives in a message."""
    text = "bad key my-secret and sk-ant-api03-AbC_d-9!"
    assert scrubbed(text, ("my-secret",)) == "bad key [secret] and [secret]!"
