import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useAfterEvents, usePolling } from "../app/events";
import { useTitle } from "../app/title";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Time } from "../ui/Time";

type Page = components["schemas"]["PageOf_ScriptModel_"];

/** The library: code in revisions that never change. */
export default function ScriptsPage() {
  useTitle("Scripts");
  const may = useMay();
  const client = useQueryClient();
  const [wanted, setWanted] = useState("");
  const [archived, setArchived] = useState(false);
  const scripts = useInfiniteQuery({
    queryKey: ["scripts", "list", archived],
    refetchInterval: usePolling(),
    initialPageParam: null as string | null,
    getNextPageParam: (page: Page) => page.next,
    queryFn: ({ pageParam }) => {
      const query = { archived, limit: 200, ...(pageParam === null ? {} : { cursor: pageParam }) };
      return ask(api.GET("/api/v1/scripts", { params: { query } }));
    },
  });
  useAfterEvents(
    (event) => event.type.startsWith("Script"),
    () => void client.invalidateQueries({ queryKey: ["scripts"] }),
  );
  const all = scripts.data?.pages.flatMap((page) => page.items) ?? [];
  const shown = all.filter((one) => `${one.name} ${one.description}`.toLowerCase().includes(wanted.toLowerCase()));
  return (
    <div className="page">
      <header>
        <h1>Scripts</h1>
        <div className="grow" />
        {may("scripts.manage") && (
          <Link href="/scripts/new" className="button primary">
            New script
          </Link>
        )}
      </header>
      <div className="row wrap">
        <input
          className="input grow"
          type="search"
          placeholder="Search by name or description"
          aria-label="Search scripts"
          value={wanted}
          onChange={(event) => setWanted(event.target.value)}
        />
        <button type="button" className="chip" aria-pressed={archived} onClick={() => setArchived(!archived)}>
          archived
        </button>
      </div>
      <Fault error={scripts.error} retry={() => scripts.refetch()} />
      {scripts.isSuccess && shown.length === 0 ? (
        <div className="empty">
          <h2>{all.length > 0 ? "No script fits" : archived ? "Nothing is archived" : "There is no script yet"}</h2>
          {all.length === 0 && !archived && (
            <p>A script is code that is kept, in revisions that never change: what ran a year ago can still be read.</p>
          )}
          {all.length === 0 && !archived && may("scripts.manage") && (
            <Link href="/scripts/new" className="button primary">
              Write the first one
            </Link>
          )}
        </div>
      ) : (
        <div className="card scroll-x">
          <table className="table">
            <thead>
              <tr>
                <th>Name</th>
                <th>Shell</th>
                <th>Platforms</th>
                <th>Revision</th>
                <th>Changed</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((one) => (
                <tr key={one.id}>
                  <td>
                    <Link href={`/scripts/${one.id}`} className="strong">
                      {one.name}
                    </Link>
                    {one.description && <div className="muted small">{one.description}</div>}
                  </td>
                  <td>{one.shell}</td>
                  <td>{one.platforms.length === 0 ? <span className="muted">all</span> : one.platforms.join(", ")}</td>
                  <td>{one.revision}</td>
                  <td>
                    <Time at={one.changed_at} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {scripts.hasNextPage && (
        <Button onClick={() => scripts.fetchNextPage()} busy={scripts.isFetchingNextPage}>
          More
        </Button>
      )}
    </div>
  );
}
