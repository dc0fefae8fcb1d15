"""Python `websockets` against a node: with and without permessage-deflate, compressed or not on the other side.
Usage: python websockets_client.py PATH-OF-ROUNDTABLE"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

SECRET = b"a-secret-that-only-this-script-knows-0123"
PATIENCE_S = 30


def token(user):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    head = part({"alg": "HS256", "typ": "JWT"}) + b"." + part({"sub": user, "exp": int(time.time()) + 3600})
    signature = base64.urlsafe_b64encode(hmac.new(SECRET, head, hashlib.sha256).digest()).rstrip(b"=")
    return (head + b"." + signature).decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Client:
    """One connection: asks, and keeps what else comes in."""

    def __init__(self, connection):
        self.connection, self.frames, self.next_ref = connection, [], 0

    async def find(self, wanted):
        seen = 0
        while True:
            for frame in self.frames[seen:]:
                if wanted(frame):
                    return frame
            seen = len(self.frames)
            self.frames.append(json.loads(await asyncio.wait_for(self.connection.recv(), PATIENCE_S)))

    async def ask(self, **request):
        self.next_ref += 1
        ref = self.next_ref
        await self.connection.send(json.dumps({**request, "ref": ref}))
        return await self.find(lambda frame: frame.get("ref") == ref)

    async def entry(self, seq):
        frame = await self.find(
            lambda frame: frame["type"] == "events" and any(entry["seq"] == seq for entry in frame["events"])
        )
        return next(entry for entry in frame["events"] if entry["seq"] == seq)


OFFERS = {
    "none": {"compression": None},
    "default": {"compression": "deflate"},
    "no context takeover": {
        "compression": None,
        "extensions": [
            ClientPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
        ],
    },
    "small client window": {
        "compression": None,
        "extensions": [ClientPerMessageDeflateFactory(client_max_window_bits=9)],
    },
}


async def converse(url, http, compression):
    for index, (name, offer) in enumerate(OFFERS.items()):
        room = f"py-{index}"
        request = urllib.request.Request(
            f"{http}/api/v1/rooms",
            json.dumps({"id": room, "kind": "public"}).encode(),
            {"Authorization": f"Bearer {token('alice')}", "Content-Type": "application/json"},
        )
        with await asyncio.to_thread(urllib.request.urlopen, request) as answer:
            assert answer.status == 201
        options = {"subprotocols": ["roundtable.v1.json"], **offer}
        async with websockets.connect(url, **options) as one, websockets.connect(url, compression=None) as two:
            alice, bob = Client(one), Client(two)
            for client, user in ((alice, "alice"), (bob, "bob")):
                welcome = await client.ask(type="hello", token=token(user))
                assert welcome["type"] == "welcome", welcome
                await client.ask(type="subscribe", room=room)
            used = any(extension.name == "permessage-deflate" for extension in one.protocol.extensions)
            assert used == (compression and name != "none"), (name, used)
            noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=3000))
            for n, text in enumerate(["short", "long " * 700 + "end", "ロ" * 4000, noise], 1):
                sent = await alice.ask(type="send", room=room, id=f"m{n}", text=text)
                assert sent["seq"] == n, sent
                for client in (alice, bob):
                    assert (await client.entry(n))["text"] == text
            page = await alice.ask(type="history", room=room)
            assert len(page["events"]) == 4
        kind = "compressed" if used else "plain"
        print(f"websockets: compression {'on' if compression else 'off'}, offer {name!r}: {kind}, ok", flush=True)


def run(program, compression):
    with tempfile.TemporaryDirectory() as directory:
        port, admin = free_port(), free_port()
        settings = {
            "SERVER__BIND": f"127.0.0.1:{port}",
            "ADMIN__BIND": f"127.0.0.1:{admin}",
            "SERVER__COMPRESSION": str(compression).lower(),
            "AUTH__JWT__SECRET": SECRET.decode(),
            "LIMITS__MESSAGES_PER_MINUTE": "0",
        }
        environment = {"PATH": os.environ["PATH"], **{f"ROUNDTABLE__{key}": value for key, value in settings.items()}}
        with open(os.path.join(directory, "log"), "wb") as log:
            node = subprocess.Popen([program], cwd=directory, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=5).close()
                    break
                except OSError:
                    with open(os.path.join(directory, "log"), encoding="utf-8") as log:
                        assert node.poll() is None and time.monotonic() < deadline, log.read()
                    time.sleep(0.03)
            asyncio.run(converse(f"ws://127.0.0.1:{port}/ws", f"http://127.0.0.1:{port}", compression))
        finally:
            node.kill()
            node.wait()


if __name__ == "__main__":
    for setting in (True, False):
        run(sys.argv[1], setting)
