import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef, useState } from "react";
import { Button } from "../ui/Button";
import { TEXT } from "../ui/rem";
import { type AnsiReader, type Line, plain } from "./ansi";
import "./output.css";

const LINE = 18 * TEXT;

interface Props {
  reader: AnsiReader;
  /** Changes when the reader has read more. */
  version: number;
  /** What is said while there is nothing. */
  empty: string;
  going: boolean;
  label: string;
}

/** What a command printed, in its colours: it follows what is new until somebody scrolls up, and can be searched. */
export function Output({ reader, version, empty, going, label }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const [following, setFollowing] = useState(true);
  const [wanted, setWanted] = useState("");
  // biome-ignore lint/correctness/useExhaustiveDependencies: the reader's lines grow in place; its version tells
  const lines = useMemo(() => [...reader.lines], [reader, version]);
  const found = useMemo(() => matches(lines, wanted), [lines, wanted]);
  const [at, setAt] = useState(0);
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => place.current,
    estimateSize: () => LINE,
    overscan: 30,
  });
  useEffect(() => {
    if (following && lines.length > 0) virtual.scrollToIndex(lines.length - 1, { align: "end" });
  }, [following, lines.length, virtual]);
  const to = (next: number): void => {
    const line = found[(next + found.length) % found.length];
    if (line === undefined) return;
    setAt((next + found.length) % found.length);
    setFollowing(false);
    virtual.scrollToIndex(line, { align: "center" });
  };
  const scrolled = (): void => {
    const element = place.current;
    if (element === null) return;
    setFollowing(element.scrollHeight - element.scrollTop - element.clientHeight < LINE * 2);
  };
  const hits = new Set(found);
  const all = lines.length + reader.dropped;
  return (
    <div className="output">
      <div className="output-tools row wrap">
        {label !== "Output" && <strong className="mono">{label}</strong>}
        <input
          className="input"
          type="search"
          placeholder="Find in output"
          aria-label="Find in output"
          value={wanted}
          onChange={(event) => {
            setWanted(event.target.value);
            setAt(0);
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter") {
              event.preventDefault();
              to(event.shiftKey ? at - 1 : at + 1);
            }
          }}
        />
        {wanted !== "" && (
          <span className="muted small nowrap" role="status">
            {found.length === 0 ? "not found" : `${at + 1} of ${found.length} ${found.length === 1 ? "line" : "lines"}`}
          </span>
        )}
        <div className="grow" />
        <span className="muted small nowrap">{all === 1 ? "1 line" : `${all} lines`}</span>
        {going && (
          <Button look="tiny" aria-pressed={following} onClick={() => setFollowing(!following)}>
            {following ? "Following" : "Follow"}
          </Button>
        )}
      </div>
      <div
        className="output-lines"
        ref={place}
        onScroll={scrolled}
        tabIndex={0}
        role="log"
        aria-label={label}
        aria-live="off"
      >
        {lines.length === 0 ? (
          <div className="output-empty">{empty}</div>
        ) : (
          <div className="output-room" style={{ height: virtual.getTotalSize() }}>
            {virtual.getVirtualItems().map((item) => (
              <div
                key={item.index}
                className={lines[item.index]?.stream === "stderr" ? "output-line err" : "output-line"}
                data-found={hits.has(item.index) || undefined}
                data-here={found[at] === item.index || undefined}
                style={{ transform: `translateY(${item.start}px)` }}
              >
                <Pieces line={lines[item.index]} />
              </div>
            ))}
          </div>
        )}
      </div>
    </div>
  );
}

function Pieces({ line }: { line: Line | undefined }) {
  return line?.pieces.map((piece, index) => (
    <span
      // biome-ignore lint/suspicious/noArrayIndexKey: pieces of a line have nothing else
      key={index}
      className={piece.look || undefined}
      style={
        piece.color || piece.background
          ? {
              ...(piece.color ? { color: piece.color } : {}),
              ...(piece.background ? { backgroundColor: piece.background } : {}),
            }
          : undefined
      }
    >
      {piece.text}
    </span>
  ));
}

function matches(lines: Line[], wanted: string): number[] {
  if (wanted === "") return [];
  const low = wanted.toLowerCase();
  const found: number[] = [];
  for (const [index, line] of lines.entries()) if (plain(line).toLowerCase().includes(low)) found.push(index);
  return found;
}
