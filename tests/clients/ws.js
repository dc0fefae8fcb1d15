// npm `ws` against a node, in every negotiation of permessage-deflate: what is sent arrives, on both encodings' frames,
// compressed or not. Usage: NODE_PATH=… node ws.js PATH-OF-ROUNDTABLE
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const net = require('node:net');
const { spawn } = require('node:child_process');
const WebSocket = require('ws');

const SECRET = 'a-secret-that-only-this-script-knows-0123';
const PATIENCE_MS = 30_000;

function token(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const head = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 3600 })}`;
  return `${head}.${crypto.createHmac('sha256', SECRET).update(head).digest('base64url')}`;
}

function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${PATIENCE_MS} ms: ${what}`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function startNode(program, compression) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'roundtable-ws-'));
  const [port, admin] = [await freePort(), await freePort()];
  const child = spawn(program, [], {
    cwd: dir,
    stdio: ['ignore', fs.openSync(path.join(dir, 'log'), 'a'), fs.openSync(path.join(dir, 'log'), 'a')],
    env: {
      PATH: process.env.PATH,
      ROUNDTABLE__SERVER__BIND: `127.0.0.1:${port}`,
      ROUNDTABLE__ADMIN__BIND: `127.0.0.1:${admin}`,
      ROUNDTABLE__SERVER__COMPRESSION: String(compression),
      ROUNDTABLE__AUTH__JWT__SECRET: SECRET,
      ROUNDTABLE__LIMITS__MESSAGES_PER_MINUTE: '0',
    },
  });
  const stop = () => {
    child.kill('SIGKILL');
    fs.rmSync(dir, { recursive: true, force: true });
  };
  process.on('exit', stop);
  await within('the node is ready', (async () => {
    for (;;) {
      const ready = await fetch(`http://127.0.0.1:${admin}/readyz`).then((answer) => answer.ok, () => false);
      if (ready) return;
      assert.strictEqual(child.exitCode, null, fs.readFileSync(path.join(dir, 'log'), 'utf8'));
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  })());
  return { url: `ws://127.0.0.1:${port}/ws`, http: `http://127.0.0.1:${port}`, stop };
}

class Client {
  static async open(url, user, options) {
    const client = new Client();
    client.frames = [];
    client.waiting = [];
    client.socket = new WebSocket(url, ['roundtable.v1.json'], options);
    client.socket.on('message', (data, binary) => {
      assert.strictEqual(binary, false);
      client.frames.push(JSON.parse(data.toString('utf8')));
      for (const wake of client.waiting.splice(0)) wake();
    });
    await within('open', new Promise((resolve, reject) => client.socket.once('open', resolve).once('error', reject)));
    const welcome = await client.ask({ type: 'hello', token: token(user) });
    assert.strictEqual(welcome.type, 'welcome', JSON.stringify(welcome));
    return client;
  }

  async find(what, wanted) {
    return within(what, (async () => {
      for (;;) {
        const found = this.frames.find(wanted);
        if (found) return found;
        await new Promise((resolve) => this.waiting.push(resolve));
      }
    })());
  }

  async ask(request, options = {}) {
    this.next = (this.next ?? 0) + 1;
    const ref = this.next;
    this.socket.send(JSON.stringify({ ...request, ref }), options);
    return this.find(`the answer to ${request.type}`, (frame) => frame.ref === ref);
  }

  async entry(seq) {
    const frame = await this.find(`entry ${seq}`, (f) => f.type === 'events' && f.events.some((e) => e.seq === seq));
    return frame.events.find((e) => e.seq === seq);
  }
}

// What a client may offer; `used`: whether the server takes it where compression is on.
const OFFERS = [
  ['off', { perMessageDeflate: false }, false],
  ['plain', { perMessageDeflate: { threshold: 0 } }, true],
  ['no context takeover', {
    perMessageDeflate: { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
  }, true],
  ['client_max_window_bits', { perMessageDeflate: { threshold: 0, clientMaxWindowBits: 10 } }, true],
  ['server_max_window_bits', { perMessageDeflate: { threshold: 0, serverMaxWindowBits: 15 } }, null],
  ['a small server window', { perMessageDeflate: { threshold: 0, serverMaxWindowBits: 9 } }, null],
];

async function main(program) {
  for (const compression of [true, false]) {
    const node = await startNode(program, compression);
    for (const [index, [name, options, used]] of OFFERS.entries()) {
      const room = `room-${index}`;
      const made = await fetch(`${node.http}/api/v1/rooms`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token('alice')}`, 'content-type': 'application/json' },
        body: JSON.stringify({ id: room, kind: 'public' }),
      });
      assert.strictEqual(made.status, 201, await made.text());
      const alice = await Client.open(node.url, 'alice', options);
      const plain = await Client.open(node.url, 'bob', { perMessageDeflate: false });
      const negotiated = 'permessage-deflate' in (alice.socket.extensions ? parsed(alice.socket.extensions) : {});
      if (!compression) assert.strictEqual(negotiated, false, `${name}: compression is off`);
      else if (used !== null) assert.strictEqual(negotiated, used, name);
      await alice.ask({ type: 'subscribe', room });
      await plain.ask({ type: 'subscribe', room });
      const texts = ['short', 'long '.repeat(700).trim(), 'ロ'.repeat(4000), crypto.randomBytes(1500).toString('hex'), '👋 again'];
      for (const [i, text] of texts.entries()) {
        // Compressed and not, whole and cut into fragments.
        const sent = await alice.ask({ type: 'send', room, id: `m${i}`, text }, { compress: i % 2 === 0 });
        assert.strictEqual(sent.seq, i + 1, JSON.stringify(sent));
        for (const reader of [alice, plain]) assert.strictEqual((await reader.entry(i + 1)).text, text, name);
      }
      const cut = Buffer.from(JSON.stringify({ type: 'send', ref: 900, room, id: 'cut', text: 'cut '.repeat(900).trim() }));
      alice.socket.send(cut.subarray(0, 1000), { fin: false, binary: false });
      alice.socket.send(cut.subarray(1000, 2000), { fin: false, binary: false });
      alice.socket.send(cut.subarray(2000), { fin: true, binary: false });
      const sent = await alice.find('the answer to the fragments', (frame) => frame.ref === 900);
      assert.strictEqual(sent.seq, texts.length + 1, JSON.stringify(sent));
      const history = await alice.ask({ type: 'history', room });
      assert.strictEqual(history.events.length, texts.length + 1);
      if (negotiated) await bomb(node, options);
      alice.socket.close();
      plain.socket.close();
      console.log(`ws: compression ${compression ? 'on' : 'off'}, offer "${name}": ${negotiated ? 'compressed' : 'plain'}, ok`);
    }
    node.stop();
  }
}

// A small frame that inflates beyond limits.frame_bytes ends its own connection and nothing else.
async function bomb(node, options) {
  const mallory = await Client.open(node.url, 'mallory', options);
  mallory.socket.send(JSON.stringify({ type: 'ping', padding: 'x'.repeat(30_000_000) }), { compress: true });
  const code = await within('the bomb is refused', new Promise((resolve) => mallory.socket.once('close', resolve)));
  assert.strictEqual(code, 1009);
}

function parsed(extensions) {
  return Object.fromEntries(String(extensions).split(',').map((part) => [part.split(';')[0].trim(), true]));
}

main(process.argv[2]).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
