import { useInfiniteQuery } from "@tanstack/react-query";
import { memo, useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { usePolling } from "../app/events";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { figure } from "../ui/figure";
import { More } from "../ui/More";

type Clients = components["schemas"]["PageOf_ClientModel_"];

export interface Place {
  client?: string;
  site?: string;
}

interface Props {
  place: Place;
  onPlace: (place: Place) => void;
}

/** Clients and their sites, with how many machines each has and how many of them are online. The list of machines beside
 * it is drawn anew with each change, and may hold hundreds of clients up no more than once. */
export const Places = memo(function Places({ place, onPlace }: Props) {
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set(place.client === undefined ? [] : [place.client]));
  const clients = useInfiniteQuery({
    queryKey: ["places", "clients"],
    refetchInterval: usePolling(),
    initialPageParam: null as string | null,
    getNextPageParam: (page: Clients) => page.next,
    queryFn: ({ pageParam }) => {
      const query = { limit: 200, ...(pageParam === null ? {} : { cursor: pageParam }) };
      return ask(api.GET("/api/v1/clients", { params: { query } }));
    },
  });
  const toggle = (id: string): void => {
    const next = new Set(open);
    if (!next.delete(id)) next.add(id);
    setOpen(next);
  };
  const all = clients.data?.pages.flatMap((page) => page.items) ?? [];
  // Whoever looks for machines looks past clients that have none.
  const ordered = [...all.filter((client) => client.agents > 0), ...all.filter((client) => client.agents === 0)];
  return (
    <nav className="places" aria-label="Clients and sites">
      <ul>
        <li>
          <button type="button" aria-pressed={place.client === undefined} onClick={() => onPlace({})}>
            <span className="grow">All clients</span>
          </button>
        </li>
        {ordered.map((client) => (
          <li key={client.id}>
            <div className="row place">
              <button
                type="button"
                className="twist"
                aria-expanded={open.has(client.id)}
                aria-label={`Sites of ${client.name}`}
                onClick={() => toggle(client.id)}
              >
                {open.has(client.id) ? "▾" : "▸"}
              </button>
              <button
                type="button"
                aria-pressed={place.client === client.id && place.site === undefined}
                onClick={() => onPlace({ client: client.id })}
              >
                <span className="grow clip">{client.name}</span>
                <Roll agents={client.agents} online={client.online} />
              </button>
            </div>
            {open.has(client.id) && <Sites client={client.id} place={place} onPlace={onPlace} />}
          </li>
        ))}
      </ul>
      <Fault error={clients.error} />
      {clients.hasNextPage && (
        <Button look="plain tiny" onClick={() => clients.fetchNextPage()} busy={clients.isFetchingNextPage}>
          More clients
        </Button>
      )}
    </nav>
  );
});

function Sites({ client, place, onPlace }: Props & { client: string }) {
  // What happens renews all places together.
  const { pages, items } = useList(["places", "sites", client], [], (query) =>
    ask(api.GET("/api/v1/clients/{client_id}/sites", { params: { path: { client_id: client }, query } })),
  );
  return (
    <ul>
      {items.map((site) => (
        <li key={site.id}>
          <button
            type="button"
            className="site"
            aria-pressed={place.site === site.id}
            onClick={() => onPlace({ client, site: site.id })}
          >
            <span className="grow clip">{site.name}</span>
            <Roll agents={site.agents} online={site.online} />
          </button>
        </li>
      ))}
      {pages.hasNextPage && (
        <li>
          <More of={pages}>More sites</More>
        </li>
      )}
    </ul>
  );
}

function Roll({ agents, online }: { agents: number; online: number }) {
  return (
    <span className="muted small nowrap" title={`${figure(online)} of ${figure(agents)} online`}>
      {figure(online)}/{figure(agents)}
    </span>
  );
}
