import type { components } from "./schema";

export type Problem = components["schemas"]["Problem"];

/** What the server refused, in its own words (RFC 9457). Match on `code` and on nothing else. */
export class ProblemError extends Error {
  constructor(
    readonly problem: Problem,
    readonly retryAfterS: number | null = null,
  ) {
    super(problem.detail);
    this.name = "ProblemError";
  }

  get code(): string {
    return this.problem.code;
  }

  /** What is wrong of one field of the body: `field("name")` finds `/name`. */
  field(name: string): string | undefined {
    return this.problem.errors?.find((one) => one.pointer === `/${name}`)?.detail;
  }
}

/** No answer came: the network, or the server, is away. */
export class OfflineError extends Error {
  constructor(cause?: unknown) {
    super("Fleetlog cannot be reached.", { cause });
    this.name = "OfflineError";
  }
}

export function isProblem(error: unknown, ...codes: string[]): error is ProblemError {
  return error instanceof ProblemError && (codes.length === 0 || codes.includes(error.code));
}

/** The key of a request that waits for another person: whoever asked for it is shown it at once. */
export function waitingSecret(error: unknown): string | null {
  return isProblem(error, "approval_awaited") ? (error.problem.secret ?? null) : null;
}

/** One line for a person, whatever was thrown. */
export function sentence(error: unknown): string {
  if (error instanceof ProblemError && error.problem.errors?.length) {
    const wrong = error.problem.errors.map((one) => `${one.pointer.replace(/^[/?]/, "") || "body"}: ${one.detail}`);
    return `${error.message} ${wrong.join(" ")}`;
  }
  return error instanceof Error ? error.message : String(error);
}
