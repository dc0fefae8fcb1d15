// The Socket.IO server that the comparison starts, twice: one process a core, joined by Redis. As an application would
// write it, with what costs without being compared left out:
// - WebSocket only, as every other peer is measured; the long-polling fallback is not used.
// - No permessage-deflate (off by default in version 4 as well).
// - The native add-on `bufferutil` is installed, as the project's own tuning advice says.
// - The initial HTTP request of each socket is let go, again as that advice says, for memory.
// - No acknowledgement of a message is asked for: the least work for this peer.
"use strict";

const { createServer } = require("http");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");

const [port, redis] = process.argv.slice(2);

async function main() {
  const publisher = createClient({ url: redis });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const http = createServer();
  const io = new Server(http, {
    adapter: createAdapter(publisher, subscriber),
    transports: ["websocket"],
    perMessageDeflate: false,
    serveClient: false,
  });
  io.engine.on("connection", (socket) => {
    socket.request = null;
  });
  io.on("connection", (socket) => {
    socket.on("join", (room, done) => {
      socket.join(room);
      done();
    });
    socket.on("m", (room, text) => io.to(room).emit("m", text));
  });
  http.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
