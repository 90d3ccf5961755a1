import createClient, { type Middleware } from "openapi-fetch";
import { answered, notAnswered } from "./connection";
import { OfflineError, type Problem, ProblemError } from "./problem";
import type { paths } from "./schema";

/** How long after a change reads ask for what it did: the read models are milliseconds behind the log. */
const OWN_WRITES_MS = 5_000;

let csrfToken: string | null = null;
let lastWrite = { position: 0, at: 0 };
let onLoggedOut: () => void = () => {};

export function keepToken(token: string | null): void {
  csrfToken = token;
}

/** Called when an answer says that nobody is logged in any more. */
export function whenLoggedOut(callback: () => void): void {
  onLoggedOut = callback;
}

const ours: Middleware = {
  onRequest({ request }) {
    if (request.method === "GET") {
      if (Date.now() - lastWrite.at < OWN_WRITES_MS) {
        request.headers.set("Fleetlog-Wait-Position", String(lastWrite.position));
      }
    } else if (csrfToken !== null) {
      request.headers.set("X-CSRF-Token", csrfToken);
    }
    return request;
  },
  onResponse({ request, response }) {
    answered();
    const position = Number(response.headers.get("Fleetlog-Position"));
    if (request.method !== "GET" && position > lastWrite.position) lastWrite = { position, at: Date.now() };
    return undefined;
  },
  onError({ error }) {
    if (error instanceof DOMException && error.name === "AbortError") return error;
    notAnswered();
    return new OfflineError(error);
  },
};

// `fetch` by name at each call, so that what a test puts in its place is used.
export const api = createClient<paths>({ baseUrl: "", fetch: (request) => fetch(request) });
api.use(ours);

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The data of an answer.
 *
 * @throws ProblemError where the server refused, OfflineError where it did not answer.
 */
export async function ask<T>(call: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await call;
  if (response.ok) return data as T;
  throw refused(response, error);
}

/** The error that an answer stands for. */
export function refused(response: Response, body: unknown): Error {
  const retry = Number(response.headers.get("Retry-After")) || null;
  if (typeof body === "object" && body !== null && "code" in body) {
    const problem = body as Problem;
    if (problem.code === "unauthenticated" || problem.code === "no_session") onLoggedOut();
    if (problem.code === "log_unavailable") notAnswered();
    return new ProblemError(problem, retry);
  }
  if (response.status >= 502) {
    // A proxy answers for a server that is away.
    notAnswered();
    return new OfflineError();
  }
  return new Error(`The server answered ${response.status}, and not in its own words.`);
}
