"""The OpenAPI document against a node: no fault, no undocumented status, nothing that its schema does not allow.
Usage: python schemathesis.py PATH-OF-ROUNDTABLE [EXAMPLES]   (schemathesis in the same environment)"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

SECRET = b"a-secret-that-only-this-script-knows-0123"
PATIENCE_S = 30
# What JSON Schema can't say (NFC, control characters, one of two fields) is refused as well: that valid data is always
# accepted is not held.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
    "allow_header_conformance",
]
# Ends the credentials that every other call needs.
# An answer without an end can't be read to its end; `contract_stream` reads it.
LAST = "^(delete_me|get_stream)$"


def token(user, *roles):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"sub": user, "exp": int(time.time()) + 3600, "roles": list(roles)}
    head = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    signature = base64.urlsafe_b64encode(hmac.new(SECRET, head, hashlib.sha256).digest()).rstrip(b"=")
    return (head + b"." + signature).decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(base, method, path, body=None, who="anna"):
    request = urllib.request.Request(f"{base}/api/v1/{path}", method=method)
    request.add_header("Authorization", f"Bearer {token(who)}")
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, data, timeout=PATIENCE_S) as answer:
        return answer.status


def wait_for(url):
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            sys.exit(f"{url} did not answer within {PATIENCE_S} s")
        time.sleep(0.05)


def furnish(base):
    """What the examples of the document name: two rooms, three people, a few messages."""
    call(base, "POST", "rooms", {"id": "lobby", "kind": "public"})
    call(base, "POST", "rooms", {"id": "den", "kind": "private"})
    for who in ("bob", "carol"):
        call(base, "POST", "rooms/lobby/join", who=who)
    for n in range(1, 6):
        call(base, "POST", "rooms/lobby/messages", {"id": f"m{n}", "text": f"message {n}"})


def run(home, base, who, roles, examples, *more):
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    command = [program, "run", f"{base}/api/v1/openapi.json", "--header", f"Authorization: Bearer {token(who, *roles)}"]
    command += ["--checks", ",".join(CHECKS), "--max-examples", str(examples), "--phases", "examples,coverage,fuzzing"]
    command += ["--seed", "1", "--generation-database", "none", "--suppress-health-check", "all"]
    command += ["--warnings", "off", "--no-color", *more]
    print(f"schemathesis as {who}", flush=True)
    return subprocess.run(command, cwd=home).returncode


def main():
    program, examples = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 25
    with tempfile.TemporaryDirectory() as home:
        http, admin = free_port(), free_port()
        environment = {
            **os.environ,
            "ROUNDTABLE__SERVER__BIND": f"127.0.0.1:{http}",
            "ROUNDTABLE__ADMIN__BIND": f"127.0.0.1:{admin}",
            "ROUNDTABLE__STORE__URL": f"sqlite://{home}/roundtable.db",
            "ROUNDTABLE__AUTH__JWT__SECRET": SECRET.decode(),
            "ROUNDTABLE__LIMITS__HTTP_PER_MINUTE": "0",
            "ROUNDTABLE__LIMITS__LOGINS_PER_MINUTE": "0",
            "ROUNDTABLE__LIMITS__MESSAGES_PER_MINUTE": "0",
            "ROUNDTABLE__LOG__LEVEL": "warn",
        }
        with open(f"{home}/node.log", "wb") as log:
            node = subprocess.Popen([program], env=environment, cwd=home, stdout=log, stderr=log)
        try:
            base = f"http://127.0.0.1:{http}"
            wait_for(f"http://127.0.0.1:{admin}/readyz")
            furnish(base)
            failed = run(home, base, "anna", [], examples, "--exclude-operation-id-regex", LAST)
            failed |= run(home, base, "root", ["admin"], examples, "--exclude-operation-id-regex", LAST)
            failed |= node.poll() is not None
        finally:
            node.terminate()
            node.wait()
        faults = [line for line in open(f"{home}/node.log", errors="replace") if '"ERROR"' in line]
        if faults:
            print("faults in the log:", *faults[:10], sep="\n")
        sys.exit(1 if failed or faults else 0)


main()
