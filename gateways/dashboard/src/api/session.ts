import { useQuery, useQueryClient } from "@tanstack/react-query";
import { api, ask, keepToken } from "./client";
import { isProblem } from "./problem";
import type { components } from "./schema";

export type Session = components["schemas"]["CurrentModel"];
export type Me = components["schemas"]["MeModel"];
export type Permission = components["schemas"]["Permission"];

export const SESSION = ["session"] as const;
export const ME = ["me"] as const;

/** The session of this browser; null where nobody is logged in. */
export function useSession() {
  return useQuery({
    queryKey: SESSION,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: async (): Promise<Session | null> => {
      try {
        const session = await ask(api.GET("/api/v1/session"));
        keepToken(session.csrf_token);
        return session;
      } catch (error) {
        if (isProblem(error, "unauthenticated", "no_session")) return null;
        throw error;
      }
    },
  });
}

/** Who is logged in, and what they may do. Only asked once their login is in order. */
export function useMe(): Me | undefined {
  const session = useSession().data;
  const ready = session != null && session.pending.length === 0;
  return useQuery({
    queryKey: ME,
    enabled: ready,
    staleTime: 60_000,
    queryFn: () => ask(api.GET("/api/v1/me")),
  }).data;
}

/** Whether the person may do something anywhere. The server judges each request; this only leaves out what it would
 * refuse everywhere. */
export function useMay(): (permission: Permission) => boolean {
  const me = useMe();
  return (permission) => me?.may.some((one) => one.permission === permission) ?? false;
}

/** Whether the person may do something at a client or, where it is named, at one of its sites. */
export function useMayAt(): (permission: Permission, client: string, site?: string) => boolean {
  const me = useMe();
  return (permission, client, site) =>
    me?.may.some(
      ({ permission: given, over }) =>
        given === permission &&
        (over.everything || over.clients.includes(client) || (site !== undefined && over.sites.includes(site))),
    ) ?? false;
}

/** Whether the person may do something over everything, as what belongs to no client asks for. */
export function useMayEverywhere(): (permission: Permission) => boolean {
  const me = useMe();
  return (permission) => me?.may.some((one) => one.permission === permission && one.over.everything) ?? false;
}

/** Go on after an answer that began, renewed or ended a session. */
export function useSessionChanged(): (csrf: string | null) => Promise<void> {
  const client = useQueryClient();
  return async (csrf) => {
    keepToken(csrf);
    // It may be another person: nothing that was shown before is shown again.
    client.removeQueries({ predicate: (query) => query.queryKey[0] !== SESSION[0] });
    await client.resetQueries({ queryKey: SESSION });
  };
}
