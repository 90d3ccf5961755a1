import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useLocation, useSearch } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { Table } from "../ui/Table";

type Rows = components["schemas"]["RowsModel"];

/** The read models row by row, as they are kept: to see why a list shows what it does. */
export default function BrowseTab() {
  const [, go] = useLocation();
  const params = new URLSearchParams(useSearch());
  const tables = useQuery({ queryKey: ["browse"], queryFn: () => ask(api.GET("/api/v1/read-models")) });
  const items = tables.data?.items ?? [];
  const table = items.find((one) => one.table === params.get("table")) ?? items[0];
  const filter = params.getAll("filter");
  const rows = useInfiniteQuery({
    queryKey: ["browse", table?.table, ...filter],
    enabled: table !== undefined,
    staleTime: 0,
    initialPageParam: null as string | null,
    getNextPageParam: (page: Rows) => page.next,
    queryFn: ({ pageParam }) => {
      const query = {
        table: table?.table ?? "",
        limit: 50,
        filter,
        ...(pageParam === null ? {} : { cursor: pageParam }),
      };
      return ask(api.GET("/api/v1/read-models/rows", { params: { query } }));
    },
  });
  const show = (name: string, filters: readonly string[]): void => {
    const next = new URLSearchParams({ table: name });
    for (const one of filters) next.append("filter", one);
    go(`/admin/browse?${next}`);
  };
  const found = rows.data?.pages.flatMap((page) => page.items) ?? [];
  const columns = Object.keys(table?.columns ?? {});
  return (
    <>
      <p className="muted">
        What projections have made of the log, as it is kept. Nothing is changed here; the log itself is under Activity.
      </p>
      <Fault error={tables.error} retry={() => tables.refetch()} />
      {table !== undefined && (
        <>
          <div className="row wrap bottom">
            <Choice label="Table" value={table.table} onChoose={(name) => show(name, [])}>
              {items.map((one) => (
                <option key={one.table} value={one.table}>
                  {one.table} (about {figure(one.rows)})
                </option>
              ))}
            </Choice>
            <AddFilter key={table.table} columns={columns} onAdd={(one) => show(table.table, [...filter, one])} />
            <Button busy={rows.isFetching} onClick={() => rows.refetch()}>
              Read again
            </Button>
          </div>
          {filter.length > 0 && (
            <div className="row wrap" role="group" aria-label="Filters">
              {filter.map((one) => (
                <button
                  key={one}
                  type="button"
                  className="chip"
                  aria-pressed="true"
                  onClick={() =>
                    show(
                      table.table,
                      filter.filter((each) => each !== one),
                    )
                  }
                >
                  {one.endsWith("=") ? `${one} nothing` : one} ✕
                </button>
              ))}
            </div>
          )}
        </>
      )}
      <Fault error={rows.error} />
      {rows.isSuccess && found.length === 0 && (
        <div className="empty">
          <h2>{filter.length > 0 ? "No row holds that" : "There is no row yet"}</h2>
        </div>
      )}
      {found.length > 0 && table !== undefined && (
        <div className="card">
          <Table title={table.table} heads={columns}>
            {found.map((row) => (
              <tr key={table.key.map((one) => row[one]).join()}>
                {columns.map((column) => (
                  <td key={column} className="cell mono small">
                    <div title={row[column] ?? undefined}>{row[column] ?? <span className="muted">null</span>}</div>
                  </td>
                ))}
              </tr>
            ))}
          </Table>
        </div>
      )}
      <More of={rows} />
    </>
  );
}

function AddFilter({ columns, onAdd }: { columns: readonly string[]; onAdd: (filter: string) => void }) {
  const [column, setColumn] = useState(columns[0] ?? "");
  const [value, setValue] = useState("");
  return (
    <form
      className="row wrap bottom"
      onSubmit={(event) => {
        event.preventDefault();
        onAdd(`${column}=${value}`);
        setValue("");
      }}
    >
      <Choice label="Column" value={column} onChoose={setColumn}>
        {columns.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </Choice>
      <Field label="is" placeholder="null, if empty" value={value} onChange={(event) => setValue(event.target.value)} />
      <Button type="submit">Filter</Button>
    </form>
  );
}
