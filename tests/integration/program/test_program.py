# SPDX-License-Identifier: Apache-2.0
"""The daemon's command line."""

import base64
import json
import platform
import re
import subprocess

import pytest
import yaml

from daemon import program, ROOT

GOOD = ROOT / "tests" / "data" / "config" / "good"
BAD = ROOT / "tests" / "data" / "config" / "bad"
EXAMPLES = sorted((ROOT / "config" / "examples").glob("*.yaml"))

TEXT = """\
listen: [{unix: /run/x.sock, enclave: payments}, {vsock: 8000}]
endpoints:
  eu: {region: eu-central-1}
  us: {region: us-east-1}
enclaves:
  payments:
    endpoints: [eu]
    allow:
      - {name: first, actions: [DescribeKey, GenerateRandom], keys: any, plaintext: allow}
      - {name: second, actions: [Decrypt], keys: [alias/a], encryption_context: {app: a}}
  ledger:
    cid: 17
    endpoints: [us, eu]
    allow:
      - {name: us-only, actions: [ListKeys], endpoints: [us], keys: any}
"""


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "good.yaml"
    found.write_text(TEXT)
    return found


def run(*arguments, stdin=""):
    """(exit status, stdout, stderr)"""
    found = subprocess.run([program(), *arguments], input=stdin, capture_output=True, text=True, timeout=60)
    return found.returncode, found.stdout, found.stderr


# How it was built.

def tool(*arguments):
    return subprocess.run([*arguments, program()], capture_output=True, text=True, check=True).stdout


def test_the_program_is_one_that_is_hard_to_take_over():
    """At any address, with nothing that is both written and run, nothing bound late."""
    assert re.search(r"Type: +DYN", tool("readelf", "-hW"))
    segments = tool("readelf", "-lW")
    assert "GNU_RELRO" in segments and not re.search(r"(?m)^ .* RWE ", segments)
    dynamic = tool("readelf", "-dW")
    assert re.search(r"FLAGS_1\).*\bNOW\b.*\bPIE\b", dynamic)
    assert not re.search(r"TEXTREL|RPATH|RUNPATH", dynamic)
    assert "__stack_chk_fail" in tool("readelf", "--dyn-syms", "-W")


def test_each_file_was_compiled_with_what_protects_it():
    """As each says itself in its debug information; of gcc, which the flags are for."""
    made_by = re.findall(r"DW_AT_producer.*: (GNU C\d.*)", tool("readelf", "--debug-dump=info", "--dwarf-depth=1"))
    if not made_by or " -O" not in made_by[0]:
        pytest.skip("not an optimized build of gcc with debug information")
    sanitized = any("-fsanitize" in one for one in made_by)
    wanted = ["-fstack-protector-strong", "-fstack-clash-protection"]
    if platform.machine() == "x86_64":
        wanted.append("-fcf-protection=full")
    if platform.machine() == "aarch64":
        wanted.append("-mbranch-protection=standard")
    if not sanitized:
        wanted.append("-ftrivial-auto-var-init=zero")
    assert len(made_by) > 50
    for one in made_by:
        assert all(flag in one.split() for flag in wanted), one
        assert sanitized == ("-ftrivial-auto-var-init=zero" not in one)
    if not sanitized:       # _FORTIFY_SOURCE, which is no flag
        assert "__memcpy_chk" in tool("readelf", "--dyn-syms", "-W")


# Help, version, usage.

def test_version_and_help():
    status, out, err = run("--version")
    assert (status, err) == (0, "") and re.fullmatch(r"kms-vsock-proxyd \d+\.\d+(\.\d+)?\n", out)
    assert run("-V") == (status, out, err)
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    assert run("-h") == (status, out, err)
    for option in ("--config", "--check-config", "--print-config", "--explain", "--host", "--version", "--help"):
        assert option in out
    manual = (ROOT / "man" / "kms-vsock-proxyd.8").read_text(encoding="utf-8")
    for option in set(re.findall(r"--([a-z-]+)", out)):
        assert f"Fl -{option}" in manual.replace("\\-", "-"), option


