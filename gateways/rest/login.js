// The page that a login through a provider begins at and comes back to. Whatever is decided is decided by the API.
"use strict";

const API = "/api/v1";
const RETURN_TO = "fleetlog-return-to";
const by = (id) => document.getElementById(id);

function say(text) {
  by("says").textContent = text;
}

async function ask(method, path, body, headers = {}) {
  const response = await fetch(API + path, {
    method,
    headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.detail), { code: answer.code });
  return answer;
}

/** Where to go on: a path of this very server, or nowhere. */
function goOn() {
  const wanted = sessionStorage.getItem(RETURN_TO);
  sessionStorage.removeItem(RETURN_TO);
  if (wanted === null) return;
  const target = new URL(wanted, location.origin);
  if (target.origin === location.origin) location.replace(target);
}

async function begin() {
  by("begin").disabled = true;
  const offered = await ask("POST", "/session/sso/offer", {});
  location.assign(offered.url);
}

async function logIn(state, name, code) {
  const session = await ask("POST", "/session/sso", code === null ? { state } : { state, code });
  by("code-form").hidden = true;
  say(session.pending.length === 0 ? `You are logged in as ${name}.` : `Logged in as ${name}; still to do: ${session.pending.join(", ")}.`);
  goOn();
}

async function finish(query) {
  const state = query.get("state") ?? "";
  const [kind] = state.split(".", 1);
  // What is in the address is good once, and nobody needs to find it in the history.
  history.replaceState(null, "", location.pathname);
  if (/^[0-9]{4,5}$/.test(kind)) {
    say("Go back to your terminal.");
    location.replace(`http://127.0.0.1:${kind}/?${query}`);
    return;
  }
  if (kind === "t") {
    say("Did you begin this yourself, in a terminal? Then copy this into it. Give it to nobody who asks you for it: it logs them in as you.");
    by("copied").value = query.toString();
    by("copied").hidden = false;
    by("copied").select();
    return;
  }
  const given = (name) => query.get(name) ?? undefined;
  const answer = { state, code: given("code"), error: given("error"), iss: given("iss") };
  if (kind === "p") {
    const session = await ask("GET", "/session");
    await ask("POST", "/session/proof/sso", answer, { "X-CSRF-Token": session.csrf_token });
    say("Thank you; go on.");
    goOn();
    return;
  }
  const known = await ask("POST", "/session/sso/answer", answer);
  if (!known.code_needed) {
    await logIn(state, known.name, null);
    return;
  }
  say(`Hello, ${known.name}.`);
  by("code-form").hidden = false;
  by("code").focus();
  by("code-form").addEventListener("submit", (event) => {
    event.preventDefault();
    logIn(state, known.name, by("code").value).catch(failed);
  });
}

function failed(error) {
  say(error.message);
  const mayTryAgain = error.code === "login_refused" || error.code === "code_needed" || error.code === "locked_out";
  if (by("code-form").hidden || !mayTryAgain) {
    by("code-form").hidden = true;
    by("begin").hidden = false;
    by("begin").disabled = false;
  }
}

async function start() {
  const query = new URLSearchParams(location.search);
  by("begin").addEventListener("click", () => begin().catch(failed));
  const { available, name } = await ask("GET", "/session/sso");
  by("begin").textContent = `Log in with ${name}`;
  if (query.has("state")) {
    await finish(query);
    return;
  }
  if (query.has("return_to")) sessionStorage.setItem(RETURN_TO, query.get("return_to"));
  by("begin").hidden = !available;
  say(available ? "" : "Nobody logs in through a provider here.");
}

start().catch(failed);
