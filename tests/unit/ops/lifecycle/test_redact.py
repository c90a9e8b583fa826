import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.ops.lifecycle.redact import HIDDEN, redact, secrets_of

WORDS = st.text("abcdefghijklmnop0123456789", min_size=8, max_size=40)


@given(secret=WORDS, before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_value_of_the_environment_is_nowhere(secret, before, after):
    environment = {"RAY_AUTH_TOKEN": secret, "HOME": "/home/somebody"}
    assert secrets_of(environment) == {secret}
    assert secret not in redact(f"{before} {secret} {after}", secrets_of(environment))


@pytest.mark.parametrize(
    "text",
    [
        'aws_secret_access_key = "hunter2hunter2"',
        "HF_TOKEN=hunter2hunter2",
        '{"api_key": "hunter2hunter2"}',
        "password: hunter2hunter2",
        "Authorization: Bearer hunter2hunter2",
        "path: s3://user:hunter2hunter2@host/bucket",
        "path: s3://bucket/x?secret_key=hunter2hunter2&scheme=http",
        "path: s3://user:hunter2/hunter2+x@bucket/prefix",
        "dualpath ui --token hunter2hunter2",
        "Authorization: Basic hunter2hunter2",
        "authToken: hunter2hunter2",
        "api-key: 'hunter2 and hunter2'",
        "token=b'hunter2hunter2'",
        "login with hf_hunter2hunter2hunter2",
    ],
)
def test_what_is_called_a_secret_goes(text):
    assert "hunter2" not in redact(text) and HIDDEN in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "max_context_tokens: 123456789",
        "hit_tokens=123456789",
        "node.snic_bps: 100000000",
        "s3://bucket/prefix",
        "last_token=1234567",
    ],
)
def test_what_is_none_stays(text):
    assert redact(text) == text
    assert secrets_of({"TOKENIZERS_PARALLELISM": "falsefalse", "RAY_AUTH_TOKEN_PATH": "/home/x"}) == set()
