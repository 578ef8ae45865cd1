# SPDX-License-Identifier: Apache-2.0
"""The operator's pages, followed literally, so that they can't rot: first the first hour, then what may be asked of a
machine that runs."""

import subprocess

import journal
import service
import snippets
from kms.client import request


def shell(text):
    done = subprocess.run(["bash", "-e", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    print(f"$ {text}\n{done.stdout}")
    assert done.returncode == 0, done.stdout


def test_the_first_hour(unit, enclaves, aws):
    found = snippets.of("first-hour", "sh", "yaml")
    assert len({snippet.page for snippet in found}) == 1
    assert [snippet.language for snippet in found].count("yaml") == 1
    assert len(found) >= 5
    for snippet in found:
        if snippet.language == "sh":
            shell(snippet.text)
            continue
        # The one thing that is not as on AWS: where KMS is, and whose certificate it has.
        endpoint = aws.endpoint()
        unit.write(snippet.text.replace(
            "    region: eu-central-1", "    region: eu-central-1\n"
            f"    connect_to: {endpoint['connect_to']}\n    ca_file: {endpoint['ca_file']}"))
    assert unit.is_active()
    place = journal.cursor()
    with enclaves(16).client(service.PORT) as client:
        answer = client.ask(request("Decrypt", {"KeyId": "alias/payments", "CiphertextBlob": b"x"}))
        assert answer.status == 400     # an alias isn't the key that the page's rule names
    assert journal.wait_for(after=place, ENCLAVE="payments", VERDICT="refuse")
    for snippet in snippets.of("machine", "sh"):
        shell(snippet.text)
