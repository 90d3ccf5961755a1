import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Link, useLocation, useSearch } from "wouter";
import { useMay } from "../api/session";
import { useKeys } from "../app/keys";
import { useTitle } from "../app/title";
import { useWaitingMachines } from "../app/waiting";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { useAgents, useCounts } from "./agents";
import { BulkBar } from "./BulkBar";
import { ColumnChoice } from "./ColumnChoice";
import { columnNames, namedColumns, useColumnChoice } from "./columns";
import { type Filter, parse } from "./filter";
import { type Place, Places } from "./Places";
import { SearchBox } from "./SearchBox";
import { StatusChips } from "./StatusChips";
import { count, isOf, joined, NONE, only, type Selection, toggled } from "./selection";
import { Table } from "./Table";
import { type Look, Views } from "./Views";
import "./fleet.css";
import { figure } from "../ui/figure";

const RunDialog = lazy(() => import("../run/RunDialog"));
const TagDialog = lazy(() => import("./TagDialog"));
/** The list of machines, as its address says: ?f= what was typed, ?client= ?site= where, ?sort= in which order,
 * ?columns= with what. */
export default function FleetPage() {
  useTitle("Fleet");
  const may = useMay();
  const [, go] = useLocation();
  const params = new URLSearchParams(useSearch());
  const asked = params.get("f") ?? "";
  const [text, setText] = useState(asked);
  // The address follows what is typed; where it changes by itself, as by a link or the palette, the box follows it.
  useEffect(() => setText(asked), [asked]);
  const [places, setPlaces] = useState(false);
  const [ownColumns, setOwnColumns] = useColumnChoice();
  const [cursor, setCursor] = useState(-1);
  const [chosen, setSelection] = useState<Selection>(NONE);
  const [running, setRunning] = useState<{ on: Selection; name: string | undefined } | null>(null);
  const [tagging, setTagging] = useState<Selection | null>(null);
  const search = useRef<HTMLInputElement>(null);
  const anchor = useRef(-1);

  const client = params.get("client") ?? undefined;
  const site = params.get("site") ?? undefined;
  const sort = params.get("sort") ?? "name";
  const named = params.get("columns");
  const columns = useMemo(() => namedColumns(named?.split(",") ?? []) ?? ownColumns, [named, ownColumns]);
  const typed = usePaced(text, 30);
  const { filter, wrong } = useMemo(() => {
    const parsed = parse(typed);
    const at: Filter = { ...(client && !site ? { client_id: client } : {}), ...(site ? { site_id: site } : {}) };
    return { filter: { ...parsed.filter, ...at }, wrong: parsed.wrong };
  }, [typed, client, site]);

  // All that match are no longer meant once something else is asked for.
  const selection = isOf(chosen, filter) ? chosen : NONE;

  const update = useCallback(
    (changes: Record<string, string | undefined>): void => {
      const next = new URLSearchParams(window.location.search);
      for (const [name, value] of Object.entries(changes)) {
        if (value) next.set(name, value);
        else next.delete(name);
      }
      const told = next.toString();
      go(told === "" ? "/" : `/?${told}`, { replace: true });
    },
    [go],
  );
  const place = useMemo<Place>(() => ({ ...(client && { client }), ...(site && { site }) }), [client, site]);
  const goTo = useCallback((to: Place): void => update({ client: to.client, site: to.site }), [update]);
  const look = (to: Look): void => {
    setText(to.query);
    setCursor(-1);
    setSelection(NONE);
    update({
      f: to.query,
      client: to.client,
      site: to.site,
      sort: to.sort === "name" ? undefined : to.sort,
      columns: to.columns.join(","),
    });
  };
  const type = (to: string): void => {
    setText(to);
    setCursor(-1);
    update({ f: to });
  };

  const waiting = useWaitingMachines();
  const list = useAgents(filter, sort);
  // Counting reads more than a page does: it begins once somebody has stopped typing.
  const counted = useSettled(filter, 250);
  const counts = useCounts(counted);
  const agents = useMemo(() => list.data?.pages.flatMap((page) => page.items) ?? [], [list.data]);
  const { fetchNextPage, isFetchingNextPage } = list;
  const more = useCallback(() => {
    if (!isFetchingNextPage) void fetchNextPage();
  }, [fetchNextPage, isFetchingNextPage]);

  const select = (index: number, range: boolean): void => {
    const id = agents[index]?.id;
    if (id === undefined) return;
    if (range && anchor.current >= 0) {
      const [from, to] = [Math.min(anchor.current, index), Math.max(anchor.current, index)];
      setSelection(joined(selection, agents.slice(from, to + 1)));
    } else setSelection(toggled(selection, id));
    anchor.current = index;
  };
  const some = count(selection) > 0;
  const run = (): void => {
    const at = agents[cursor];
    const on: Selection = some ? selection : { ids: new Set(at ? [at.id] : []) };
    if (count(on) > 0 && may("commands.queue")) {
      setRunning({ on, name: agents.find((one) => one.id === only(on))?.name });
    }
  };
  useKeys([
    { key: "/", about: "Search", run: () => search.current?.focus() },
    { key: "j", about: "Next machine", run: () => setCursor(Math.min(cursor + 1, agents.length - 1)) },
    { key: "k", about: "The machine before", run: () => setCursor(Math.max(cursor - 1, 0)) },
    { key: "x", about: "Select it, or not", run: () => select(cursor, false) },
    { key: "Enter", about: "Open it", run: () => agents[cursor] && go(`/agents/${agents[cursor].id}`) },
    { key: "r", about: "Run something on what is selected", run },
  ]);

  const total = counts.data?.total;
  const nothing = list.isSuccess && agents.length === 0;
  const bare = typed.trim() === "" && client === undefined;
  return (
    <div className="fleet">
      <header>
        <h1>Fleet</h1>
        <span className="muted" aria-live="polite">
          {total !== undefined && `${figure(total)} ${total === 1 ? "machine" : "machines"}`}
        </span>
        {!nothing && count(selection) === 0 && may("commands.queue") && (
          <span className="muted small only-wide">Select some to run something on them.</span>
        )}
        <div className="grow" />
        {may("clients.see") && (
          <Button aria-expanded={places} className="places-toggle" onClick={() => setPlaces(!places)}>
            Clients
          </Button>
        )}
        <Views look={{ query: text, client, site, sort, columns: columnNames(columns) }} onView={look} />
        <ColumnChoice
          shown={columns}
          onChoose={(to) => (named ? update({ columns: columnNames(to).join(",") }) : setOwnColumns(to))}
        />
        {may("enrollment.manage") && (
          <Link href="/add" className="button primary">
            Add a machine
          </Link>
        )}
      </header>
      {waiting !== null && (
        <p className="notice warn">
          <Link href="/admin/tokens">
            {waiting === "1" ? "1 machine waits" : `${waiting} machines wait`} for approval
          </Link>
        </p>
      )}
      <div className="fleet-body">
        {may("clients.see") && (
          <aside data-open={places || undefined}>
            <Places place={place} onPlace={goTo} />
          </aside>
        )}
        <section aria-label="Machines">
          <SearchBox ref={search} text={text} onText={type} wrong={wrong} />
          <StatusChips text={text} onText={type} filter={counted} />
          <Fault error={list.error} retry={() => list.refetch()} />
          {nothing ? (
            <Nothing bare={bare} onAll={() => go("/", { replace: true })} onClear={() => type("")} />
          ) : (
            <Table
              agents={agents}
              total={total}
              sort={sort}
              onSort={(to) => update({ sort: to === "name" ? undefined : to })}
              shown={columns}
              selection={selection}
              onSelect={select}
              cursor={cursor}
              onCursor={setCursor}
              hasMore={list.hasNextPage}
              onMore={more}
              stale={list.isPlaceholderData}
            />
          )}
          {some && (
            <BulkBar
              selection={selection}
              total={total}
              filter={filter}
              onSelect={setSelection}
              onRun={run}
              onTag={() => setTagging(selection)}
            />
          )}
        </section>
      </div>
      {running !== null && (
        <Suspense>
          <RunDialog on={running.on} name={running.name} onClose={() => setRunning(null)} />
        </Suspense>
      )}
      {tagging !== null && (
        <Suspense>
          <TagDialog selection={tagging} onClose={() => setTagging(null)} />
        </Suspense>
      )}
    </div>
  );
}

