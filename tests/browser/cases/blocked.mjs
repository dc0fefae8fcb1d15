// The same conversation where WebSocket is blocked: the page goes on by server-sent events and POSTs. What drains here is a node
// that ends: a browser keeps the connections that it has, so a node that stays would be asked again and again.
import { talk } from "./conversation.mjs";

export default (world) =>
  talk(world, {
    sockets: false,
    drain: (node) => void node.terminate(),
  });
