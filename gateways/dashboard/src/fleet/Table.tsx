import { flexRender, getCoreRowModel, type Row, useReactTable, type VisibilityState } from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { memo, useEffect, useMemo, useRef } from "react";
import { TEXT } from "../ui/rem";
import type { Agent } from "./agents";
import { COLUMNS, useNarrow } from "./columns";
import { holds, type Selection } from "./selection";

const ROW = 34 * TEXT;
const HEAD = ROW + 1;

/** What there is room for on a telephone. */
const NARROW: VisibilityState = Object.fromEntries(
  COLUMNS.map((one) => [one.id, one.id === "status" || one.id === "name"]),
);

interface Props {
  agents: Agent[];
  /** How many fit in all, as far as that is known. */
  total: number | undefined;
  sort: string;
  onSort: (sort: string) => void;
  shown: VisibilityState;
  selection: Selection;
  onSelect: (index: number, range: boolean) => void;
  /** The row that the keyboard is at; -1 for none. */
  cursor: number;
  onCursor: (index: number) => void;
  hasMore: boolean;
  onMore: () => void;
  /** What is shown answers an earlier question. */
  stale: boolean;
}

/** The list: as many rows are drawn as fit on the screen, however many there are. */
export function Table(props: Props) {
  const { agents, total, sort, onSort, selection, cursor, hasMore, onMore, stale } = props;
  const narrow = useNarrow();
  const place = useRef<HTMLDivElement>(null);
  const shown = narrow ? NARROW : props.shown;
  // Rows keep the first functions that they were given; these lead to the newest.
  const newest = useRef(props);
  newest.current = props;
  const hooks = useMemo(
    () => ({
      onCursor: (index: number) => newest.current.onCursor(index),
      onSelect: (index: number, range: boolean) => newest.current.onSelect(index, range),
    }),
    [],
  );
  const table = useReactTable({
    data: agents,
    columns: COLUMNS,
    state: { columnVisibility: shown },
    getCoreRowModel: getCoreRowModel(),
    getRowId: (agent) => agent.id,
    manualSorting: true,
  });
  const rows = table.getRowModel().rows;
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => place.current,
    estimateSize: () => ROW,
    // The head stays at the top of what is scrolled, so that both have the same width with a scrollbar and without.
    scrollMargin: HEAD,
    scrollPaddingStart: HEAD,
    overscan: 12,
  });
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasMore && last >= rows.length - 30) onMore();
  }, [hasMore, last, rows.length, onMore]);
  useEffect(() => {
    if (cursor >= 0 && cursor < rows.length) virtual.scrollToIndex(cursor, { align: "auto" });
  }, [cursor, rows.length, virtual]);
  const headers = table.getFlatHeaders();
  const template = ["2.125rem", ...headers.map((one) => one.column.columnDef.meta?.width ?? "1fr")].join(" ");
  return (
    <div className="grid" ref={place} tabIndex={0}>
      <div
        role="table"
        aria-label="Agents"
        aria-rowcount={(total ?? rows.length) + 1}
        aria-busy={stale}
        data-stale={stale || undefined}
      >
        <div className="grid-head" role="rowgroup">
          <div
            role="row"
            className="grid-row"
            style={{ gridTemplateColumns: template }}
            tabIndex={-1}
            aria-rowindex={1}
          >
            <div role="columnheader">
              <span className="hidden-text">Selected</span>
            </div>
            {headers.map((header) => {
              const { meta, header: name } = header.column.columnDef;
              const by = meta?.sort;
              const on = by !== undefined && sort.replace("-", "") === by;
              return (
                <div
                  key={header.id}
                  role="columnheader"
                  className={meta?.align}
                  aria-sort={on ? (sort.startsWith("-") ? "descending" : "ascending") : undefined}
                >
                  {by === undefined ? (
                    String(name)
                  ) : (
                    <button
                      type="button"
                      className="sort"
                      onClick={() => onSort(on ? other(sort) : (meta?.first ?? by))}
                    >
                      {String(name)} <span aria-hidden="true">{on ? (sort.startsWith("-") ? "↓" : "↑") : ""}</span>
                    </button>
                  )}
                </div>
              );
            })}
          </div>
        </div>
        <div role="rowgroup" className="grid-room" style={{ height: virtual.getTotalSize() }}>
          {items.map((item) => {
            const row = rows[item.index];
            if (row === undefined) return null;
            return (
              <MachineRow
                key={row.id}
                row={row}
                agent={row.original}
                shown={shown}
                index={item.index}
                start={item.start - HEAD}
                template={template}
                chosen={holds(selection, row.id)}
                here={item.index === cursor}
                onCursor={hooks.onCursor}
                onSelect={hooks.onSelect}
              />
            );
          })}
        </div>
      </div>
    </div>
  );
}

function other(sort: string): string {
  return sort.startsWith("-") ? sort.slice(1) : `-${sort}`;
}

interface RowProps {
  row: Row<Agent>;
  agent: Agent;
  /** Which columns there are; the row is drawn anew when that changes. */
  shown: VisibilityState;
  index: number;
  start: number;
  template: string;
  chosen: boolean;
  here: boolean;
  onCursor: (index: number) => void;
  onSelect: (index: number, range: boolean) => void;
}

/** One machine. Drawn anew only when it has changed, however often others do. */
const MachineRow = memo(
  function MachineRow({ row, index, start, template, chosen, here, onCursor, onSelect }: RowProps) {
    return (
      <div
        role="row"
        tabIndex={-1}
        aria-rowindex={index + 2}
        aria-selected={chosen}
        data-cursor={here || undefined}
        className="grid-row"
        style={{ gridTemplateColumns: template, transform: `translateY(${start}px)` }}
        onClick={() => onCursor(index)}
      >
        <div role="cell">
          <input
            type="checkbox"
            aria-label={`Select ${row.original.name}`}
            checked={chosen}
            onChange={(event) => onSelect(index, (event.nativeEvent as MouseEvent).shiftKey)}
          />
        </div>
        {row.getVisibleCells().map((cell) => (
          <div key={cell.id} role="cell" className={["clip", cell.column.columnDef.meta?.align].join(" ")}>
            {flexRender(cell.column.columnDef.cell, cell.getContext())}
          </div>
        ))}
      </div>
    );
  },
  (before, now) =>
    before.agent === now.agent &&
    before.shown === now.shown &&
    before.index === now.index &&
    before.start === now.start &&
    before.template === now.template &&
    before.chosen === now.chosen &&
    before.here === now.here,
);
