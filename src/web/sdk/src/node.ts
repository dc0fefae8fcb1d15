// The entry for Node: the same, with a WebSocket where the platform has none.

import { provideWebSocket } from "./client.js";
import { NodeSocket } from "./node_socket.js";

provideWebSocket(NodeSocket);

export * from "./index.js";
