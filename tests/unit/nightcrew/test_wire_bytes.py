"""What exactly goes into the usage log, how addresses are spelled, ids and errors."""

from __future__ import annotations

import copy
import json
import re
import zlib

import pytest

from nightcrew import Nightcrew
from nightcrew._redis import kombu_url, mask_url
from nightcrew._usage_log import encode_groups, partition_of, split
from nightcrew._uuid7 import uuid7
from nightcrew.errors import EnqueueError, InvalidUrlError


def test_an_entry_has_these_bytes() -> None:
    """Compact JSON in UTF-8: hour, context, outcome, amounts by key."""
    groups = [((500_000, "fr", "a"), {"ü": 2, 'quo"te': 1}), ((500_001, "", "n"), {"k": 9_007_199_254_740_991})]
    expected = '[[500000,"fr","a",{"ü":2,"quo\\"te":1}],[500001,"","n",{"k":9007199254740991}]]'
    assert encode_groups(groups) == expected.encode()  # type: ignore[arg-type]


def test_partitions_are_those_of_the_keys() -> None:
    """Each entry goes to the partition of its key, and none is lost."""
    counts = {f"k{n}": n + 1 for n in range(100)}
    dealt = split([((500_000, "", "n"), counts)], 4)
    assert [partition for partition, _ in dealt] == [0, 1, 2, 3]
    merged: dict[str, int] = {}
    for partition, groups in dealt:
        for _, part in groups:
            assert all(zlib.crc32(key.encode()) % 4 == partition == partition_of(key, 4) for key in part)
            merged |= part
    assert merged == counts


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("rediss://u:p@h:1/2", "rediss://u:p@h:1/2?ssl_check_hostname=true&ssl_cert_reqs=required"),
        ("rediss://h?ssl_cert_reqs=none", "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=false"),
        ("rediss://h?db=3", "rediss://h/3?ssl_check_hostname=true&ssl_cert_reqs=required"),
        ("redis://h?db=3", "redis://h/3"),
        ("unix:///run/r.sock", "redis+socket:///run/r.sock?virtual_host=0"),
        ("unix:///run/r.sock?db=4", "redis+socket:///run/r.sock?virtual_host=4"),
        ("unix://u:p%40@/run/r.sock?db=4", "redis+socket://u:p%40@/run/r.sock?virtual_host=4"),
        ("unix:///run/r.sock?db=4&password=p%40", "redis+socket://:p%40@/run/r.sock?virtual_host=4"),
        ("redis+socket:///run/r.sock?virtual_host=5", "redis+socket:///run/r.sock?virtual_host=5"),
    ],
)
def test_addresses_are_spelled_for_kombu(url: str, expected: str) -> None:
    """Both libraries reach the same database of the same server."""
    assert kombu_url(url) == expected


@pytest.mark.parametrize("url", ["", "h:6379", "amqp://h", "unix://", "http://u:canary@h"])
def test_other_addresses_are_refused_where_they_are_written(url: str) -> None:
    """The text names the accepted forms and no password."""
    with pytest.raises(InvalidUrlError, match="unix:///path") as caught:
        Nightcrew(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:canary@h:no-port/0", "redis://:canary/1@h", "redis://[canary@h/0"])
def test_addresses_that_are_none_are_refused_where_they_are_written(url: str) -> None:
    """And not in the thread that flushes, which would end of it."""
    with pytest.raises(InvalidUrlError, match="not understood") as caught:
        Nightcrew(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://:canary@h?ssl_ca_certs=/x", "no TLS: write rediss://"),
        ("unix:///r.sock?ssl_cert_reqs=none", "no TLS: write rediss://"),
        ("rediss://:canary@h?ssl_ca_certs=/nowhere.pem", "/nowhere.pem, which cannot be read"),
        ("rediss://:canary@h?ssl_ca_certs=", "cannot be read"),
        ("rediss://:canary@h?ssl_cert_reqs=maybe", "write required or optional or none"),
        ("rediss://:canary@h?ssl_check_hostname=0", "write true or false"),
        ("rediss://:canary@h?ssl_cacerts=/x", "none of ssl_ca_certs"),
    ],
)
def test_options_of_tls_are_checked(url: str, reason: str) -> None:
    """What would be passed over, or would turn a check off by mistake, is an error where it is written."""
    with pytest.raises(InvalidUrlError, match=re.escape(reason)) as caught:
        Nightcrew(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:canary@h:1/0",
        "redis://:canary@h",
        "redis://canary@h",
        "redis://:can/ary@canary@h",
        "unix:///r.sock?db=1&password=canary",
        "redis+socket://:canary@/r.sock",
    ],
)
def test_passwords_are_masked(url: str) -> None:
    """In logs, errors and repr."""
    assert "canary" not in mask_url(url)
    assert "***" in mask_url(url)


def test_ids_are_of_version_7_and_grow() -> None:
    """Even many within one millisecond."""
    ids = [uuid7() for _ in range(2_000)]
    assert ids == sorted(set(ids))
    assert {(made.version, made.variant) for made in ids} == {(7, "specified in RFC 4122")}


def test_errors_survive_pickling() -> None:
    """With what they carry."""
    error = copy.copy(EnqueueError("x", job_id="1", accepted="unknown", job_ids=("1", "2")))
    assert (str(error), error.job_id, error.accepted, error.job_ids) == ("x", "1", "unknown", ("1", "2"))
    json.dumps(error.job_ids)
