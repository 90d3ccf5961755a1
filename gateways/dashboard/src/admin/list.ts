import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { api, ask } from "../api/client";
import { useMay, useMayEverywhere } from "../api/session";
import { useAfterEvents, usePolling } from "../app/events";

export const PAGE = 200;

interface Page<Item> {
  items: Item[];
  next: string | null;
}

/** A list that comes in pages, as it is just now.
 *
 * @param name of what it lists, as its query is called.
 * @param events are of a type that begins like one of these where the list may have changed.
 * @param read asks for one page.
 */
export function useList<Item>(
  name: string,
  events: readonly string[],
  read: (query: { limit: number; cursor?: string }) => Promise<Page<Item>>,
) {
  const client = useQueryClient();
  const again = () => client.invalidateQueries({ queryKey: ["admin", name] });
  const pages = useInfiniteQuery({
    queryKey: ["admin", name],
    refetchInterval: usePolling(),
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page<Item>) => page.next,
    queryFn: ({ pageParam }) => read({ limit: PAGE, ...(pageParam === null ? {} : { cursor: pageParam }) }),
  });
  useAfterEvents(
    (event) => events.some((one) => event.type.startsWith(one)),
    () => void again(),
  );
  return { pages, again, items: pages.data?.pages.flatMap((page) => page.items) ?? [] };
}

/** Clients and sites, as far as the person sees them, and what they are called. */
export function usePlaces() {
  const enabled = useMay()("clients.see");
  const query = { limit: 500 };
  const sites = useQuery({
    queryKey: ["sites"],
    enabled,
    queryFn: () => ask(api.GET("/api/v1/sites", { params: { query } })),
  }).data?.items;
  const clients = useQuery({
    queryKey: ["clients"],
    enabled,
    queryFn: () => ask(api.GET("/api/v1/clients", { params: { query } })),
  }).data?.items;
  const client = (id: string): string => clients?.find((one) => one.id === id)?.name ?? `client ${id.slice(-8)}`;
  const site = (id: string): string => {
    const found = sites?.find((one) => one.id === id);
    return found === undefined ? `site ${id.slice(-8)}` : `${client(found.client_id)} / ${found.name}`;
  };
  return { clients: clients ?? [], sites: sites ?? [], client, site };
}

/** Roles that can be given, for whom the server tells of them. */
export function useRoles() {
  const enabled = useMayEverywhere()("people.see");
  const roles = useQuery({
    queryKey: ["admin", "role-choice"],
    enabled,
    queryFn: () => ask(api.GET("/api/v1/roles", { params: { query: { limit: 500 } } })),
  });
  return (roles.data?.items ?? []).filter((one) => !one.retired);
}

/** So many days from now, as the server takes it. */
export function inDays(days: number): string {
  return new Date(Date.now() + days * 86_400_000).toISOString();
}
