# SPDX-License-Identifier: Apache-2.0
"""Faults of the world: the clock, the journal, the machine's descriptors, signals and a broken
configuration. In the frame of world_help.py; a daemon for each."""

import contextlib
import os
import resource
import select
import signal
import threading
import time

import pytest

from daemon import program, wait_for
from daemon.help import DESCRIBE, first_client, KEY, stopped, wait_taken
from daemon.journal_help import make_journal
from daemon.tunnel_help import SLOW
from world_help import World

HOUR = 3600
FAKETIME = "/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1".format(os.uname().machine)


@pytest.fixture
def world(tmp_path, tally):
    """Not yet started."""
    with contextlib.closing(World(tmp_path, tally)) as made:
        yield made


# The clock.

@pytest.mark.parametrize("offset", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_the_clock_of_an_endpoint(world, offset):
    """The other endpoint's is right, so nothing that was learned of one may reach the other."""
    world.kms.clock_offset = offset
    with world:
        for _ in range(3):
            with world.fault(reason="allowed", count=50, within=10), world.client() as client:
                for _ in range(50):
                    assert client.ask(DESCRIBE).status == 200
        refused = [r for r in world.kms.requests + world.own.requests if r.verdict != "ok"]
        assert len(refused) <= 3, refused       # who asked before anything was learned


def test_the_clock_of_an_endpoint_jumps(world):
    with world:
        for offset in (HOUR, -HOUR, 0, 4 * HOUR, 600):
            with world.fault(reason="allowed", count=10), world.client() as client:
                world.kms.clock_offset = offset
                for _ in range(10):
                    assert client.ask(DESCRIBE).status == 200


def test_a_date_that_is_a_lie(world):
    """Of one answer. What was learned of it is wrong, and the next answer says so: nobody sees an
    error."""
    with world:
        for how in ({"offset": HOUR}, {"offset": -HOUR}, {"text": "yesterday"}, {"offset": 1 << 31}):
            world.kms.fault("date", body_contains=KEY, **how)
            with world.fault(reason="allowed", count=10), world.client() as client:
                for _ in range(10):
                    assert client.ask(DESCRIBE).status == 200


@pytest.fixture
def set_clock(world):
    """Sets the daemon's wall clock off by so many seconds; the monotonic one goes on."""
    if not os.path.exists(FAKETIME):
        pytest.skip("needs libfaketime")
    if any(name in program().read_bytes() for name in (b"__asan_init", b"__tsan_init")):
        pytest.skip("libfaketime must be loaded first, and so must a sanitizer")
    path = world.daemon.folder / "offset"

    def set_offset(seconds):
        path.with_suffix(".new").write_text(f"{seconds:+d}\n")
        path.with_suffix(".new").replace(path)

    set_offset(0)
    world.daemon.wrapper = [
        "env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={path}", "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1"]
    return set_offset


@pytest.mark.parametrize("seconds", [HOUR, -HOUR, 7 * HOUR, -12 * HOUR])
def test_the_clock_is_set(world, set_clock, seconds):
    """No deadline moves with it, nothing is closed, and signatures are right at once; credentials
    that seem to have expired are used."""
    with world:
        with world.fault(reason="allowed", count=5), world.client() as client:
            client.send(DESCRIBE[:40])
            wait_taken(client)
            set_clock(seconds)
            client.send(DESCRIBE[40:])
            assert client.read().status == 200
            for _ in range(4):
                assert client.ask(DESCRIBE).status == 200
        if seconds != -HOUR:
            return      # once is enough to wait for a deadline
        with world.fault(reason="too-slow", at_least=4.9, within=10), world.client() as client:
            client.send(DESCRIBE[:40])
            wait_taken(client)
            set_clock(0)
            assert client.read().status == 408


# The journal, and text on stderr.

@pytest.fixture
def journal(world, tmp_path):
    made = make_journal(tmp_path / "journal")
    made.lead(world.daemon)
    yield made
    if made.sock:
        made.sock.close()


def start(world):
    """What it writes can't be read: it has started when it serves."""
    world.daemon.start(wait=False)
    first_client(world.daemon).close()
    wait_for(lambda: world.ask().status == 200)
    first_client(world.daemon, "witness").close()
    return world


def account(journal, count):
    """All records of payments are there, or counted as lost."""
    def whole():
        journal.read()
        lost = sum(int(e["LOST"]) for e in journal.entries if "LOST" in e)
        return len(journal.found(ENCLAVE="payments", REASON="allowed")) + lost >= count
    wait_for(whole, 30 * SLOW)


def many(world, count):
    with world.client() as client:
        for _ in range(count // 50):
            client.send(DESCRIBE * 50)
            assert all(client.read().status == 200 for _ in range(50))


def test_there_is_no_journal_and_then_there_is(world, journal):
    with start(world):
        with world.fault(within=20):
            many(world, 200)
        journal.open()
        account(journal, 200)


def test_nobody_reads_the_journal(world, journal):
    """What the queue can't hold is counted, and said when it is read again."""
    journal.open()
    with start(world):
        with world.fault(within=30):
            many(world, 1500)
        account(journal, 1500)
        journal.wait(said="could not be written")


def test_the_journal_is_started_anew(world, journal):
    journal.open()
    with start(world):
        for _ in range(3):
            with world.fault():
                journal.close()
                many(world, 50)
                journal.open()
                many(world, 50)
        account(journal, 300)


def test_the_disk_is_full(world):
    world.daemon.wrapper = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh"]
    with start(world), world.fault(within=20):
        many(world, 500)


def test_stderr_is_a_pipe_that_nobody_reads(world, tmp_path):
    os.mkfifo(tmp_path / "stderr")
    reader = os.open(tmp_path / "stderr", os.O_RDONLY | os.O_NONBLOCK)
    world.daemon.wrapper = ["sh", "-c", f'exec "$@" 2>{tmp_path / "stderr"}', "sh"]
    with start(world):
        with world.fault(within=30):
            many(world, 1500)
        with world.fault():
            os.close(reader)
            many(world, 50)


# Signals.

def test_stopped_for_a_while(world):
    """What came meanwhile is answered, also what seems late now."""
    with world, world.fault(reason="allowed", count=20, at_least=2, within=10, bound=2 + 3 * SLOW):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(world.client()) for _ in range(10)]
            for client in clients:
                client.send(DESCRIBE[:40])
                wait_taken(client)
            with stopped(world.daemon):
                clients += [stack.enter_context(world.client()) for _ in range(10)]
                for client in clients[:10]:
                    client.send(DESCRIBE[40:])
                for client in clients[10:]:
                    client.send(DESCRIBE)
                assert not select.select([c.sock for c in clients], [], [], 2)[0]
            assert [client.read().status for client in clients] == [200] * 20


def test_stopped_and_continued_all_the_time(world):
    with world, world.fault(reason="allowed", count=50, within=30), world.client() as client:
        for _ in range(50):
            world.daemon.process.send_signal(signal.SIGSTOP)
            client.send(DESCRIBE)
            world.daemon.process.send_signal(signal.SIGCONT)
            assert client.read().status == 200


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE])
def test_a_flood_of_signals(world, number):
    with world, world.fault(reason="allowed", count=200, within=30), world.client() as client:
        for _ in range(200):
            world.daemon.process.send_signal(number)
            assert client.ask(DESCRIBE).status == 200


