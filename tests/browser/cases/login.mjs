// Signing in by OpenID Connect: the button is there where a provider is set, leads there and back, and says so where it fails.
import assert from "node:assert/strict";
import { Person } from "../pages.mjs";
import { CLIENT, CLIENT_SECRET, provider } from "../provider.mjs";
import { balancer } from "../servers.mjs";

export default async function (world) {
  // An address that is known before the node is there.
  const before = await balancer([]);
  const back = `${before.url}/api/v1/oidc/callback`;
  const house = await provider(back, { sub: "s-1", preferred_username: "carol", name: "Carol C." });
  const node = await world.node({
    "auth.oidc.issuer": house.issuer, "auth.oidc.client_id": CLIENT, "auth.oidc.client_secret": CLIENT_SECRET,
    "auth.oidc.redirect_url": back, "auth.oidc.label": "Sign in at the house",
  });
  before.targets = [node];

  const carol = await Person.at(world.browser, before.url, "carol");
  const { page } = carol;
  await page.goto(before.url);
  await carol.shows("User name", ".door");
  assert.deepEqual(await carol.axe(), []);
  // Refused there: said, and one can try again.
  house.refuses = true;
  await carol.press("Sign in at the house", ".door");
  await page.waitForSelector("#yes");
  assert.equal(new URL(page.url()).origin, house.issuer);
  await carol.click("#yes");
  await carol.shows("Not logged in", "h1");
  await carol.press("go to the start");
  house.refuses = false;
  await carol.press("Sign in at the house", ".door");
  await page.waitForSelector("#yes");
  await carol.click("#yes");
  await page.waitForSelector(".sidebar");
  await carol.connected();
  await carol.shows("Carol C.", ".account");
  await page.reload();
  await carol.shows("Carol C.", ".account");
  await carol.click(".account");
  await carol.press("Sign out", "dialog");
  await page.waitForSelector(".door form");
  await carol.leave();
  await node.kill();

  // Where there is no provider, there is no button.
  const without = await world.node();
  const erin = await Person.at(world.browser, without.url, "erin");
  await erin.page.goto(without.url);
  await erin.page.waitForSelector(".door form");
  assert.equal(await erin.page.$(".door a.button"), null);
  await erin.leave();
  await without.kill();
  before.close();
  house.close();
}
