// Japanese is typed by an input method: Enter chooses its words, and must not send half of them. And whatever is typed is text.
import assert from "node:assert/strict";
import { Api, Person } from "../pages.mjs";
import { until } from "../servers.mjs";

const HOSTILE = [
  "<script>globalThis.hit = 1</script>",
  "<img src=x onerror=\"globalThis.hit = 2\">",
  "\"><svg/onload=globalThis.hit=3>",
  "javascript:globalThis.hit=4",
  "https://example.org/\"onmouseover=\"globalThis.hit=5",
  "`<b onclick=globalThis.hit=6>x</b>`",
  "```\n<iframe srcdoc='<script>parent.hit=7</script>'></iframe>\n```",
  "{{constructor.constructor('globalThis.hit=8')()}}",
  "@<img src=x onerror=globalThis.hit=9>",
  "\u202Eevil\u202C &lt;b&gt; \u0000".replace("\u0000", ""),
];

export default async function (world) {
  const [node] = await world.shared();
  const api = await Api.register(node.url, "dave");
  const name = "<img src=x onerror=\"globalThis.hit=10\">";
  await api.call("POST", "rooms", { id: "typing", kind: "public", name, topic: "<script>globalThis.hit=11</script>" });
  const dave = await Person.at(world.browser, node.url, "dave", { language: "ja-JP" });
  await dave.signIn();
  await dave.open("typing");
  await dave.shows("ルーム", ".sidebar");
  const { page } = dave;
  const cdp = await page.createCDPSession();
  await page.focus(".composer textarea");
  const value = () => page.$eval(".composer textarea", (one) => one.value);

  // As Chromium tells of an input method: while it composes, keys come as number 229.
  const compose = (text) => cdp.send("Input.imeSetComposition", { text, selectionStart: text.length, selectionEnd: text.length });
  const key = async (name) => {
    await cdp.send("Input.dispatchKeyEvent", { type: "rawKeyDown", windowsVirtualKeyCode: 229, key: name, code: name });
    await cdp.send("Input.dispatchKeyEvent", { type: "keyUp", windowsVirtualKeyCode: 13, key: name, code: name });
  };
  for (const step of ["k", "か", "かい", "かいg", "かいぎ"]) {
    await key("Process");
    await compose(step);
  }
  await key("Enter");
  await compose("会議");
  await key("Enter");
  assert.deepEqual(await dave.texts(), [], "nothing is sent while it composes");
  // Browsers that say it by the flag alone, or by the number alone.
  await page.$eval(".composer textarea", (one) => {
    for (const sign of [{ isComposing: true }, { keyCode: 229 }]) {
      one.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", code: "Enter", bubbles: true, cancelable: true, ...sign }));
    }
  });
  assert.deepEqual(await dave.texts(), [], "nor then");
  await cdp.send("Input.insertText", { text: "会議" });
  assert.equal(await value(), "会議", "what was composed stands in the field");
  await compose("は");
  await cdp.send("Input.insertText", { text: "は三時です。" });
  await page.keyboard.press("Enter");
  await dave.sees("会議は三時です。");
  assert.equal(await value(), "");
  // Completion of mentions keeps out of the way of the method, too.
  await cdp.send("Input.insertText", { text: "@" });
  await compose("み");
  await key("Enter");
  await cdp.send("Input.insertText", { text: "みんな" });
  await page.keyboard.press("Enter");
  await dave.sees("@みんな");
  assert.equal((await dave.texts()).length, 2);

  for (const text of HOSTILE) await api.say("typing", text);
  await page.keyboard.type("<b>typed</b>");
  await page.keyboard.press("Enter");
  await dave.sees("<b>typed</b>");
  await until("all of it is there", async () => (await page.$$(".timeline .message")).length === HOSTILE.length + 3);
  const texts = (await dave.texts()).join("\n");
  for (const text of HOSTILE) {
    const shown = text.replaceAll("```\n", "").replaceAll("\n```", "").replaceAll("`", "");
    assert.ok(texts.includes(shown), `as text: ${text}`);
  }
  const found = await page.evaluate(() => ({
    hit: globalThis.hit,
    title: document.querySelector(".room-head h1").textContent,
    elements: [...document.querySelectorAll(".timeline .text *, .room-head h1 *, .sidebar .title *")].map((one) => one.tagName),
    links: [...document.querySelectorAll(".timeline .text a")].map((one) => one.href),
  }));
  assert.equal(found.hit, undefined, "nothing ran");
  assert.ok(found.title.includes(name));
  assert.deepEqual([...new Set(found.elements)].filter((tag) => !["A", "CODE", "PRE", "SPAN"].includes(tag)), []);
  assert.ok(found.links.every((href) => /^https?:/.test(href)), found.links.join(" "));
  await dave.leave();
}
