import { useQuery } from "@tanstack/react-query";
import { api, ask } from "../api/client";
import { useMay, useMayEverywhere } from "../api/session";

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