@pytest.mark.parametrize("arguments, said", [
    (["--nonsense"], "unrecognized option '--nonsense'"),
    (["-x"], "invalid option"),
    (["--config"], "requires an argument"),
    (["--version=3"], "doesn't allow an argument"),
    (["file.yaml"], "unexpected argument: file.yaml"),
    (["--check-config", "file.yaml"], "unexpected argument: file.yaml"),
    (["--explain"], "--explain takes ENCLAVE, ACTION and either the body's FILE or"),
    (["--explain", "a", "Decrypt"], "--explain takes"),
    (["--explain", "a", "Decrypt", "-", "more"], "--explain takes"),
    (["--explain", "a", "Decrypt", "-", "--key", "k"], "--explain takes"),
    (["--explain", "a", "--key", "k"], "--explain takes"),
    (["--explain", "a", "Decrypt", "--key"], "requires an argument"),
    (["--explain", "a", "Decrypt", *["--key", "k"] * 3], "--key is given more than 2 times"),
    (["--explain", "a", "Decrypt", *["--context", "k=v"] * 17], "--context is given more than 16 times"),
    (["--key", "k"], "--host, --key, --context and --recipient are of --explain"),
    (["--check-config", "--recipient", "f"], "are of --explain"),
    (["--host", "h"], "are of --explain"),
    (["--port", "8000"], "--port is of --import-vsock-proxy"),
    (["--import-vsock-proxy", "f", "--port", "0"], "--port 0: expected a vsock port"),
    (["--import-vsock-proxy", "f", "--port", "4294967295"], "--port 4294967295: expected a vsock port"),
    (["--import-vsock-proxy", "f", "--port", "x"], "--port x: expected a vsock port"),
    (["--import-vsock-proxy", "f", *(x for n in range(17) for x in ("--port", str(n + 1)))], "at most 16 times"),
])
def test_a_wrong_command_line(arguments, said):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "") and said in err


@pytest.mark.parametrize("arguments", [
    ["8000", "kms.us-east-1.amazonaws.com", "443"],
    ["8000", "127.0.0.1", "22"],
    ["8000", "kms.us-east-1.amazonaws.com", "443", "--config", "/etc/nitro_enclaves/vsock-proxy.yaml"],
    ["-4", "8000", "kms.us-east-1.amazonaws.com", "443"],
    ["--ipv6", "8000", "host", "443"],
    ["-w", "20", "8000", "host", "443"],
    ["--num_workers", "20", "8000", "host", "443"],
    ["--num_workers=20"],
])
def test_arguments_of_vsock_proxy_are_told_what_to_do(arguments):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "arguments of AWS's vsock-proxy" in err
    assert "kms-vsock-proxyd --import-vsock-proxy /etc/nitro_enclaves/vsock-proxy.yaml --port 8000" in err


@pytest.mark.parametrize("arguments", [["8000", "host"], ["8000", "host", "https"], ["port", "host", "443"],
                                       ["--check-config", "8000", "host", "443"], ["8000", "host", "443", "more"]])
def test_other_arguments_are_just_not_expected(arguments):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "") and "unexpected argument: " in err


# --check-config.

def test_check_config_says_nothing_of_a_good_file(path):
    assert run("--config", path, "--check-config") == (0, "", "")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.stem)
def test_the_examples_are_good(example):
    status, out, err = run("--config", example, "--check-config")
    assert (status, out) == (0, "") and "error" not in err