function Nothing({ bare, onAll, onClear }: { bare: boolean; onAll: () => void; onClear: () => void }) {
  const may = useMay();
  if (!bare) {
    return (
      <div className="empty">
        <h2>No machine fits</h2>
        <p>Retired machines are left out unless you ask for them: status:retired.</p>
        <div className="row">
          <Button onClick={onClear}>Clear the search</Button>
          <Button onClick={onAll}>All clients</Button>
        </div>
      </div>
    );
  }
  return (
    <div className="empty">
      <h2>No machine has joined yet</h2>
      <p>A machine joins with one line that you copy into its terminal. It shows up here within a second.</p>
      {may("enrollment.manage") ? (
        <Link href="/add" className="button primary">
          Add the first machine
        </Link>
      ) : (
        <p>Somebody who may make enrollment tokens adds the first one.</p>
      )}
    </div>
  );
}

/** The value: at once if the last was taken a while ago, and else at the end of that while. */
function usePaced<T>(value: T, ms: number): T {
  const [paced, setPaced] = useState(value);
  const last = useRef(0);
  useEffect(() => {
    const take = (): void => {
      last.current = Date.now();
      setPaced(value);
    };
    const wait = last.current + ms - Date.now();
    if (wait <= 0) {
      take();
      return undefined;
    }
    const timer = setTimeout(take, wait);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return paced;
}

/** The value once it has stayed the same for a while. */
function useSettled<T>(value: T, ms: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}
