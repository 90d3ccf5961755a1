import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { api, ask } from "../api/client";
import { Fault } from "../ui/Fault";

const HOUR = 1;
const DAY = 24;
const WEEK = 168;
const TWO_WEEKS = 336;
const SPANS: readonly [label: string, hours: number][] = [
  ["Hour", HOUR],
  ["Day", DAY],
  ["Week", WEEK],
  ["Two weeks", TWO_WEEKS],
];
const HOUR_MS = 3_600_000;
/** Agents look once a minute. */
const RENEW_MS = 60_000;
const POINTS = 300;
const HEIGHT = 165;

const DAY_S = 86_400;
const ON = "\n{D} {MMM}";
/** By how far marks are apart: what each says, and what one says besides that begins a year or a day. */
const TIMES: uPlot.Axis.Values = [
  [DAY_S, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", ON, null, ON, null, null, null, 1],
];

type Name = "cpu" | "memory" | "disk";
const GRAPHS: readonly [Name, string][] = [
  ["cpu", "Processor"],
  ["memory", "Memory"],
  ["disk", "Fullest disk"],
];

async function read(agentId: string, hours: number) {
  const since = new Date(Date.now() - hours * HOUR_MS).toISOString();
  const params = { path: { agent_id: agentId }, query: { since, points: POINTS } };
  return { hours, ...(await ask(api.GET("/api/v1/agents/{agent_id}/telemetry", { params }))) };
}

/** The day; the hour of a machine that says something for less than that, and what is longer of one that was off. */
async function ofItself(agentId: string) {
  const day = await read(agentId, DAY);
  const [first] = day.points;
  if (first !== undefined) {
    return Date.parse(first.at) > Date.parse(day.until) - HOUR_MS ? await read(agentId, HOUR) : day;
  }
  const week = await read(agentId, WEEK);
  return week.points.length > 0 ? week : await read(agentId, TWO_WEEKS);
}

/** How busy the machine was: processor, memory and its fullest disk. */
export default function Graphs({ agentId }: { agentId: string }) {
  const [chosen, setChosen] = useState<number | null>(null);
  const told = useQuery({
    queryKey: ["telemetry", agentId, chosen],
    refetchInterval: RENEW_MS,
    queryFn: () => (chosen === null ? ofItself(agentId) : read(agentId, chosen)),
  });
  const hours = told.data?.hours ?? chosen;
  const points = told.data?.points ?? [];
  return (
    <section className="card graphs">
      <header>
        <h2>How busy</h2>
        <div className="grow" />
        <div className="row wrap" role="group" aria-label="Of the last">
          {SPANS.map(([label, span]) => (
            <button
              key={span}
              type="button"
              className="chip"
              aria-pressed={hours === span}
              onClick={() => setChosen(span)}
            >
              {label}
            </button>
          ))}
        </div>
      </header>
      <Fault error={told.error} retry={() => told.refetch()} />
      {told.isSuccess && points.length === 0 ? (
        <p className="muted">
          Nothing is known of that time. A machine that is connected tells of itself once a minute.
        </p>
      ) : (
        told.data && (
          <div className="graph-row">
            {GRAPHS.map(([name, label]) => (
              <Graph
                key={name}
                name={label}
                begin={Date.parse(told.data.begin) / 1000}
                until={Date.parse(told.data.until) / 1000}
                step={told.data.step_s}
                at={points.map((point) => Date.parse(point.at) / 1000)}
                values={points.map((point) => point[name])}
                most={name === "cpu" ? points.map((point) => point.cpu_most) : undefined}
              />
            ))}
          </div>
        )
      )}
    </section>
  );
}

interface Props {
  name: string;
  begin: number;
  until: number;
  step: number;
  at: number[];
  values: (number | null)[];
  /** The most in each step, beside its average. */
  most?: (number | null)[] | undefined;
}

/** One line over time, in percent, with its last, its mean and its most in words. */
function Graph({ name, begin, until, step, at, values, most }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const scheme = useScheme();
  // biome-ignore lint/correctness/useExhaustiveDependencies: colours are read anew when the scheme is another
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const colour = (token: string): string => {
      // As this scheme has it: a canvas knows neither names nor light-dark().
      element.style.color = `var(${token})`;
      return getComputedStyle(element).color;
    };
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--border"), width: 1 }, ticks: { show: false } };
    const line = (stroke: string, fill?: string): uPlot.Series => ({
      stroke,
      width: 1.5,
      points: { show: at.length < 2 },
      ...(fill === undefined ? {} : { fill }),
    });
    const [times, lines] = withGaps(at, most === undefined ? [values] : [values, most], step);
    const plot = new uPlot(
      {
        width: Math.max(element.clientWidth, 120),
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        padding: [8, 8, 0, 0],
        scales: { x: { range: [begin, until] }, y: { range: [0, 100] } },
        axes: [
          { ...axis, size: 44, values: TIMES },
          { ...axis, size: 44, values: (_, splits) => splits.map((one) => `${one} %`) },
        ],
        series: [
          {},
          line(colour("--accent"), colour("--accent-soft")),
          ...(most === undefined ? [] : [line(colour("--warn"))]),
        ],
      },
      [times, ...lines] as uPlot.AlignedData,
      element,
    );
    const watch = new ResizeObserver(() => {
      plot.setSize({ width: Math.max(element.clientWidth, 120), height: HEIGHT });
    });
    watch.observe(element);
    return () => {
      watch.disconnect();
      plot.destroy();
    };
  }, [begin, until, step, at, values, most, scheme]);
  const known = values.filter((one) => one !== null);
  const last = known.at(-1);
  const words =
    last === undefined
      ? "not told"
      : `${percent(last)} last, ${percent(mean(known))} on average, ${percent(
          Math.max(...known, ...(most ?? []).filter((one) => one !== null)),
        )} at the most`;
  return (
    <figure className="graph">
      <figcaption>
        <strong>{name}</strong>
        <div className="muted small">{words}</div>
        {most !== undefined && (
          <div className="muted small">
            <span className="graph-key" /> average <span className="graph-key most" /> most of each step
          </div>
        )}
      </figcaption>
      <div ref={place} role="img" aria-label={`${name}: ${words}`} />
    </figure>
  );
}

/** A line breaks where more than a few steps say nothing. */
function withGaps(at: number[], lines: (number | null)[][], step: number): [number[], (number | null)[][]] {
  const times: number[] = [];
  const broken: (number | null)[][] = lines.map(() => []);
  at.forEach((time, index) => {
    const before = at[index - 1];
    if (before !== undefined && time - before > 3 * step) {
      times.push(before + step);
      for (const line of broken) line.push(null);
    }
    times.push(time);
    lines.forEach((line, which) => {
      broken[which]?.push(line[index] ?? null);
    });
  });
  return [times, broken];
}

function mean(values: number[]): number {
  return values.reduce((sum, one) => sum + one, 0) / values.length;
}

function percent(value: number): string {
  return `${Math.round(value)} %`;
}

const DARK = window.matchMedia("(prefers-color-scheme: dark)");

/** Changes when light becomes dark: by the system, or by the person's choice. */
function useScheme(): string {
  return useSyncExternalStore(
    (listener) => {
      DARK.addEventListener("change", listener);
      const watch = new MutationObserver(listener);
      watch.observe(document.documentElement, { attributes: true });
      return () => {
        DARK.removeEventListener("change", listener);
        watch.disconnect();
      };
    },
    () => `${document.documentElement.dataset.theme ?? ""} ${DARK.matches}`,
  );
}
