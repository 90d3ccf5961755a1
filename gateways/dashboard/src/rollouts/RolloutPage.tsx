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
import { SureButton } from "../ui/SureButton";
import { Time } from "../ui/Time";
import { CountsBar, CountsLine, CountsShort, RolloutStatus } from "./counts";
import { FAILED, Members } from "./Members";
import { Outcomes } from "./Outcomes";
import "./rollouts.css";
import { figure } from "../ui/figure";

type Rollout = components["schemas"]["RolloutWithCountsModel"];
type Steer = "pause" | "resume" | "release" | "abort" | "close" | "retry-failed";

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
    button("retry-failed", `Retry ${figure(failed)} that failed`);
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
                    Nothing more begins. What came of it is below, and what was said last; mend what it names, then{" "}
                    <em>Resume</em> goes on with the others, and <em>Retry</em> gives those that failed their command
                    again.
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
                {figure(shown.targeted)} {shown.targeted === 1 ? "machine" : "machines"}
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
                        {figure(wave.size)} {wave.size === 1 ? "machine" : "machines"}, {waveText(wave)}
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
          <Outcomes rollout={shown} ended={ended(shown)} onOpen={setCommand} />
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
          {figure(count)} left out: {LEFT_OUT[reason] ?? reason.replaceAll("_", " ")}
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

type Wave = Rollout["waves"][number];

/** How many have no ending yet. */
function open({ waiting, queued, delivered, running }: Rollout["counts"]): number {
  return waiting + queued + delivered + running;
}

/** How many have one. */
function ended({ counts, targeted }: Rollout): number {
  return targeted - open(counts);
}

/** Where a wave is, in words. */
function waveText({ state, counts }: Wave): string {
  const left = open(counts);
  if (state === "waiting") return "not begun";
  if (state === "released") return "under way";
  return left === 0 ? "finished" : `enough have ended; ${figure(left)} not yet`;
}
