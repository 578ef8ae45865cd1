#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Compares our signer with botocore's on random requests.

    sigv4_requests.py PROGRAM [--seed N] [--count N]

PROGRAM is sigv4-sign. One signer signs them all, in runs that share credentials, date and region,
so that the keys and hashes it keeps are used, taken anew and forgotten.
"""
import argparse
import collections
import datetime
import random
import string
import struct
import subprocess
import sys
from unittest import mock

import botocore.auth
import botocore.awsrequest
import botocore.credentials

Request = collections.namedtuple("Request", [
    "access_key_id", "secret_access_key", "session_token", "region", "service", "host",
    "content_type", "target", "body", "seconds"])

BASE64 = string.ascii_letters + string.digits + "+/="
NAME = string.ascii_lowercase + string.digits
REGIONS = ["us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1"]
CONTENT_TYPES = ["application/x-amz-json-1.1", "application/x-www-form-urlencoded; charset=utf-8",
                 "a/b"]


def text(rng, alphabet, low, high):
    return "".join(rng.choices(alphabet, k=rng.randint(low, high)))


def random_credentials(rng):
    return {"access_key_id": text(rng, string.ascii_uppercase + string.digits, 16, 128),
            "secret_access_key": text(rng, BASE64, 1, 64) if rng.random() < .9 else
                                 text(rng, string.digits + string.punctuation, 1, 256),
            "session_token": text(rng, BASE64, 1, 1400) if rng.random() < .8 else ""}


def random_host(rng):
    host = ".".join(text(rng, NAME, 1, 1) + text(rng, NAME + "-", 0, 20) + text(rng, NAME, 1, 1)
                    for _ in range(rng.randint(1, 5)))
    return host if rng.random() < .8 else f"{host}:{rng.choice([80, 444, 8443, 65535])}"


def random_place(rng):
    return {"region": rng.choice(REGIONS) if rng.random() < .7 else text(rng, NAME + "-", 1, 64),
            "service": rng.choice(["kms", "kms", "sts", text(rng, NAME + "-", 1, 32)])}


def random_body(rng):
    size = rng.choice([0, 1, 2, 55, 56, 63, 64, 65, rng.randint(0, 500), rng.randint(0, 6000)])
    return rng.randbytes(size)


def random_seconds(rng):
    if rng.random() < .2:                       # about midnight, where the date changes
        return rng.randint(1, 40000) * 86400 + rng.randint(-2, 2)
    return rng.randint(0, 2**32 - 1)


def random_requests(rng, count):
    """What a run shares is changed a part at a time."""
    shared, hosts = {}, []
    for _ in range(count):
        if not shared or rng.random() < .1:
            shared.update(random_credentials(rng))
        if "region" not in shared or rng.random() < .4:
            shared.update(random_place(rng))
        if "seconds" not in shared or rng.random() < .2:
            shared["seconds"] = random_seconds(rng)
        if not hosts or rng.random() < .1:
            hosts = [random_host(rng) for _ in range(rng.randint(1, 6))]
        yield Request(host=rng.choice(hosts), content_type=rng.choice(CONTENT_TYPES[:rng.randint(1, 3)]),
                      target=f"TrentService.{text(rng, string.ascii_letters, 1, 64)}"
                             if rng.random() < .9 else "",
                      body=random_body(rng), **shared)


def pack(request):
    fields = [f if isinstance(f, bytes) else str(f).encode() for f in request]
    return b"".join(struct.pack("=I", len(f)) + f for f in fields)


def sign_with_botocore(request):
    """(X-Amz-Date, Authorization)"""
    headers = {"Content-Type": request.content_type, "User-Agent": "x/1"}
    if request.target:
        headers["X-Amz-Target"] = request.target
    aws = botocore.awsrequest.AWSRequest("POST", f"https://{request.host}/", headers, request.body)
    credentials = botocore.credentials.Credentials(
        request.access_key_id, request.secret_access_key, request.session_token or None)
    signer = botocore.auth.SigV4Auth(credentials, request.service, request.region)
    now = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=request.seconds)
    with mock.patch("botocore.auth.datetime") as clock:
        clock.datetime.utcnow.return_value = now
        signer.add_auth(aws)
    return aws.headers["X-Amz-Date"], aws.headers["Authorization"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--count", type=int, default=3000)
    options = parser.parse_args()
    requests = list(random_requests(random.Random(options.seed), options.count))

    ran = subprocess.run([options.program], input=b"".join(map(pack, requests)),
                         stdout=subprocess.PIPE, check=True)
    lines = ran.stdout.decode().splitlines()
    if len(lines) != 2 * len(requests):
        sys.exit(f"{len(lines)} lines for {len(requests)} requests")
    for i, request in enumerate(requests):
        ours, theirs = (lines[2 * i], lines[2 * i + 1]), sign_with_botocore(request)
        if ours != theirs:
            sys.exit(f"request {i} of seed {options.seed}: {request}\nours     {ours}\n"
                     f"botocore {theirs}")
    begun_alike = len(requests) - len({(r[:3], r.seconds, r.host, r.content_type) for r in requests})
    if begun_alike < len(requests) / 5:
        sys.exit(f"only {begun_alike} requests begin as another does")
    print(f"{len(requests)} requests signed alike, {begun_alike} of them begin as another does, "
          f"{len({r[:3] for r in requests})} credentials, "
          f"{len({r.region for r in requests})} regions")


if __name__ == "__main__":
    main()
