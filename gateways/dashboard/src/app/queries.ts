import { QueryClient } from "@tanstack/react-query";
import { whenLoggedOut } from "../api/client";
import { connection, onConnection } from "../api/connection";
import { isProblem, ProblemError } from "../api/problem";
import { SESSION } from "../api/session";
import { onMissed } from "../api/stream";
import { attended, onAttention } from "./attention";

/** What passes by itself; all else is an answer. */
const PASSING = ["starting", "overloaded", "projection_behind", "too_many_requests"];

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      networkMode: "always",
      staleTime: 15_000,
      retry: (count, error) => count < 4 && isProblem(error, ...PASSING),
      retryDelay: (count, error) =>
        error instanceof ProblemError && error.retryAfterS !== null
          ? error.retryAfterS * 1000 + Math.random() * 500
          : Math.min(400 * 2 ** count, 5_000),
    },
    mutations: { networkMode: "always" },
  },
});

whenLoggedOut(() => {
  if (queries.getQueryData(SESSION) != null) queries.setQueryData(SESSION, null);
});

// Whoever comes back sees what is now.
onAttention(() => {
  if (attended()) void queries.invalidateQueries();
});

onMissed(() => {
  if (attended()) void queries.invalidateQueries();
});

let wasLost = false;
onConnection(() => {
  const { lost } = connection();
  // What happened meanwhile was missed: ask for all that is shown.
  if (wasLost && !lost) void queries.invalidateQueries({ refetchType: attended() ? "active" : "none" });
  wasLost = lost;
});
