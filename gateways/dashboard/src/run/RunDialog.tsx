import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { useLocation } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { toast } from "../ui/Toasts";
import { CommandView } from "./CommandView";

type Shell = components["schemas"]["Shell"];
type Spec = components["schemas"]["QueueCommand"]["spec"];

const SHELLS: readonly Shell[] = ["sh", "bash", "python", "powershell", "cmd"];

interface Props {
  /** Of whom, by their ids. */
  agents: string[];
  /** Of the first of them. */
  name: string | undefined;
  script?: string;
  onClose: () => void;
}

/** Choose what to run on one machine or many; of one, see at once what it prints. */
export default function RunDialog({ agents, name, script, onClose }: Props) {
  const may = useMay();
  const [, go] = useLocation();
  const [command, setCommand] = useState<string | null>(null);
  const [kind, setKind] = useState<"run_script" | "run_shell">(
    script !== undefined || !may("commands.shell") ? "run_script" : "run_shell",
  );
  const [scriptId, setScriptId] = useState(script ?? "");
  const [args, setArgs] = useState("");
  const [shell, setShell] = useState<Shell>("sh");
  const [line, setLine] = useState("");
  const [timeout, setTimeout] = useState("");
  const [runAs, setRunAs] = useState("");
  const [reason, setReason] = useState("");
  const one = agents.length === 1 ? agents[0] : undefined;
  const spec = (): Spec => {
    const more = { ...(timeout ? { timeout_s: Number(timeout) } : {}), ...(runAs ? { run_as: runAs } : {}) };
    if (kind === "run_shell") return { kind, shell, line, ...more };
    const given = args.split("\n").filter((text) => text !== "");
    return { kind, script_id: scriptId, ...(given.length > 0 ? { args: given } : {}), ...more };
  };
  const queue = useChange(
    async () => {
      if (one !== undefined) {
        return ask(api.POST("/api/v1/commands", { body: { agent_id: one, spec: spec(), reason } }));
      }
      const title = kind === "run_shell" ? line.slice(0, 100) : (chosen?.name ?? "script");
      const body = { name: title, target: { include: { agents } }, spec: spec(), reason };
      return ask(api.POST("/api/v1/rollouts", { body }));
    },
    (answer) => {
      if (one !== undefined) setCommand(answer.id);
      else {
        toast(`Queued for ${agents.length} machines.`);
        onClose();
        go(`/rollouts/${answer.id}`);
      }
    },
  );
  const scripts = useQuery({
    queryKey: ["scripts", "choice"],
    enabled: kind === "run_script" && may("scripts.see"),
    queryFn: () => ask(api.GET("/api/v1/scripts", { params: { query: { archived: false, limit: 500 } } })),
  });
  const chosen = scripts.data?.items.find((found) => found.id === scriptId);
  const ready = kind === "run_shell" ? line.trim() !== "" : scriptId !== "";
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (ready) queue.mutate();
  };
  const title = one === undefined ? `Run on ${agents.length} machines` : `Run on ${name ?? "this machine"}`;
  if (command !== null) {
    return (
      <Dialog
        wide
        title={title}
        onClose={onClose}
        footer={
          <>
            <Button onClick={() => setCommand(null)}>Run something else</Button>
            <Button look="primary" onClick={onClose}>
              Close
            </Button>
          </>
        }
      >
        <CommandView key={command} commandId={command} onOther={setCommand} />
      </Dialog>
    );
  }
  return (
    <Dialog
      wide
      title={title}
      onClose={onClose}
      footer={
        <>
          <div className="grow">
            <Reach agents={agents} />
          </div>
          <Button onClick={onClose}>Cancel</Button>
          <Button look="primary" type="submit" form="run" busy={queue.isPending} disabled={!ready}>
            {one === undefined ? `Queue for ${agents.length}` : "Run"}
          </Button>
        </>
      }
    >
      <form id="run" className="stack" onSubmit={submit}>
        <div className="tabs" role="tablist">
          {may("commands.shell") && (
            <button type="button" role="tab" aria-selected={kind === "run_shell"} onClick={() => setKind("run_shell")}>
              A line
            </button>
          )}
          {may("commands.script") && (
            <button
              type="button"
              role="tab"
              aria-selected={kind === "run_script"}
              onClick={() => setKind("run_script")}
            >
              A script
            </button>
          )}
        </div>
        {kind === "run_shell" ? (
          <>
            <label className="field">
              <strong>Shell</strong>
              <select className="input" value={shell} onChange={(event) => setShell(event.target.value as Shell)}>
                {SHELLS.map((each) => (
                  <option key={each}>{each}</option>
                ))}
              </select>
            </label>
            <label className="field">
              <strong>Line</strong>
              <textarea
                className="input"
                rows={4}
                spellCheck={false}
                required
                placeholder="uname -a; uptime"
                value={line}
                onChange={(event) => setLine(event.target.value)}
                onKeyDown={(event) => {
                  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
                }}
              />
            </label>
          </>
        ) : (
          <>
            <label className="field">
              <strong>Script</strong>
              <select className="input" required value={scriptId} onChange={(event) => setScriptId(event.target.value)}>
                <option value="">Choose one</option>
                {scripts.data?.items.map((each) => (
                  <option key={each.id} value={each.id}>
                    {each.name} (revision {each.revision})
                  </option>
                ))}
              </select>
              {scripts.data?.items.length === 0 && (
                <span className="hint">There is no script yet; add one under Scripts.</span>
              )}
            </label>
            {chosen?.description && <p className="muted">{chosen.description}</p>}
            <label className="field">
              <strong>Arguments</strong>
              <textarea
                className="input"
                rows={2}
                spellCheck={false}
                placeholder={
                  "One a line. Left empty, those of the script.\n{{ agent.name }} stands for the machine's name."
                }
                value={args}
                onChange={(event) => setArgs(event.target.value)}
              />
            </label>
          </>
        )}
        <details>
          <summary>More: time limit, account, reason</summary>
          <div className="stack pad">
            <Field
              label="Time limit in seconds"
              type="number"
              min={1}
              value={timeout}
              onChange={(event) => setTimeout(event.target.value)}
            />
            <Field
              label="Run as"
              hint="An account of the machine; empty means the agent's own."
              value={runAs}
              onChange={(event) => setRunAs(event.target.value)}
            />
            <Field
              label="Why"
              hint="Shown in the story of the command."
              maxLength={2000}
              value={reason}
              onChange={(event) => setReason(event.target.value)}
            />
          </div>
        </details>
        <Fault error={queue.error} />
      </form>
    </Dialog>
  );
}

