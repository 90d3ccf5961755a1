import { useQueries } from "@tanstack/react-query";
import { api, ask } from "./client";
import type { components } from "./schema";

export type Named = components["schemas"]["NameModel"];

/** As many as the server names at once. */
const MOST = 200;
const GATHER_MS = 15;
const FRESH_MS = 60_000;
const ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Whether it is an id that the server may know the name of: gateways, for one, call themselves what they like. */
export function isId(text: string): boolean {
  return ID.test(text);
}

interface Asked {
  id: string;
  resolve: (found: Named | null) => void;
  reject: (error: unknown) => void;
}

let asked: Asked[] = [];

/** What one is called. All that are asked for within a moment share a request. */
function nameOf(id: string): Promise<Named | null> {
  return new Promise((resolve, reject) => {
    asked.push({ id, resolve, reject });
    if (asked.length === 1) setTimeout(send, GATHER_MS);
  });
}

function send(): void {
  const all = asked;
  asked = [];
  for (let first = 0; first < all.length; first += MOST) void answer(all.slice(first, first + MOST));
}

async function answer(some: readonly Asked[]): Promise<void> {
  try {
    const query = { id: some.map((one) => one.id) };
    const { items } = await ask(api.GET("/api/v1/names", { params: { query } }));
    const found = new Map(items.map((one) => [one.id, one]));
    for (const one of some) one.resolve(found.get(one.id) ?? null);
  } catch (error) {
    for (const one of some) one.reject(error);
  }
}

/** What these are called, as far as they are anything with a name that the person sees. */
export function useNames(ids: readonly string[]): ReadonlyMap<string, Named> {
  const answers = useQueries({
    queries: [...new Set(ids.filter(isId))].map((id) => ({
      queryKey: ["names", id],
      staleTime: FRESH_MS,
      queryFn: () => nameOf(id),
    })),
  });
  return new Map(answers.flatMap(({ data }) => (data ? [[data.id, data] as const] : [])));
}

const PAGES: Partial<Record<Named["kind"], string>> = { agent: "/agents", script: "/scripts", rollout: "/rollouts" };

/** The page of what has a name, where it has one. */
export function pageOf(one: Named): string | undefined {
  const page = PAGES[one.kind];
  return page === undefined ? undefined : `${page}/${one.id}`;
}
