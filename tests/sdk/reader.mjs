// A process that reads a room and tells what it sees, a line each: for the tests that freeze it. Usage: node reader.mjs URL TOKEN ROOM

import { Client } from "../../target/sdk/under_test.mjs";

const [url, token, id] = process.argv.slice(2);
const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const client = new Client({ url, token });
const room = client.room(id);
room.on("entries", (entries) => entries.forEach(({ seq }) => tell({ seq })));
client.on("woke", () => tell({ woke: true }));
client.on("state", ({ phase }) => tell({ phase }));
await client.connect();
await room.subscribe();
tell({ status: room.status });
