# SPDX-License-Identifier: Apache-2.0
"""README, "An operator's first hour", followed literally, so that it can't rot."""

import pathlib
import re
import subprocess

import journal
import service
from kms.client import request

README = pathlib.Path("/test/README.md")


def steps():
    """(language, text) of each block that says `first-hour`, in order."""
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"^( *)```(\w+) first-hour\n(.*?)^ *```", text, re.M | re.S)
    return [(language, "\n".join(line[len(indent):] for line in body.splitlines()))
            for indent, language, body in blocks]


def test_the_first_hour(unit, enclaves, aws):
    found = steps()
    assert [language for language, _ in found].count("yaml") == 1
    assert len(found) >= 5
    for language, text in found:
        if language == "yaml":
            # The one thing that is not as on AWS: where KMS is, and whose certificate it has.
            endpoint = aws.endpoint()
            text = text.replace("    region: eu-central-1",
                                "    region: eu-central-1\n"
                                f"    connect_to: {endpoint['connect_to']}\n    ca_file: {endpoint['ca_file']}")
            unit.write(text + "\n")
            continue
        done = subprocess.run(["bash", "-e", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        print(f"$ {text}\n{done.stdout}")
        assert done.returncode == 0, done.stdout
    assert unit.is_active()
    place = journal.cursor()
    with enclaves(16).client(service.PORT) as client:
        answer = client.ask(request("Decrypt", {"KeyId": "alias/payments", "CiphertextBlob": b"x"}))
        assert answer.status == 400     # an alias isn't the key that the README's rule names
    assert journal.wait_for(after=place, ENCLAVE="payments", VERDICT="refuse")
