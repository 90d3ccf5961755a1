import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link, useParams } from "wouter";
import { CommandDialog } from "../agent/CommandDialog";
import { api, ask } from "../api/client";
import { isProblem } from "../api/problem";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { follow } from "../api/stream";
import { useChange } from "../app/change";
import { useTitle } from "../app/title";
import { What } from "../run/What";
import { Button } from "../ui/Button";
import { Crumbs } from "../ui/Crumbs";
import { Fault } from "../ui/Fault";
import { CommandStatus } from "../ui/Status";
import { SureButton } from "../ui/SureButton";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { CountsBar, CountsLine, CountsShort, RolloutStatus } from "./counts";
import { FAILED, Members } from "./Members";
import "./rollouts.css";

type Rollout = components["schemas"]["RolloutWithCountsModel"];
type Steer = "pause" | "resume" | "release" | "abort" | "close" | "retry-failed";

const NUMBER = new Intl.NumberFormat("en");

/** One rollout: its waves, what came of it so far, and the hand on it. */
export default function RolloutPage() {
  const { id = "" } = useParams<{ id: string }>();
  const client = useQueryClient();
  const may = useMay();
  const [command, setCommand] = useState<string | null>(null);
  const path = { rollout_id: id };
  const key = ["rollouts", id];
  const rollout = useQuery({
    queryKey: key,
    queryFn: () => ask(api.GET("/api/v1/rollouts/{rollout_id}", { params: { path } })),
  });
  // One that has just begun is not there for a stream that asks sooner than the read model has it.
  const known = rollout.isSuccess;
  useEffect(() => {
    if (!known) return;
    const control = new AbortController();
    let last: string | null = null;
    void follow(
      `/api/v1/rollouts/${id}/stream`,
      () => last,
      (data, name, position) => {
        last = position;
        client.setQueryData(["rollouts", id], JSON.parse(data) as Rollout);
        return name !== "end";
      },
      control.signal,
    );
    return () => control.abort();
  }, [id, client, known]);
  const steer = useChange(
    (to: Steer) => {
      const body = { params: { path }, body: {} };
      switch (to) {
        case "pause":
          return ask(api.POST("/api/v1/rollouts/{rollout_id}/pause", body));
        case "resume":
          return ask(api.POST("/api/v1/rollouts/{rollout_id}/resume", body));
        case "release":
          return ask(api.POST("/api/v1/rollouts/{rollout_id}/release", body));
        case "abort":
          return ask(api.POST("/api/v1/rollouts/{rollout_id}/abort", body));
        case "close":
          return ask(api.POST("/api/v1/rollouts/{rollout_id}/close", body));
        case "retry-failed":
          return ask(api.POST("/api/v1/rollouts/{rollout_id}/retry-failed", body));
      }
    },
    () => client.invalidateQueries({ queryKey: key }),
  );
  useTitle(rollout.data?.name ?? "Rollout");
  if (isProblem(rollout.error, "not_found")) {
    return (
      <div className="empty">
        <h1>There is no such rollout</h1>
        <p>It may reach machines that you do not see.</p>
        <Link href="/rollouts" className="button">
          To the rollouts
        </Link>
      </div>
    );
  }
  const shown = rollout.data;
  const going = shown?.state === "running" || shown?.state === "paused";
  const failed = shown === undefined ? 0 : FAILED.reduce((total, state) => total + shown.counts[state], 0);
  const button = (to: Steer, label: string): React.ReactNode => (
    <Button busy={steer.isPending && steer.variables === to} onClick={() => steer.mutate(to)}>
      {label}
    </Button>
  );
  const retry =
    failed > 0 &&
    shown?.state !== "aborted" &&
    may("rollouts.start") &&
    button("retry-failed", `Retry ${NUMBER.format(failed)} that failed`);
  return (
    <div className="page">
      <header>
        <Crumbs to="/rollouts" list="Rollouts">
          {shown?.name ?? "…"}
        </Crumbs>
        {shown && <RolloutStatus state={shown.state} />}
        <div className="grow" />
        {going && may("rollouts.steer") && (
          <>
            {shown.state === "running" ? button("pause", "Pause") : button("resume", "Resume")}
            {shown.open_until !== null && button("close", "Let nobody join any more")}
            {shown.wave < shown.wave_sizes.length && button("release", "Begin the next wave")}
            <SureButton
              sure="Abort: cancel what is queued"
              busy={steer.isPending && steer.variables === "abort"}
              onClick={() => steer.mutate("abort")}
            >
              Abort
            </SureButton>
          </>
        )}
      </header>
      <Fault error={rollout.error ?? steer.error} />
      {shown && (
        <>
          {shown.detail && (
            <div className="notice warn">
              <div>
                <strong>{shown.detail}</strong>
                {shown.state === "paused" && (
                  <p>
                    Nothing more begins. What each machine said last is below; mend what it names, then <em>Resume</em>{" "}
                    goes on with the others, and <em>Retry</em> gives those that failed their command again.
                  </p>
                )}
              </div>
            </div>
          )}
          <section className="card stack large" aria-label="Progress">
            <CountsBar counts={shown.counts} />
            <CountsLine counts={shown.counts} />
            <div className="row wrap muted">
              <span>
                {NUMBER.format(shown.targeted)} {shown.targeted === 1 ? "machine" : "machines"}
              </span>
              <span>
                started <Time at={shown.started_at} />
              </span>
              {going && shown.open_until && (
                <span>
                  open for others until <Time at={shown.open_until} />
                </span>
              )}
              {shown.ended_per_minute > 0 && <span>{shown.ended_per_minute.toFixed(1)} a minute</span>}
              {shown.estimated_end && (
                <span>
                  done <Time at={shown.estimated_end} />, if it goes on like that
                </span>
              )}
              {shown.ended_at && (
                <span>
                  ended <Time at={shown.ended_at} />
                </span>
              )}
            </div>
            <What spec={shown.order.spec} />
            <LeftOut rollout={shown} />
          </section>
          {shown.waves.length > 1 && (
            <section className="card" aria-label="Waves">
              <header>
                <h2>Waves</h2>
              </header>
              <ol className="waves">
                {shown.waves.map((wave) => (
                  <li key={wave.wave}>
                    <div className="row">
                      <strong>Wave {wave.wave}</strong>
                      <span className="muted grow">
                        {NUMBER.format(wave.size)} {wave.size === 1 ? "machine" : "machines"}, {wave.state}
                        {wave.manual && wave.state !== "finished" && "; the next one waits for you"}
                      </span>
                      {wave.continues_at && (
                        <span className="muted">
                          goes on <Time at={wave.continues_at} />
                        </span>
                      )}
                    </div>
                    <CountsBar counts={wave.counts} />
                    <CountsShort counts={wave.counts} />
                  </li>
                ))}
              </ol>
            </section>
          )}
          <Outcomes rollout={shown} onOpen={setCommand} />
          <Members rollout={shown} onOpen={setCommand} retry={retry} />
        </>
      )}
      {command !== null && <CommandDialog commandId={command} onOther={setCommand} onClose={() => setCommand(null)} />}
    </div>
  );
}

