// People at browsers: each in a context of their own, as on a machine of their own.
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { until } from "./servers.mjs";

const require = createRequire(join(process.env.BROWSER_MODULES, "/"));
const puppeteer = require("puppeteer-core");
export const axeSource = require("axe-core").source;

/** What nodes of these tests check tokens with. */
export const SECRET = "a secret of at least thirty-two bytes, for tests";

export async function launch() {
  return puppeteer.launch({
    executablePath: process.env.BROWSER_PROGRAM ?? "/usr/bin/chromium",
    // In a container there may be no sandbox; what is opened here is ours. Nor is there a graphics card: none is emulated.
    args: [
      "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--font-render-hinting=none", "--force-color-profile=srgb",
      // A page that another build was put into counts as one from elsewhere, which may not reach this machine.
      ...(process.env.BROWSER_DIST ? ["--disable-features=LocalNetworkAccessChecks"] : []),
    ],
    protocolTimeout: 120_000,
  });
}

/** Shows a build of the client other than the program's own: to try it without compiling the program. */
async function showsBuild(page, dist) {
  const cdp = await page.createCDPSession();
  const types = { js: "text/javascript", css: "text/css" };
  cdp.on("Fetch.requestPaused", async ({ requestId, request, responseStatusCode, responseHeaders }) => {
    const name = new URL(request.url).pathname.match(/^\/assets\/(.+)$/)?.[1];
    const shown = responseHeaders?.some(({ name, value }) => name.toLowerCase() === "content-security-policy" && /script-src/.test(value));
    const answer = (headers, file) =>
      cdp.send("Fetch.fulfillRequest", { requestId, responseCode: 200, responseHeaders: headers, body: readFileSync(join(dist, file)).toString("base64") });
    const dropped = ["content-length", "content-encoding", "etag"];
    const going = name
      ? answer([{ name: "content-type", value: types[name.split(".").at(-1)] }], name)
      : responseStatusCode === 200 && shown
        ? answer(responseHeaders.filter((one) => !dropped.includes(one.name.toLowerCase())), "index.html")
        : cdp.send("Fetch.continueRequest", { requestId });
    await going.catch(() => {});
  });
  await cdp.send("Fetch.enable", {
    patterns: [{ urlPattern: "*/assets/*", requestStage: "Request" }, { resourceType: "Document", requestStage: "Response" }],
  });
}

