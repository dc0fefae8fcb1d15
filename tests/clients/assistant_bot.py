"""The documented assistant bot (docs/examples) against a node: killed in the middle and started again, it answers each
question exactly once. Usage: python assistant_bot.py PATH-OF-ROUNDTABLE"""

import asyncio
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import websockets
from websockets_client import PATIENCE_S, SECRET, Client, free_port, token

BOT = pathlib.Path(__file__).parents[2] / "docs" / "examples" / "assistant_bot.py"
QUESTIONS = 30


class Answers(http.server.BaseHTTPRequestHandler):
    """The service that the bot asks: it takes its time, so that a kill meets the bot at work."""

    asked = []

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        Answers.asked.append(text)
        time.sleep(0.05)
        body = json.dumps({"text": f"answer to {text}"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except BrokenPipeError:
            # The bot was killed while it waited.
            pass

    def log_message(self, *_):
        pass


async def until(what, probe):
    deadline = time.monotonic() + PATIENCE_S
    while not probe():
        assert time.monotonic() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.01)


async def converse(url, start_bot):
    async with websockets.connect(url, subprotocols=["roundtable.v1.json"]) as connection:
        alice = Client(connection)
        await alice.ask(type="hello", token=token("alice"))
        await alice.ask(type="subscribe", room="lobby")
        bot, state = start_bot()
        try:
            await until("the bot is there", state.exists)
            for n in range(QUESTIONS):
                await alice.ask(type="send", room="lobby", id=f"q{n}", text=f"Bot, question {n}" if n % 3 else f"chat {n}")
                if n in (9, 19):
                    # In the middle of an answer, twice.
                    asked = max(len(Answers.asked), n // 2)
                    await until("it is at work", lambda: len(Answers.asked) > asked)
                    bot.kill()
                    bot.wait()
                    if n == 19:
                        # What it remembered last is lost: it starts from the beginning, and its ids save it.
                        state.write_text("0")
                    await alice.ask(type="send", room="lobby", id=f"away{n}", text=f"bot: while you were away {n}")
                    bot, _ = start_bot()
            questions = [f"question {n}" for n in range(QUESTIONS) if n % 3] + [f"while you were away {n}" for n in (9, 19)]
            said = {}
            deadline = time.monotonic() + PATIENCE_S
            while len(said) < len(questions) and time.monotonic() < deadline:
                page = await alice.ask(type="history", room="lobby", limit=200)
                said = {entry["reply_to"]: entry for entry in page["events"] if entry.get("user") == "bot"}
                await asyncio.sleep(0.05)
            entries = {entry["seq"]: entry for entry in page["events"]}
            answers = [entry for entry in entries.values() if entry["user"] == "bot"]
            assert sorted(entry["text"] for entry in answers) == sorted(f"answer to {text}" for text in questions), answers
            for entry in answers:
                question = entries[entry["reply_to"]]
                assert question["text"].endswith(entry["text"].removeprefix("answer to ")), (question, entry)
            print(f"assistant bot: {len(answers)} questions, {len(Answers.asked)} times asked, each answered once, ok", flush=True)
        finally:
            bot.kill()
            bot.wait()


def run(program):
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as directory:
        port, admin = free_port(), free_port()
        settings = {
            "SERVER__BIND": f"127.0.0.1:{port}",
            "ADMIN__BIND": f"127.0.0.1:{admin}",
            "AUTH__JWT__SECRET": SECRET.decode(),
            "LIMITS__MESSAGES_PER_MINUTE": "0",
        }
        environment = {"PATH": os.environ["PATH"], **{f"ROUNDTABLE__{key}": value for key, value in settings.items()}}
        log = open(os.path.join(directory, "log"), "wb")
        node = subprocess.Popen([program], cwd=directory, env=environment, stdout=log, stderr=log)
        state = pathlib.Path(directory) / "bot.state"

        def start_bot():
            variables = {
                "PATH": os.environ["PATH"],
                "ROUNDTABLE_URL": f"ws://127.0.0.1:{port}/ws",
                "ROUNDTABLE_TOKEN": token("bot"),
                "ROUNDTABLE_ROOM": "lobby",
                "ANSWER_URL": f"http://127.0.0.1:{service.server_port}/",
                "STATE_FILE": str(state),
            }
            return subprocess.Popen([sys.executable, str(BOT)], env=variables, stdout=log, stderr=log), state

        try:
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=5).close()
                    break
                except OSError:
                    assert node.poll() is None and time.monotonic() < deadline
                    time.sleep(0.03)
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/api/v1/rooms",
                json.dumps({"id": "lobby", "kind": "public"}).encode(),
                {"Authorization": f"Bearer {token('alice')}", "Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=PATIENCE_S).close()
            asyncio.run(converse(f"ws://127.0.0.1:{port}/ws", start_bot))
        except BaseException:
            log.flush()
            print(pathlib.Path(log.name).read_text(encoding="utf-8"), file=sys.stderr)
            raise
        finally:
            node.kill()
            node.wait()
            log.close()


if __name__ == "__main__":
    run(sys.argv[1])
