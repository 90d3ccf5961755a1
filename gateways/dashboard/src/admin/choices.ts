import { useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";
import { api, ask } from "../api/client";
import { useMay, useMayEverywhere } from "../api/session";
import { useAfterEvents } from "../app/events";
import { useEvery } from "../app/every";
import type { Option } from "../ui/Pick";

/** Clients and sites, as far as the person sees them, and what they are called. */
export function usePlaces() {
  const enabled = useMay()("clients.see");
  const sites = useEvery(["sites"], (query) => ask(api.GET("/api/v1/sites", { params: { query } })), enabled);
  const clients = useEvery(["clients"], (query) => ask(api.GET("/api/v1/clients", { params: { query } })), enabled);
  const named = useMemo(() => new Map(clients.items.map((one) => [one.id, one.name])), [clients.items]);
  const client = (id: string): string => named.get(id) ?? `client ${id.slice(-8)}`;
  const site = (id: string): string => {
    const found = sites.items.find((one) => one.id === id);
    return found === undefined ? `site ${id.slice(-8)}` : `${client(found.client_id)} / ${found.name}`;
  };
  return { clients, sites, named, client, site };
}

/** The same to choose from, as it is just now: clients by name, and sites by their clients' names. */
export function usePlaceChoice() {
  const cache = useQueryClient();
  const { clients, sites, named } = usePlaces();
  useAfterEvents(
    (event) => /^(Client|Site)(Created|Renamed)$/.test(event.type),
    () => {
      for (const key of ["clients", "sites"]) void cache.invalidateQueries({ queryKey: [key] });
    },
  );
  const clientOptions = clients.items.map((one): Option => ({ value: one.id, label: one.name }));
  // There may be thousands: they are put in order once.
  const siteOptions = useMemo(
    () =>
      sites.items
        .map((one): Option => ({ value: one.id, label: `${named.get(one.client_id) ?? "?"} / ${one.name}` }))
        .sort((one, other) => one.label.localeCompare(other.label)),
    [sites.items, named],
  );
  return { clients, sites, clientOptions, siteOptions };
}

/** Roles that can be given, for whom the server tells of them. */
export function useRoles() {
  const enabled = useMayEverywhere()("roles.see");
  const roles = useEvery(
    ["admin", "role-choice"],
    (query) => ask(api.GET("/api/v1/roles", { params: { query } })),
    enabled,
  );
  return { more: roles.more, items: roles.items.filter((one) => !one.retired) };
}

/** So many days from now, as the server takes it. */
export function inDays(days: number): string {
  return new Date(Date.now() + days * 86_400_000).toISOString();
}
