"""Who may use the page."""

import pytest

from dualpath_ray.ui.access import CHANGE_HEADER, Access, bearer, needs_token


@pytest.mark.parametrize(
    ("host", "needed"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("127.9.9.9", False)]
    + [("0.0.0.0", True), ("::", True), ("10.0.0.1", True), ("example.org", True), ("", True)],
)
def test_a_page_that_others_reach_needs_a_token(host, needed):
    assert needs_token(host) is needed


@pytest.mark.parametrize("told", [None, "", "secre", "secret2", "SECRET", "sécret"])
def test_a_wrong_token_is_not_known(told):
    assert not Access("0.0.0.0", "secret").knows(told)
    assert Access("0.0.0.0", "secret").knows("secret")


@pytest.mark.parametrize(
    ("header", "accepted"),
    [("127.0.0.1:8266", True), ("localhost:9000", True), ("[::1]:8266", True), ("localhost", True)]
    + [("stranger.example:8266", False), ("127.0.0.1.stranger.example", False), ("", False), (None, False)],
)
def test_a_strangers_name_for_this_machine_is_refused(header, accepted):
    assert Access("127.0.0.1").accepts_host(header) is accepted


def test_with_a_token_any_name_will_do():
    assert Access("0.0.0.0", "secret").accepts_host("head.cluster:8266")


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        ({}, False),
        ({"Origin": "http://localhost:8266", "Host": "localhost:8266"}, False),
        ({CHANGE_HEADER: "1"}, True),
        ({CHANGE_HEADER: "1", "Origin": "http://localhost:8266", "Host": "localhost:8266"}, True),
        ({CHANGE_HEADER: "1", "Origin": "http://localhost:1234", "Host": "localhost:8266"}, False),
        ({CHANGE_HEADER: "1", "Origin": "null", "Host": "localhost:8266"}, False),
    ],
)
def test_only_our_own_page_or_a_program_may_change_anything(headers, may):
    assert Access("127.0.0.1").may_change(headers) is may


def test_the_token_of_a_program():
    assert bearer("Bearer abc ") == "abc" and bearer("Basic abc") is None and bearer(None) is None
