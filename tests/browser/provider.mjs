// A small OpenID Connect provider: authorization code with PKCE, one client, and a page that asks whether it is you.
import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import http from "node:http";

export const CLIENT = "roundtable-test";
export const CLIENT_SECRET = "a client secret of the tests";

/** Listens. `back`: the only address that browsers are sent back to; `person`: the claims of whoever logs in. */
export async function provider(back, person) {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const codes = new Map();
  const one = { person, refuses: false };
  const pages = {
    "GET /.well-known/openid-configuration": () => [200, {
      issuer: one.issuer,
      authorization_endpoint: `${one.issuer}/authorize`,
      token_endpoint: `${one.issuer}/token`,
      jwks_uri: `${one.issuer}/jwks`,
      response_types_supported: ["code"],
      subject_types_supported: ["public"],
      id_token_signing_alg_values_supported: ["ES256"],
    }],
    "GET /jwks": () => [200, { keys: [{ ...publicKey.export({ format: "jwk" }), use: "sig", alg: "ES256", kid: "one" }] }],
    "GET /authorize": (asked) => {
      const right = asked.get("client_id") === CLIENT && asked.get("redirect_uri") === back && asked.get("response_type") === "code" &&
        asked.get("code_challenge_method") === "S256" && asked.get("nonce") && asked.get("state");
      if (!right) return [400, { error: "invalid_request" }];
      const to = new URL(back);
      to.searchParams.set("state", asked.get("state"));
      if (one.refuses) to.searchParams.set("error", "access_denied");
      else {
        const code = randomBytes(16).toString("hex");
        codes.set(code, { nonce: asked.get("nonce"), challenge: asked.get("code_challenge") });
        to.searchParams.set("code", code);
      }
      return [200, `<!doctype html><title>Login</title><a id="yes" href="${to.href.replaceAll("&", "&amp;")}">It is me</a>`];
    },
    "POST /token": (sent, request) => {
      const basic = `Basic ${Buffer.from(`${CLIENT}:${CLIENT_SECRET.replaceAll(" ", "+")}`).toString("base64")}`;
      if (request.headers.authorization !== basic) return [401, { error: "invalid_client" }];
      const asked = codes.get(sent.get("code"));
      codes.delete(sent.get("code"));
      const challenge = createHash("sha256").update(sent.get("code_verifier") ?? "").digest("base64url");
      if (challenge !== asked?.challenge || sent.get("redirect_uri") !== back) return [400, { error: "invalid_grant" }];
      const now = Math.floor(Date.now() / 1000);
      const claims = { iss: one.issuer, aud: CLIENT, iat: now, exp: now + 300, nonce: asked.nonce, ...one.person };
      const text = [{ alg: "ES256", kid: "one" }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
      const signed = sign("sha256", Buffer.from(text), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url");
      return [200, { access_token: "unused", token_type: "Bearer", expires_in: 300, id_token: `${text}.${signed}` }];
    },
  };
  const server = http.createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    const { pathname, searchParams } = new URL(request.url, one.issuer);
    const page = pages[`${request.method} ${pathname}`];
    const [status, answer] = page?.(request.method === "POST" ? new URLSearchParams(body) : searchParams, request) ?? [404, {}];
    const html = typeof answer === "string";
    response.writeHead(status, { "content-type": html ? "text/html" : "application/json" });
    response.end(html ? answer : JSON.stringify(answer));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  one.issuer = `http://127.0.0.1:${server.address().port}`;
  one.close = () => (server.closeAllConnections(), server.close());
  return one;
}
