import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay, useMe } from "../api/session";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { useTitle } from "../app/title";
import type { Spec } from "../run/spec";
import { What } from "../run/What";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { More } from "../ui/More";
import { Status } from "../ui/Status";
import { Time } from "../ui/Time";
import { toast } from "../ui/Toasts";
import "./approvals.css";
import { figure } from "../ui/figure";

type Approval = components["schemas"]["ApprovalModel"];
type State = Approval["state"];

const STATES: Record<State, ["ok" | "warn" | "bad" | "off", "tick" | "clock" | "cross" | "dash", string]> = {
  waiting: ["warn", "clock", "waiting"],
  granted: ["ok", "tick", "approved"],
  refused: ["bad", "cross", "refused"],
  withdrawn: ["off", "dash", "withdrawn"],
  expired: ["off", "clock", "expired"],
};
const FILTERS = Object.keys(STATES) as State[];

/** What somebody asked for and another person has to allow. */
export default function ApprovalsPage() {
  useTitle("Approvals");
  const [state, setState] = useState<State>("waiting");
  const { pages, items } = useList(
    ["approvals", state],
    ["Approval"],
    (query) => ask(api.GET("/api/v1/approvals", { params: { query: { ...query, state } } })),
    50,
  );
  return (
    <div className="page narrow">
      <header>
        <h1>Approvals</h1>
      </header>
      <div className="row wrap" role="group" aria-label="Filter by state">
        {FILTERS.map((one) => (
          <button key={one} type="button" className="chip" aria-pressed={state === one} onClick={() => setState(one)}>
            {STATES[one][2]}
          </button>
        ))}
      </div>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 && (
        <div className="empty">
          <h2>{state === "waiting" ? "Nothing waits" : `None is ${STATES[state][2]}`}</h2>
          <p>
            A role can ask that another person approves what touches many machines, or each use of a permission: under{" "}
            <Link href="/admin/roles">Admin, Roles</Link>.
          </p>
        </div>
      )}
      {items.map((one) => (
        <Request key={one.id} item={one} />
      ))}
      <More of={pages}>Earlier</More>
    </div>
  );
}

/** "StartRollout" is to start rollout. */
function words(intent: string): string {
  const text = intent.replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function Request({ item }: { item: Approval }) {
  const [tone, shape, word] = STATES[item.state];
  const { name, spec } = item.request as { name?: unknown; spec?: Spec };
  return (
    <article className="card request" aria-label={words(item.intent)}>
      <header>
        <h2>
          {words(item.intent)}
          {typeof name === "string" && name !== "" && `: ${name}`}
        </h2>
        <Status tone={tone} shape={shape}>
          {word}
        </Status>
      </header>
      <p>
        {item.user ?? item.actor} asked <Time at={item.requested_at} />
        {item.agents !== null && (
          <>
            , for{" "}
            <strong>
              {figure(item.agents)} {item.agents === 1 ? "machine" : "machines"}
            </strong>
          </>
        )}
        . {item.why}
      </p>
      {spec?.kind !== undefined && <What spec={spec} />}
      <details>
        <summary>All that was asked for</summary>
        <pre className="json" tabIndex={0}>
          {JSON.stringify(item.request, null, 2)}
        </pre>
      </details>
      {item.state === "waiting" ? (
        <Decision item={item} />
      ) : (
        item.decided_at !== null && (
          <p className="muted">
            {item.decider ?? "Nobody"}, <Time at={item.decided_at} />
            {item.reason && `: ${item.reason}`}
          </p>
        )
      )}
    </article>
  );
}

function Decision({ item }: { item: Approval }) {
  const client = useQueryClient();
  const me = useMe();
  const may = useMay();
  const [reason, setReason] = useState("");
  const path = { approval_id: item.id };
  const decide = useChange(
    (how: "approve" | "refuse" | "withdraw") => {
      const body = { params: { path }, body: { reason } };
      switch (how) {
        case "approve":
          return ask(api.POST("/api/v1/approvals/{approval_id}/approve", body));
        case "refuse":
          return ask(api.POST("/api/v1/approvals/{approval_id}/refuse", body));
        case "withdraw":
          return ask(api.POST("/api/v1/approvals/{approval_id}/withdraw", body));
      }
    },
    (_, how) => {
      toast(how === "approve" ? "Approved, and done." : how === "refuse" ? "Refused." : "Withdrawn.");
      return client.invalidateQueries({ queryKey: ["approvals"] });
    },
  );
  const own = item.user_id !== null && item.user_id === me?.user_id;
  if (!own && !may("approvals.decide")) return null;
  return (
    <>
      <div className="row wrap bottom">
        <Field
          label="Why"
          hint="Kept in the log."
          maxLength={2000}
          value={reason}
          onChange={(event) => setReason(event.target.value)}
        />
        {own ? (
          <Button busy={decide.isPending} onClick={() => decide.mutate("withdraw")}>
            Withdraw
          </Button>
        ) : (
          <>
            <Button
              look="primary"
              busy={decide.isPending && decide.variables === "approve"}
              onClick={() => decide.mutate("approve")}
            >
              Approve
            </Button>
            <Button
              look="danger"
              busy={decide.isPending && decide.variables === "refuse"}
              onClick={() => decide.mutate("refuse")}
            >
              Refuse
            </Button>
          </>
        )}
        <span className="muted small">
          {own ? "Another person decides it. It expires" : "It expires"} <Time at={item.expires_at} />.
        </span>
      </div>
      <Fault error={decide.error} />
    </>
  );
}
