"""Credentials and permissions, against a server of S3 that checks them: each fault is one line."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import recsys_mf as mf
from recsys_mf.errors import ArtifactError, DataError, RemoteError
from recsys_mf.storage import Address
from recsys_mf.storage.writing import check_writable
from tests.servers import BUCKET, Bucket
from tests.trained import small_run

READ_ONLY = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}


@pytest.fixture
def reader(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket with a table and a run, on a server that checks who asks; the environment has who may only read."""
    import boto3

    s3.put("t.csv", b"user_id,item_id,rating\n1,10,4\n")
    mf.save(small_run(), "s3://bucket/run")
    who = {"endpoint_url": s3.url, "region_name": "us-east-1"}
    iam = boto3.client("iam", **who)
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": READ_ONLY})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    _check(s3.url, after=0)
    yield key
    _check(s3.url, after=10**9)
    iam.delete_user_policy(UserName="reader", PolicyName="read")
    iam.delete_access_key(UserName="reader", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="reader")
    iam.close()


def _check(url: str, *, after: int) -> None:
    """Let the server check permissions after so many requests."""
    plain = {"Content-Type": "text/plain"}
    request = urllib.request.Request(f"{url}/moto-api/reset-auth", str(after).encode(), plain, method="POST")
    urllib.request.urlopen(request).close()


def test_who_may_only_read_reads_and_is_told_before_the_work_that_nothing_can_be_written(reader: Any) -> None:
    assert len(mf.read_ratings("s3://bucket/t.csv")) == 1
    run = mf.load("s3://bucket/run")
    with pytest.raises(ArtifactError, match=r"^s3://bucket/new: no permission, or .*; ask for permission \(\w+\)"):
        mf.save(run, "s3://bucket/new")


def test_without_credentials_the_line_says_where_they_come_from(reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    with pytest.raises(DataError, match=rf"^s3://bucket/t.csv: no credentials were found .*; {fix}"):
        mf.read_ratings("s3://bucket/t.csv")


def test_wrong_credentials_are_one_line(reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAXXXXXXXXXXXXXXXX")
    with pytest.raises(DataError, match=r"^s3://bucket/t.csv: no permission, or wrong credentials \(saw"):
        mf.read_ratings("s3://bucket/t.csv")
    with pytest.raises(RemoteError, match="the credentials are not accepted"):
        check_writable(Address("s3://bucket/new"))


def test_credentials_and_endpoint_come_from_the_profile(
    reader: Any, s3: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    keys = f"aws_access_key_id = {reader['AccessKeyId']}\naws_secret_access_key = {reader['SecretAccessKey']}\n"
    credentials.write_text(f"[work]\n{keys}")
    config.write_text(f"[profile work]\nregion = us-east-1\nendpoint_url = {s3.url}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert len(mf.read_ratings("s3://bucket/t.csv")) == 1


def test_a_public_file_is_read_without_credentials(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("t.csv", b"user_id,item_id,rating\n1,10,4\n")
    s3.client.put_object_acl(Bucket=BUCKET, Key="t.csv", ACL="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert len(mf.read_ratings("s3://bucket/t.csv")) == 1
