// What the tests look at: the client as it is for Node, and the parts that have tests of their own.

export * from "../../src/web/sdk/src/node.js";
export { backoff, now, watch } from "../../src/web/sdk/src/clock.js";
export { decode, encode } from "../../src/web/sdk/src/msgpack.js";
export { NodeSocket } from "../../src/web/sdk/src/node_socket.js";

// For the tests of the storage: IndexedDB without a browser.
export { IDBFactory, IDBKeyRange } from "fake-indexeddb";
