"""Point in time, by the commands of docs/disaster-recovery.md as they stand there: a room is deleted, and comes back.

A block of commands that begins with "# as PostgreSQL's user" is run as such where we are root: PostgreSQL refuses to be.
"""

import base64
import datetime
import glob
import hashlib
import hmac
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from rendered import PROGRAM, ROOT

DOCUMENT = ROOT / "docs" / "disaster-recovery.md"
SECRET = "a secret of this test, long enough to be taken"
PATIENCE_S = 60
AS_POSTGRES = "# as PostgreSQL's user"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, look):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}")
        time.sleep(0.1)
    return found


def commands(heading):
    """The blocks of commands below a heading of the document."""
    section = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##+ )", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)[1]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def programs():
    """Where PostgreSQL's server has its programs."""
    if found := shutil.which("initdb"):
        return os.path.dirname(os.path.realpath(found))
    return max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))


def token(user):
    def part(of):
        return base64.urlsafe_b64encode(of).rstrip(b"=")

    claims = {"sub": user, "exp": int(time.time()) + 3600}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.digest(SECRET.encode(), signed, hashlib.sha256))).decode()


class Node:
    def __init__(self, folder, postgres_port, redis):
        self.port = free_port()
        self.process = subprocess.Popen([PROGRAM], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={
            "ROUNDTABLE__SERVER__BIND": f"127.0.0.1:{self.port}", "ROUNDTABLE__ADMIN__BIND": "127.0.0.1:0",
            "ROUNDTABLE__STORE__URL": f"postgres://roundtable@127.0.0.1:{postgres_port}/roundtable",
            "ROUNDTABLE__CLUSTER__REDIS_URL": redis, "ROUNDTABLE__AUTH__JWT__SECRET": SECRET, "ROUNDTABLE__LOG__LEVEL": "error",
            "ROUNDTABLE__LIMITS__MESSAGES_BURST": "1000",
        })
        self.token = token("alice")
        try:
            until("the node is ready", lambda: self.call("GET", "me")[0] == 200)
        except AssertionError:
            self.end()
            raise

    def call(self, method, path, body=None):
        """(status, answer); status None where nobody answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1/{path}", None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}, method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, None
        except OSError:
            return None, None

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)


class PointInTime(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        folder = self.folder = Path(holder.name)
        self.user = {}
        if os.geteuid() == 0:
            owner = next(pwd.getpwnam(name) for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()})
            self.user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        folder.chmod(0o755)
        self.redis_port = free_port()
        self.variables = {
            "PATH": f"{Path(PROGRAM).parent}:{programs()}:{os.environ['PATH']}", "HOME": str(folder), "LANG": "C.UTF-8",
            "PGDATA": f"{folder}/data", "ARCHIVE": f"{folder}/archive", "BASES": f"{folder}/bases", "RESTORED": f"{folder}/restored",
            "PGHOST": "127.0.0.1", "PGPORT": str(free_port()), "PGUSER": "roundtable", "PORT": str(free_port()),
            "REDIS": f"redis://127.0.0.1:{self.redis_port}", "PGBACKREST_CONFIG": f"{folder}/pgbackrest.conf",
            # What Debian's package has elsewhere.
            "PGBACKREST_LOG_PATH": str(folder), "PGBACKREST_LOCK_PATH": f"{folder}/lock",
        }
        self.nodes = []
        self.addCleanup(lambda: [node.end() for node in self.nodes if node.process.poll() is None])
        # Whatever of them still runs then.
        self.addCleanup(self.run_block, f"{AS_POSTGRES}\nfor data in \"$PGDATA\" \"$RESTORED\"; do pg_ctl stop --silent --mode immediate -D \"$data\" || true; done")
        self.run_block(
            f"{AS_POSTGRES}\ninitdb --username=roundtable --auth=trust --encoding=UTF8 --locale=C --no-sync > {folder}/log\n"
            f"echo \"unix_socket_directories = ''\" >> \"$PGDATA/postgresql.conf\"; printf 'port = %s\\nfsync = off\\n' \"$PGPORT\" >> \"$PGDATA/postgresql.conf\"\n"
            f"pg_ctl start --silent --wait -l {folder}/log\ncreatedb roundtable"
        )
        redis = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.redis_port), "--save", "", "--dir", str(folder), "--logfile", "redis.log"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )
        self.addCleanup(redis.wait)
        self.addCleanup(redis.terminate)

    def run_block(self, block):
        """What a block of commands says; all of them have to succeed."""
        user = self.user if block.startswith(AS_POSTGRES) else {}
        with tempfile.TemporaryFile("w+") as said:
            # To a file: a server that is started keeps a pipe open.
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], env=self.variables, cwd=self.folder, stdin=subprocess.DEVNULL,
                                  stdout=said, stderr=subprocess.STDOUT, timeout=2 * PATIENCE_S, check=False, **user)
            said.seek(0)
            text = said.read()
        if done.returncode != 0:
            log = self.folder / "restored" / "restore.log"
            self.fail(f"status {done.returncode} of:\n{block}\n{text}\n{log.read_text() if log.exists() else ''}")
        return text

    def node(self, port):
        node = Node(self.folder, port, self.variables["REDIS"])
        self.nodes.append(node)
        return node

    def talk(self, node, first, last):
        for n in range(first, last + 1):
            status, answer = node.call("POST", "rooms/lobby/messages", {"id": f"m{n}", "text": f"message {n}"})
            self.assertIn(status, (200, 201), answer)

    def now(self):
        return self.run_block("psql -d roundtable -Atc \"SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00')\"").strip()

    def deletes_a_room_after_the_moment(self):
        """20 messages, the moment, 20 more, and no room; the nodes have ended."""
        node = self.nodes[0]
        self.talk(node, 6, 20)
        base = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        # Bases are named by the second.
        until("the next second", lambda: datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) > base)
        self.variables["MOMENT"] = self.now()
        self.talk(node, 21, 40)
        status, _ = node.call("DELETE", "rooms/lobby")
        self.assertIn(status, (200, 204))
        return node

    def is_back(self, restored):
        """A node on the restored database has the log up to the moment, and goes on behind it."""
        node = self.node(restored)
        status, found = node.call("GET", "rooms/lobby/messages?limit=100")
        self.assertEqual(status, 200)
        texts = [entry["text"] for entry in found["items"] if entry.get("text")]
        self.assertEqual(sorted(texts, key=lambda text: int(text.split()[1])), [f"message {n}" for n in range(1, 21)])
        self.talk(node, 41, 42)
        self.run_block('ROUNDTABLE__STORE__URL="postgres://$PGUSER@$PGHOST:$PORT/roundtable" roundtable backup check')

    def test_with_an_archive_of_the_log(self):
        archive, base = commands("Archive")
        find, stop, restore, look, promote, again = commands("Restore to the moment")
        self.run_block(archive)
        node = self.node(self.variables["PGPORT"])
        self.assertEqual(node.call("POST", "rooms", {"id": "lobby", "kind": "public"})[0], 201)
        self.talk(node, 1, 5)
        self.run_block(base)
        self.deletes_a_room_after_the_moment()
        self.assertIn("room.deleted", self.run_block(find))
        node.end()
        self.run_block(stop)
        self.run_block(restore)
        seen = self.run_block(look)
        self.assertIn("every log is whole: 1 rooms", seen)
        self.assertRegex(seen, r"lobby +\| +\d+")
        epoch = "psql -p \"$PORT\" -d roundtable -Atc 'SELECT min(epoch) FROM room_heads'"
        self.run_block(promote)
        self.assertGreater(int(self.run_block(epoch)), 1_000_000)
        self.run_block(again)
        self.is_back(self.variables["PORT"])

    def test_with_pgbackrest(self):
        setup, full, restore = commands("With pgBackRest")
        _, stop, _, look, promote, _ = commands("Restore to the moment")
        self.variables["PGBACKREST_PG1_PORT"] = self.variables["PGPORT"]
        self.run_block(setup)
        node = self.node(self.variables["PGPORT"])
        self.assertEqual(node.call("POST", "rooms", {"id": "lobby", "kind": "public"})[0], 201)
        self.talk(node, 1, 5)
        self.assertIn("status: ok", self.run_block(full))
        self.deletes_a_room_after_the_moment()
        node.end()
        self.run_block(stop)
        self.run_block(restore)
        self.assertIn("every log is whole: 1 rooms", self.run_block(look))
        self.run_block(promote)
        self.is_back(self.variables["PORT"])


if __name__ == "__main__":
    unittest.main()
