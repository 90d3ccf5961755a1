// A certified OpenID provider (the npm package oidc-provider), with its own pages for logging in and agreeing.
//
// Prints its address; reads the address of the API that it serves, and prints "ready"; ends with its standard input.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Provider } from "oidc-provider";

const [, , clientId, clientSecret] = process.argv;
let answer = (_, response) => response.writeHead(503).end();
const server = createServer((request, response) => answer(request, response));
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
console.log(issuer);

const lines = createInterface({ input: process.stdin });
lines.on("close", () => process.exit());
lines.once("line", (api) => {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: clientId,
        client_secret: clientSecret,
        redirect_uris: [`${api}/login/sso`],
        post_logout_redirect_uris: [`${api}/login/sso`],
        backchannel_logout_uri: `${api}/api/v1/session/sso/logout`,
        backchannel_logout_session_required: true,
      },
    ],
    claims: { openid: ["sub"], email: ["email", "email_verified"] },
    cookies: { keys: ["of a test"] },
    features: { backchannelLogout: { enabled: true } },
    jwks: { keys: [privateKey.export({ format: "jwk" })] },
    // By itself it asks nobody on the loopback, and the API is there.
    fetch: (url, { dispatcher: _, ...options }) => fetch(url, options),
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  });
  provider.on("server_error", (_, error) => console.error(error));
  provider.on("backchannel.error", (_, error) => console.error(error));
  answer = provider.callback();
  console.log("ready");
});
