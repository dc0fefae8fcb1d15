"""An assistant that answers in a room: every message that begins with its name gets a reply, exactly once.

    pip install websockets
    ROUNDTABLE_URL=ws://127.0.0.1:8080/ws ROUNDTABLE_TOKEN=… ROUNDTABLE_ROOM=lobby python assistant_bot.py

ANSWER_URL names an HTTP service that is posted {"text": …} and answers {"text": …}; without it the bot echoes.
STATE_FILE keeps how far it came (default: assistant_bot.state).
"""

import asyncio
import json
import os
import pathlib
import urllib.request

import websockets

URL, TOKEN, ROOM = (os.environ[f"ROUNDTABLE_{name}"] for name in ("URL", "TOKEN", "ROOM"))
STATE = pathlib.Path(os.environ.get("STATE_FILE", "assistant_bot.state"))
RETRY_S = 1


def answer(text):
    """What to say to `text`. Put your model here."""
    if url := os.environ.get("ANSWER_URL"):
        body = json.dumps({"text": text}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)["text"]
    return f"You said: {text}"


async def reply(send, me, entry):
    """Answers one entry, if it is a question. The id follows from the question's seq: saying it again changes nothing."""
    text = entry.get("text") or ""
    if entry["kind"] != "message" or entry["user"] == me or not text.lower().startswith(me.lower()):
        return
    said = await asyncio.to_thread(answer, text[len(me) :].lstrip(" ,:"))
    while True:
        frame = await send(type="send", room=ROOM, id=f"re-{entry['seq']}", text=said[:4000], reply_to=entry["seq"])
        if frame["type"] == "sent" or not frame["retryable"]:
            return
        await asyncio.sleep(frame.get("retry_after_ms", 1000) / 1000)


async def converse(connection):
    """One connection, until it ends."""
    waiting, entries, number = {}, asyncio.Queue(), 0

    async def send(**frame):
        nonlocal number
        number += 1
        waiting[number] = asyncio.get_running_loop().create_future()
        await connection.send(json.dumps({**frame, "ref": number}))
        return await waiting[number]

    async def read():
        async for message in connection:
            frame = json.loads(message)
            if "ref" in frame:
                waiting.pop(frame["ref"]).set_result(frame)
            elif frame["type"] == "events":
                for entry in frame["events"]:
                    entries.put_nowait(entry)

    async def work():
        me = (await send(type="hello", token=TOKEN))["user"]["id"]
        await send(type="join", room=ROOM)
        place = {"after": int(STATE.read_text())} if STATE.exists() else {"last": 0}
        subscribed = await send(type="subscribe", room=ROOM, **place)
        if not STATE.exists() or subscribed["verdict"] == "reset":
            remember(subscribed["head"])
        while True:
            entry = await entries.get()
            await reply(send, me, entry)
            remember(entry["seq"])

    tasks = [asyncio.create_task(read()), asyncio.create_task(work())]
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    for task in done:
        task.result()


def remember(seq):
    """Only after the answer is stored: what is asked in between is answered again, under the same id."""
    new = STATE.with_suffix(".new")
    new.write_text(str(seq))
    new.replace(STATE)


async def main():
    while True:
        try:
            async with websockets.connect(URL, subprotocols=["roundtable.v1.json"]) as connection:
                await converse(connection)
        except (OSError, websockets.WebSocketException) as error:
            print(f"again in {RETRY_S} s: {error}", flush=True)
        await asyncio.sleep(RETRY_S)


if __name__ == "__main__":
    asyncio.run(main())