def test_check_config_says_all_errors_at_once(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(TEXT.replace("eu-central-1", "Frankfurt").replace("cid: 17", "cid: 2")
                   .replace("ListKeys", "ListKey") + "workers: many\nfoo: 1\n")
    status, out, err = run("--config", bad, "--check-config")
    lines = err.splitlines()
    assert (status, out) == (1, "") and len(lines) >= 5
    assert all(re.match(rf"{re.escape(str(bad))}:\d+:\d+: (error|warning): ", line) for line in lines), err
    places = [int(line[len(str(bad)) + 1:].split(":")[0]) for line in lines]
    assert places == sorted(places)
    for line, said in ((3, "Frankfurt"), (12, "2"), (15, "ListKeys"), (16, "many"), (17, "foo")):
        assert any(line == at and said in text for at, text in zip(places, lines)), (line, said)


def test_every_bad_file_is_refused_with_its_place():
    files = sorted(BAD.glob("*.yaml"))
    assert len(files) > 100
    for bad in files:
        status, out, err = run("--config", bad, "--check-config")
        assert (status, out) == (1, ""), bad.name
        assert f"{bad}:" in err and ": error: " in err, bad.name


def test_a_file_that_can_not_be_read(tmp_path):
    for name, said in (("none.yaml", "No such file"), (".", "irectory")):
        status, out, err = run("--config", tmp_path / name, "--check-config")
        assert (status, out) == (1, "") and said in err, err
    status, _, err = run("--config", "/dev/zero", "--check-config")     # endless
    assert status == 1 and err


def test_the_daemon_says_the_same_and_does_not_start(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(TEXT.replace("eu-central-1", "Frankfurt"))
    checked = run("--config", bad, "--check-config")
    assert checked[0] == 1 and run("--config", bad) == checked


# --print-config.

def test_what_print_config_prints_means_the_same():
    """For every good file: what it prints loads without a word, and prints itself."""
    files = [f for f in sorted(GOOD.glob("*.yaml"))] + EXAMPLES
    assert len(files) > 15
    for good in files:
        status, first, _ = run("--config", good, "--print-config")
        assert status == 0 and first, good.name
        status, second, err = run("--config", "-", "--print-config", stdin=first)
        hashed = r"# SHA-256 of the files: [0-9a-f]{64}\n"
        assert re.match(hashed, first) and re.match(hashed, second), good.name
        assert (status, re.sub(hashed, "", second)) == (0, re.sub(hashed, "", first)), (good.name, err)
        assert yaml.safe_load(first), good.name


def test_print_config_fills_in_the_defaults(path):
    status, out, _ = run("--config", path, "--print-config")
    found = yaml.safe_load(out)
    assert status == 0
    assert found["endpoints"]["us"]["host"] == "kms.us-east-1.amazonaws.com"
    assert found["enclaves"]["payments"]["limits"]["body"] == "512KiB"
    assert found["enclaves"]["payments"]["allow"][1]["plaintext"] == "refuse"
    assert (found["workers"], found["memory"], found["audit"]) == (1, "96MiB", "all")


def test_print_config_of_a_bad_file_prints_its_errors(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("workers: 0\n")
    status, out, err = run("--config", bad, "--print-config")
    assert (status, out) == (1, "") and "workers" in err


# --explain.

def explain(path, enclave, action, body, *more):
    return run("--config", path, "--explain", enclave, action, *more, "-",
               stdin=body if isinstance(body, str) else json.dumps(body))


def test_explain_what_is_allowed(path):
    status, out, err = explain(path, "payments", "DescribeKey", {"KeyId": "alias/x"})
    assert (status, err) == (0, "")
    assert re.search(r"(?m)^verdict: +allowed$", out)
    assert re.search(rf"(?m)^rule: +first \({re.escape(str(path))}:9\)$", out)
    assert re.search(r"(?m)^endpoint: +eu \(kms\.eu-central-1\.amazonaws\.com, region eu-central-1\)$", out)


@pytest.mark.parametrize("action, body, said", [
    ("ListKeys", {}, r"reason: +action: "),
    ("Decrypt", {"KeyId": "alias/b", "CiphertextBlob": "eA=="}, r'reason: +key: rule "second" \(good\.yaml:10\)'),
    ("Decrypt", {"CiphertextBlob": "eA=="}, r"reason: +key: .*Decrypt must name KeyId"),
    ("Decrypt", {"KeyId": "alias/a", "CiphertextBlob": "eA==", "EncryptionContext": {"app": "b"}},
     r'reason: +encryption-context: .*"app"'),
    ("Decrypt", {"KeyId": "alias/a", "CiphertextBlob": "eA==", "EncryptionContext": {"app": "a"}},
     r"reason: +recipient: .*must have a Recipient"),
    ("Decrypt", "{", r"body: +not strict JSON"),
    ("Decrypt", {"Nonsense": 1}, r"body: .*Nonsense"),
    ("Decrypt", "", r"body: "),
])
def test_explain_what_is_refused(path, action, body, said):
    status, out, err = explain(path, "payments", action, body)
    assert (status, err) == (1, "")
    assert re.search(r"(?m)^verdict: +refused$", out) and re.search(said, out), out
    assert re.search(rf"(?m)^enclave: +payments \({re.escape(str(path))}:6\)$", out)


@pytest.fixture
def dropin(path):
    """Its path as messages have it; the main file's is as it was given."""
    folder = path.with_suffix(".d")
    folder.mkdir(mode=0o755)
    found = folder / "10-shop.yaml"
    found.write_text("enclaves:\n  shop:\n    cid: 18\n    endpoints: [eu]\n    allow:\n"
                     "      - {name: look, actions: [Decrypt], keys: [alias/x], plaintext: allow}\n")
    found.chmod(0o644)
    return found


def test_explain_of_a_drop_in(path, dropin):
    status, out, err = explain(path, "shop", "Decrypt", {"KeyId": "alias/x", "CiphertextBlob": "eA=="})
    assert (status, err) == (0, "")
    assert re.search(rf"(?m)^enclave: +shop \({re.escape(str(dropin))}:2\)$", out)
    assert re.search(rf"(?m)^rule: +look \({re.escape(str(dropin))}:6\)$", out)
    assert f'  {dropin}:6: rule "look" (good.d/10-shop.yaml:6) allows Decrypt\n' in out


def test_check_config_names_the_drop_in_as_an_editor_finds_it(path, dropin):
    assert run("--config", path, "--check-config") == (0, "", "")
    dropin.write_text(dropin.read_text().replace("Decrypt", "Decript"))
    for given in (path, path.name, f"../{path.parent.name}/{path.name}"):
        found = subprocess.run([program(), "--config", given, "--check-config"], cwd=path.parent,
                               capture_output=True, text=True, check=False)
        at = re.fullmatch(r'(.*):6:32: error: actions: KMS has no action "Decript"; did you mean "Decrypt"\?\n',
                          found.stderr)
        assert found.returncode == 1 and (path.parent / at[1]).samefile(dropin), found.stderr


def test_explain_with_a_host(path):
    for host, status in (("kms.us-east-1.amazonaws.com", 0), ("kms.eu-central-1.amazonaws.com", 1),
                         ("localhost", 0), ("127.0.0.1", 0), ("example.com", 1)):
        assert explain(path, "ledger", "ListKeys", {}, "--host", host)[0] == status, host


def test_explain_reads_a_file_and_the_largest_body(path, tmp_path):
    body = tmp_path / "body.json"
    body.write_text('{"KeyId":"alias/a"}' + " " * 500000)
    assert run("--config", path, "--explain", "payments", "DescribeKey", body)[0] == 0
    body.write_text('{"KeyId":"alias/a"}' + " " * 524288)
    status, out, _ = run("--config", path, "--explain", "payments", "DescribeKey", body)
    assert status == 1 and "limit `body`" in out


@pytest.mark.parametrize("enclave, action, said", [
    ("payment", "Decrypt", 'there is no enclave "payment"; did you mean "payments"?'),
    ("payments", "decrypt", 'KMS has no action "decrypt"; did you mean "Decrypt"?'),
    ("payments", "kms:Decrypt", 'did you mean "Decrypt"?'),
    ("pay\x1bments\n", "Decrypt", "there is no enclave"),
])
def test_explain_what_is_not_there(path, enclave, action, said):
    status, out, err = explain(path, enclave, action, {})
    assert (status, out) == (2, "") and said in err
    assert all(" " <= c <= "~" for c in err.rstrip("\n")), err


def test_explain_a_file_that_is_not_there(path):
    status, out, err = run("--config", path, "--explain", "payments", "Decrypt", "/nonexistent.json")
    assert (status, out) == (2, "") and "/nonexistent.json: No such file" in err


# --explain, from flags.

DOCUMENTS = ROOT / "tests" / "data" / "attestation"


def explain_flags(path, *flags, action="Decrypt"):
    return run("--config", path, "--explain", "payments", action, *flags)


def test_explain_from_flags_is_explain_of_the_body(path):
    document = base64.b64encode((DOCUMENTS / "prod-with-public-key.cbor").read_bytes()).decode()
    body = {"KeyId": "alias/a", "EncryptionContext": {"app": "a"}, "Recipient": {
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document}}
    found = explain_flags(path, "--key", "alias/a", "--context", "app=a",
                          "--recipient", DOCUMENTS / "prod-with-public-key.cbor")
    assert found == explain(path, "payments", "Decrypt", body)
    status, out, err = found
    assert (status, err) == (0, "") and re.search(r"(?m)^rule: +second ", out)
    for said in ("document:   of an enclave, signature not verified",
                 "  module:   i-0a6d65e7122308898-enc017846bcd2f820da",
                 "  key:      RSA, 2048 bits"):
        assert said in out.splitlines()
    assert re.search(r"(?m)^  age:      [0-9]+ days \(made Wed, 24 Mar 2021 16:10:41 GMT\)$", out)
    assert len(re.findall(r"(?m)^  PCR[012]:     [0-9a-f]{96}$", out)) == 3


@pytest.mark.parametrize("flags, status, said", [
    (["--key", "alias/b", "--context", "app=a"], 1, "reason:     key: "),
    (["--key", "alias/a"], 1, "reason:     encryption-context: "),
    (["--key", "alias/a", "--context", "app=a"], 1, "reason:     recipient: "),
    (["--context", "app=a"], 1, "Decrypt must name KeyId"),
    (["--recipient", DOCUMENTS / "debug-with-public-key.cbor"], 1,
     "  PCR0 is all zero: debug mode; a key policy with ImageSha384 refuses this\n"),
    (["--recipient", DOCUMENTS / "prod.cbor"], 1,
     "  key:      none: KMS has nothing to seal an answer with\n"),
])
def test_explain_from_flags(path, flags, status, said):
    found, out, err = explain_flags(path, *flags)
    assert (found, err) == (status, "") and said in out


def test_explain_a_document_in_base64(path, tmp_path):
    binary = DOCUMENTS / "prod.cbor"
    wanted = explain_flags(path, "--recipient", binary)
    for text in (base64.b64encode(binary.read_bytes()), base64.encodebytes(binary.read_bytes())):
        file = tmp_path / "document"
        file.write_bytes(text)
        assert explain_flags(path, "--recipient", file) == wanted


@pytest.mark.parametrize("content, said", [
    (b"{}", "expected an attestation document"), (b"", "there is nothing in it"),
    (b"\x84" * (256 * 1024 + 1), "larger than an attestation document may be (256KiB)"),
    (b"A" * (512 * 1024 + 1), "File too large"),
], ids=["text", "empty", "above-the-limit", "a-large-file"])
def test_explain_what_is_no_document(path, tmp_path, content, said):
    file = tmp_path / "document"
    file.write_bytes(content)
    status, out, err = explain_flags(path, "--recipient", file)
    assert (status, out) == (2, "") and err.startswith(f"{file}: ") and said in err
    status, out, err = explain_flags(path, "--recipient", tmp_path / "none")
    assert (status, out) == (2, "") and "No such file" in err


def test_explain_takes_a_document_that_it_can_not_read(path, tmp_path):
    """As the daemon does, which leaves it to KMS; but it says so."""
    file = tmp_path / "document"
    file.write_bytes(b"\x84" * 1000)
    status, out, err = explain_flags(path, "--key", "alias/a", "--context", "app=a", "--recipient", file)
    assert (status, err) == (0, "")
    assert "document:   no attestation document that KMS would take: byte 1: not a byte string\n" in out