# The configuration.

BROKEN = {
    "not-yaml": b"enclaves: {",
    "unknown-key": b"nonsense: 1\n",
    "empty": b"",
    "binary": bytes(range(256)) * 100,
    "huge": b"# " + b"x" * (32 << 20),
    "deep": b"[" * 100000,
    "anchors": b"a: &a [" + b"*a," * 1000 + b"]",
    "gone": None,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_reload_with_a_broken_configuration(world, name):
    """Nothing changes, and it is said why."""
    with world:
        with world.fault(reason="allowed", count=10, within=10), world.client() as client:
            assert client.ask(DESCRIBE).status == 200
            world.daemon.config_path.unlink()
            if BROKEN[name] is not None:
                world.daemon.config_path.write_bytes(BROKEN[name])
            world.daemon.process.send_signal(signal.SIGHUP)
            world.daemon.wait_log("(?i)error: .*configuration|error: .*(changed|kept|keeps)")
            for _ in range(10):
                assert client.ask(DESCRIBE).status == 200
        world.daemon.reload()


# The machine.

def test_no_descriptor_is_left(world):
    """Connections that are there go on, and new ones are taken when there is room again."""
    with world:
        soft, hard = resource.prlimit(world.daemon.pid, resource.RLIMIT_NOFILE)
        with world.fault(reason="allowed", within=20), contextlib.ExitStack() as stack:
            resource.prlimit(world.daemon.pid, resource.RLIMIT_NOFILE,
                             (world.daemon.descriptors() + 2, hard))
            clients = [stack.enter_context(world.client()) for _ in range(10)]
            for client in clients:
                client.send(DESCRIBE)
            world.daemon.wait_log("can't accept connections: Too many open files")
            resource.prlimit(world.daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
            for client in clients:
                assert client.read().status in (200, 503)
        assert len(os.listdir(f"/proc/{world.daemon.pid}/task")) < 10


def test_stopped_under_load_loses_nothing(world):
    """SIGTERM while three enclaves ask: each answer that had begun is whole, and each request that
    was recorded was answered."""
    answered, cut = [], []
    world.enclave("third")

    def run(enclave):
        count = 0
        with world.client(enclave) as client, contextlib.suppress(EOFError, OSError):
            while True:
                assert client.ask(DESCRIBE).status == 200
                count += 1
        cut.append(client._held)
        answered.append(count)

    world.daemon.start()
    before = len(world.daemon.records(REASON="allowed"))
    threads = [threading.Thread(target=run, args=(n,)) for n in ("payments", "third", "witness") * 3]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    world.kms.wait_for_requests(100)
    world.daemon.process.terminate()
    for thread in threads:
        thread.join()
    assert world.daemon.process.wait(30 * SLOW) == 0
    assert time.monotonic() - start < 30 * SLOW
    assert not any(cut) and len(answered) == 9
    assert len(world.daemon.records(REASON="allowed")) - before == sum(answered)
    world.tally.faults.add(os.environ["PYTEST_CURRENT_TEST"])
