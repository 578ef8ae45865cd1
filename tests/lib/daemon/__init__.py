# SPDX-License-Identifier: Apache-2.0
"""The real daemon as the tests run it; the other modules here are what tests of it share."""

from daemon.process import DEADLINE, ROOT, Daemon, parse_line, program, wait_for

__all__ = ["DEADLINE", "ROOT", "Daemon", "parse_line", "program", "wait_for"]