const LEFT_OUT: Record<string, string> = {
  excluded: "left out by the target itself",
  other_platform: "it does not run on their platform",
  offline: "they are offline",
  online: "they are online",
  filter_not_met: "the filter does not hold of them",
  filter_unknown: "their facts do not say whether the filter holds",
  timezone_unknown: "they do not say which time it is there",
  unresolved_placeholder: "a placeholder stands for nothing there",
};

/** Who the target includes and who got no place, and why. */
function LeftOut({ rollout }: { rollout: Rollout }) {
  const reasons = Object.entries(rollout.excluded);
  if (reasons.length === 0) return null;
  const { filter } = rollout.target.include;
  return (
    <ul className="plain-list muted small">
      {reasons.map(([reason, count]) => (
        <li key={reason}>
          {NUMBER.format(count)} left out: {LEFT_OUT[reason] ?? reason.replaceAll("_", " ")}
          {filter && reason.startsWith("filter") && (
            <>
              {" "}
              (<code>{filter}</code>)
            </>
          )}
        </li>
      ))}
    </ul>
  );
}

interface PartProps {
  rollout: Rollout;
  onOpen: (commandId: string) => void;
}

/** How many have ended: the lists below are asked for anew as it grows, and not for each. */
function ended({ counts, targeted }: Rollout): number {
  const open = counts.waiting + counts.queued + counts.delivered + counts.running;
  return targeted - open;
}

function Outcomes({ rollout, onOpen }: PartProps) {
  const outcomes = useQuery({
    queryKey: ["rollouts", rollout.id, "outcomes", ended(rollout)],
    placeholderData: (before) => before,
    queryFn: () =>
      ask(api.GET("/api/v1/rollouts/{rollout_id}/outcomes", { params: { path: { rollout_id: rollout.id } } })),
  });
  const items = (outcomes.data?.items ?? []).filter((one) => one.state !== null);
  if (items.length === 0) return null;
  return (
    <section className="card" aria-label="Outcomes">
      <header>
        <h2>What came of it</h2>
        <span className="muted small">those alike together</span>
      </header>
      <Table title="Outcomes" heads={["Machines", "Ending", "Exit code", "Said last"]}>
        {items.map((one) => (
          <tr key={one.example}>
            <td>{NUMBER.format(one.agents)}</td>
            <td>{one.state && <CommandStatus state={one.state} />}</td>
            <td>{one.exit_code ?? <span className="muted">none</span>}</td>
            <td>
              <button type="button" className="link" onClick={() => onOpen(one.example)}>
                <Said outcome={one} />
              </button>
            </td>
          </tr>
        ))}
      </Table>
    </section>
  );
}

/** What was said last. Of what did not succeed the reason is among the errors, where there are any. */
function Said({ outcome }: { outcome: components["schemas"]["OutcomeModel"] }) {
  const error = outcome.state === "succeeded" ? "" : (outcome.error_tail ?? "").trim();
  const line = (error || (outcome.tail ?? "").trim()).split("\n").at(-1);
  if (!line) return <>nothing</>;
  return (
    <code className="clip tail">
      {error && <span className="hidden-text">Error: </span>}
      {line}
    </code>
  );
}