/** How many get it now, and how many later. */
function Reach({ agents }: { agents: string[] }) {
  const may = useMay();
  const one = agents.length === 1 ? agents[0] : undefined;
  const agent = useQuery({
    queryKey: ["agent", one],
    enabled: one !== undefined,
    queryFn: () => ask(api.GET("/api/v1/agents/{agent_id}", { params: { path: { agent_id: one ?? "" } } })),
  });
  const plan = useQuery({
    queryKey: ["reach", agents],
    enabled: one === undefined && may("rollouts.start"),
    queryFn: async () => {
      const count = async (online: boolean | undefined): Promise<number> => {
        const include = online === undefined ? { agents } : { agents, online };
        const body = { name: "reach", target: { include }, spec: { kind: "ping" as const } };
        try {
          return (await ask(api.POST("/api/v1/rollouts/plan", { body }))).targeted;
        } catch (error) {
          if (error instanceof Error && "code" in error && error.code === "rollout_empty") return 0;
          throw error;
        }
      };
      const [all, now] = await Promise.all([count(undefined), count(true)]);
      return { all, now };
    },
  });
  if (one !== undefined) {
    if (agent.data === undefined) return null;
    return (
      <span className="muted">
        {agent.data.online ? "Online: it begins at once." : "Offline: it waits, and runs when the machine returns."}
      </span>
    );
  }
  if (plan.isError) {
    // So many ask for a fresh proof, for the plan as for the rollout: that is asked for at the click.
    return <span className="muted">Those that are off get it when they return.</span>;
  }
  if (plan.data === undefined)
    return <span className="muted">{plan.isFetching ? "Counting who is online…" : null}</span>;
  const left = agents.length - plan.data.all;
  return (
    <span className="muted">
      {plan.data.now} online now, {plan.data.all - plan.data.now} get it when they return
      {left > 0 && `; ${left} left out (suspended, retired, or not yours)`}.
    </span>
  );
}
