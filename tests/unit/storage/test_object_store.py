"""What is particular to an object store: whose it is."""

import secrets

import pytest

from dualpath_ray.storage.load import open_store
from tests.unit.storage.conftest import S3_KEYS

OPTIONS = "scheme=http&region=any&allow_bucket_creation=true"


@pytest.fixture
def bucket(s3_endpoint, monkeypatch):
    for name, value in S3_KEYS.items():
        monkeypatch.setenv(name, value)
    return f"s3://blocks/{secrets.token_hex(6)}?{OPTIONS}"


def test_two_buckets_of_one_name_on_two_services_are_two_stores(bucket, s3_endpoint, layout):
    """The second address is the same server, as a copy of the bucket would look: what the owner left is there."""
    here, there = (
        open_store("s3", f"{bucket}&endpoint_override={at}", layout)
        for at in (s3_endpoint, s3_endpoint.replace("127.0.0.1", "localhost"))
    )
    list(here.scan())
    assert "" != here.identity() != there.identity() != ""


def test_a_service_that_the_environment_names_counts_as_the_address_does(bucket, s3_endpoint, layout, monkeypatch):
    named = open_store("s3", f"{bucket}&endpoint_override={s3_endpoint}", layout)
    list(named.scan())
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_endpoint}/")
    assert open_store("s3", bucket, layout).identity() == named.identity()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_endpoint.replace('127.0.0.1', 'localhost')}")
    assert open_store("s3", bucket, layout).identity() != named.identity()
