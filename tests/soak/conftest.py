# SPDX-License-Identifier: Apache-2.0
"""The suite `soak` of ./test: load, faults and abuse that go on for a while.

KMS_VSOCK_PROXY_SOAK_SECONDS says for how long the soak goes (60); the clients that vanish go on for a
third of that, half a minute at least.
"""

import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib"), str(TESTS / "bench")]
