# SPDX-License-Identifier: Apache-2.0
"""More calls at once than an enclave has places in flight: clients with their default retries, over a
bridge from TCP, and a KMS that takes 50 ms. The rate is no limit here."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess

import boto3
import botocore.exceptions
import pytest

from daemon import DEADLINE
from daemon.help import KEY, limits
from standins import Bridge

CALLS = 400
HERE = pathlib.Path(__file__).parent
GO_PATH = pathlib.Path("/usr/share/gocode")     # where Debian's libraries for Go are


@pytest.fixture(params=[1, 2], ids=["1-worker", "2-workers"])
def crowded(request, daemon):
    daemon.config["workers"] = request.param
    limits(daemon, requests="100000/s", burst=100000, in_flight=64)
    with daemon:
        yield daemon


@pytest.fixture
def bridge(daemon):
    with Bridge(daemon.socket_path()) as found:
        yield found


def run(command, **environment):
    found = subprocess.run(command, capture_output=True, text=True, timeout=6 * DEADLINE,
                           env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment})
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout


def slowness(records):
    """How long KMS took for one, in the middle, in seconds."""
    times = sorted(int(r["UPSTREAM_USEC"]) for r in records)
    return times[len(times) // 2] / 1e6


def assert_all_are_answered(daemon, kms, ask):
    """ask() makes the calls and returns what went wrong. The daemon refuses none of them, so that nobody
    has to try again: neither with a KMS that takes 50 ms, nor with one for which surely some wait."""
    for seconds in (0.05, 0.25):
        kms.clear()
        kms.fault("delay", seconds=seconds, count=None)
        for attempt in range(3):
            before = len(daemon.records(REASON="allowed"))
            failed = ask()
            if not failed:
                break
            # On a machine that is too busy it isn't such a KMS.
            slow = slowness(daemon.records(REASON="allowed")[before:])
            assert attempt < 2 and slow > 2 * seconds, f"KMS took {slow} s; {failed[:3]}"
        answered = daemon.record(REASON="allowed", count=before + CALLS)
        assert answered and not failed
    waited = [r for r in daemon.records(REASON="allowed") if "WAIT_USEC" in r]
    assert waited
    assert all(int(r["DURATION_USEC"]) >= int(r["WAIT_USEC"]) for r in waited)
    assert all(int(r["WAIT_USEC"]) <= 2.5e6 for r in waited)


@pytest.fixture(scope="module")
def go_calls(tmp_path_factory):
    """The program, built without a network: with Debian's libraries."""
    if not shutil.which("go") or not (GO_PATH / "src/github.com/aws/aws-sdk-go-v2/service/kms").is_dir():
        pytest.skip("golang-go or golang-github-aws-aws-sdk-go-v2-dev is not installed")
    program = tmp_path_factory.mktemp("go") / "calls"
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    subprocess.run(["go", "build", "-o", program, HERE / "aws_sdk_calls.go"], check=True, timeout=900,
                   env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GO111MODULE": "off", "GOFLAGS": "",
                        "GOPATH": str(GO_PATH), "GOCACHE": str(cache / "kms-vsock-proxy-tests" / "go")})
    return program


def test_go(crowded, kms, bridge, go_calls):
    def ask():
        return run([go_calls, bridge.url, KEY, str(CALLS)], AWS_EC2_METADATA_DISABLED="true").splitlines()
    assert_all_are_answered(crowded, kms, ask)


# undici's fetch never tries again.
FETCH = """
const [url, key, number] = process.argv.slice(1);
const one = async () => {
	try {
		const answer = await fetch(url, {method: "POST", body: JSON.stringify({KeyId: key}), headers: {
			"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.DescribeKey"}});
		return JSON.parse(await answer.text()).KeyMetadata ? "" : `status ${answer.status}\\n`;
	} catch (error) {
		return `${error.cause ?? error}\\n`;
	}
};
const failed = await Promise.all(Array.from({length: Number(number)}, one));
process.stdout.write(failed.join(""));
"""


def test_fetch_of_node(crowded, kms, bridge):
    if not shutil.which("node"):
        pytest.skip("node is not installed")

    def ask():
        return run(["node", "--no-warnings", "--input-type=module", "-e", FETCH, bridge.url, KEY,
                    str(CALLS)]).splitlines()
    assert_all_are_answered(crowded, kms, ask)


def test_boto3(crowded, kms, bridge):
    client = boto3.client("kms", region_name="eu-central-1", endpoint_url=bridge.url,
                          aws_access_key_id="dummy", aws_secret_access_key="dummy")

    def one(_):
        try:
            found = client.describe_key(KeyId=KEY)
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            return error
        return found["ResponseMetadata"]["RetryAttempts"] or None

    def ask():
        with concurrent.futures.ThreadPoolExecutor(CALLS) as pool:
            return [what for what in pool.map(one, range(CALLS)) if what]
    assert_all_are_answered(crowded, kms, ask)