/** A token that makes its bearer an administrator. */
export function adminToken() {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const head = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "root", exp: Math.floor(Date.now() / 1000) + 3600, roles: ["admin"] })}`;
  return `${head}.${createHmac("sha256", SECRET).update(head).digest("base64url")}`;
}

/** The HTTP API, called by a person. */
export class Api {
  constructor(url, token) {
    Object.assign(this, { url, token });
  }

  static async register(url, user) {
    const { token } = await new Api(url).call("POST", "register", { user, password: passwordOf(user) });
    return new Api(url, token);
  }

  async call(method, path, body) {
    const response = await fetch(`${this.url}/api/v1/${path}`, {
      method,
      headers: { ...(this.token && { authorization: `Bearer ${this.token}` }), ...(body && { "content-type": "application/json" }) },
      ...(body && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  say(room, text, more = {}) {
    return this.call("POST", `rooms/${room}/messages`, { id: crypto.randomUUID(), text, ...more });
  }

  /** The whole log, as the server has it. */
  async log(room) {
    const entries = [];
    for (let after = 0; ; ) {
      const page = await this.call("GET", `rooms/${room}/messages?after=${after}&limit=200`);
      entries.push(...page.items);
      if (!page.more || page.items.length === 0) return entries;
      after = page.items.at(-1).seq;
    }
  }
}

export const passwordOf = (user) => `a long password of ${user}`;

export class Person {
  static async at(browser, url, user, { language = "en-US", dark = false, width = 1200, height = 800, before } = {}) {
    const person = new Person();
    person.user = user;
    person.url = url;
    person.context = await browser.createBrowserContext();
    await person.context.overridePermissions(url, ["clipboard-read", "clipboard-write", "clipboard-sanitized-write"]);
    person.complaints = [];
    person.settings = { language, dark, width, height, before };
    person.page = await person.tab();
    return person;
  }

  /** One more tab of the same browser, as the first is. */
  async tab() {
    const { language, dark, width, height, before } = this.settings;
    const page = await this.context.newPage();
    if (process.env.BROWSER_DIST) await showsBuild(page, process.env.BROWSER_DIST);
    page.on("error", (error) => {
      page.fell = true;
      console.log(`        a page of ${this.user} fell over: ${error.message}`);
    });
    page.on("pageerror", (error) => this.complaints.push(String(error.stack ?? error)));
    page.on("dialog", (dialog) => {
      this.complaints.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on("console", (message) => {
      if (/Content Security Policy|violates/i.test(message.text())) this.complaints.push(message.text());
    });
    await page.setViewport({ width, height });
    await page.setExtraHTTPHeaders({ "Accept-Language": language });
    await page.evaluateOnNewDocument((tag) => {
      Object.defineProperty(navigator, "languages", { get: () => [tag] });
      Object.defineProperty(navigator, "language", { get: () => tag });
    }, language);
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
    if (before) await page.evaluateOnNewDocument(before);
    return page;
  }

  /** Signs in through the form. */
  async signIn(path = "/") {
    const { page } = this;
    await page.goto(this.url + path);
    await page.waitForSelector("[name=username]");
    await page.type("[name=username]", this.user);
    await page.type("[name=password]", passwordOf(this.user));
    await this.click("button[type=submit]");
    await page.waitForSelector(".sidebar");
    return this;
  }

  /** Opens a room that the list shows. */
  async open(room) {
    const link = `.room[href="/r/${room}"]`;
    await this.page.waitForSelector(link);
    await this.click(link);
    await this.page.waitForSelector(`${link}[aria-current]`);
    await this.page.waitForSelector(".composer textarea, .cannot-write");
    await this.connected();
  }

  async connected() {
    await this.page.waitForSelector('.connection[data-state="live"]', { timeout: 30_000 });
  }

  async write(text) {
    await this.page.focus(".composer textarea");
    await this.page.keyboard.type(text);
  }

  async says(text) {
    await this.write(text);
    await this.page.keyboard.press("Enter");
  }

  /** Says very many things in a room: past the page, by connections of its own, each with a window full on the way. */
  async pours(room, texts, { connections = 8, window = 48 } = {}) {
    const tab = await this.tab();
    // A page of the server's that runs nothing, whose own policy would let nothing out.
    await tab.setBypassCSP(true);
    await tab.goto(`${this.url}/icon.svg`);
    await tab.evaluate(
      async (where, all, among, most) => {
        let next = 0;
        const one = () =>
          new Promise((resolve, reject) => {
            const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws`, ["roundtable.v1.json"]);
            let going = 0;
            const more = () => {
              for (; going < most && next < all.length; going++, next++) {
                socket.send(JSON.stringify({ type: "send", ref: next + 1, room: where, id: `poured-${next}`, text: all[next] }));
              }
              if (going === 0) resolve(socket.close(1000));
            };
            socket.onopen = () => socket.send(JSON.stringify({ type: "hello", ref: 0 }));
            socket.onclose = (event) => reject(new Error(`the connection ended: ${event.code} ${event.reason}`));
            socket.onmessage = ({ data }) => {
              const frame = JSON.parse(data);
              if (frame.type === "error") reject(new Error(data));
              else if (frame.ref > 0) going--;
              if (frame.ref >= 0) more();
            };
          });
        await Promise.all(Array.from({ length: among }, one));
      },
      room, texts, connections, window,
    );
    await tab.close();
    await this.page.bringToFront();
  }

  /** The texts that stand in the list now, from top to bottom. */
  texts() {
    return this.page.$$eval(".timeline .message .text", (all) => all.map((one) => one.textContent));
  }

  async sees(text, within = 20_000) {
    await until(`${this.user} sees “${text}”`, async () => (await this.texts()).includes(text), { within });
  }

  /** The row of the message with a text. */
  async row(text) {
    await this.sees(text);
    const rows = await this.page.$$(".timeline .message");
    for (const row of rows) {
      if ((await row.$eval(".text", (one) => one.textContent)) === text) return row;
    }
    throw new Error(`no row “${text}”`);
  }

  /** Uses a tool of a message. */
  tool(text, label) {
    return this.hit(`“${label}” of “${text}”`, async () => {
      const row = await this.row(text);
      await row.hover();
      return row.waitForSelector(`.tools [aria-label="${label}"]`, { timeout: 2_000 });
    });
  }

  async menu(text, label) {
    await this.tool(text, "More");
    await this.press(label, ".popover");
  }

  /** Presses the button with a text or label, within something. */
  press(label, within = "body") {
    return this.hit(`“${label}”`, () =>
      this.page.waitForFunction(
        (wanted, scope) => {
          const of = [...document.querySelectorAll(`:is(${scope}) :is(button, a, summary)`)];
          return of.find((one) => [one.textContent?.trim(), one.getAttribute("aria-label")].includes(wanted)) ?? null;
        },
        { timeout: 10_000 },
        label,
        within,
      ),
    );
  }

  click(selector) {
    return this.hit(selector, () => this.page.waitForSelector(selector));
  }

  /** Clicks what `find` finds, as somebody does who looks where it is: once it stands still, and again where it moved, or was drawn
   * anew, before the click came to it. */
  async hit(what, find) {
    await until(`${what} is clicked`, async () => {
      const element = await find();
      await this.still(element);
      const came = await element.evaluateHandle((one) => {
        const came = { click: false };
        one.addEventListener("click", () => (came.click = true), { capture: true, once: true });
        return came;
      });
      await element.click();
      // Where it led to another page there is nobody left to ask.
      return came.evaluate(({ click }) => click).catch((error) => /destroyed|detached|closed|disposed/i.test(error.message));
    });
  }

  /** Waits until an element stays in its place from one frame to the next. */
  async still(element) {
    await element.evaluate(async (one) => {
      const place = () => Object.values(one.getBoundingClientRect().toJSON()).join();
      for (let at = 0, before = null; at < 20 && before !== (before = place()); at++) {
        await new Promise((resolve) => (requestAnimationFrame(resolve), setTimeout(resolve, 100)));
      }
    });
  }

  async fill(label, text) {
    await until(`“${label}” is filled in`, async () => {
      const element = await this.page.waitForFunction(
        (wanted) => {
          const field = [...document.querySelectorAll("label")].find((one) => one.textContent?.trim() === wanted);
          return field?.control ?? [...document.querySelectorAll("input, select, textarea")].find((one) => one.getAttribute("aria-label") === wanted);
        },
        { timeout: 10_000 },
        label,
      );
      if (await element.evaluate((one) => one.tagName === "SELECT")) return element.select(text);
      await this.still(element);
      await element.click({ count: 3 });
      await element.type(text);
      return element.evaluate((one, wanted) => one.value === wanted, text);
    });
  }

  async shows(text, within = "body") {
    await this.page
      .waitForFunction((wanted, scope) => [...document.querySelectorAll(scope)].some((one) => one.textContent?.includes(wanted)), { timeout: 20_000 }, text, within)
      .catch(async () => {
        const there = await this.page.$eval("body", (body) => body.innerText);
        throw new Error(`“${text}” is not shown to ${this.user}, but:\n${there.slice(0, 1_500)}`);
      });
  }

  /** Serious things that axe-core finds. */
  async axe() {
    await this.page.evaluate(axeSource);
    const { violations } = await this.page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    return violations
      .filter((one) => one.impact === "serious" || one.impact === "critical")
      .map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`).join(" | ")}`);
  }

  async leave() {
    if (this.complaints.length > 0) throw new Error(`${this.user}'s page complains: ${this.complaints.join("\n")}`);
    await this.context.close();
  }
}
