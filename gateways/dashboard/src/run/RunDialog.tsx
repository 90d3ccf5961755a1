import { type SyntheticEvent, useState } from "react";
import { useLocation } from "wouter";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { useEvery } from "../app/every";
import { count, type Selection } from "../fleet/selection";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { figure } from "../ui/figure";
import { Pick } from "../ui/Pick";
import { toast } from "../ui/Toasts";
import { aimOf, meansNobody, named, onlyOne, targetOf } from "./aim";
import { CommandView } from "./CommandView";
import { RunAs, type Shell, ShellChoice, TimeLimit, variables } from "./how";
import { PlaceholderArea } from "./PlaceholderArea";
import { Reach, useReach } from "./Reach";
import { RevisionChoice } from "./RevisionChoice";
import { ONCE, RetryFields, retryOf } from "./retry";
import { Targets } from "./Targets";
import { NO_TERMS, TermsFields, termsOf } from "./terms";
import { AT_ONCE, ofCommand, ofRollout, WhenFields } from "./when";

type Spec = components["schemas"]["QueueCommand"]["spec"];

/** What takes no words of one's own, and what it is called. */
const PLAIN = { collect_facts: "Collect facts", ping: "Ping" };

type Kind = "run_script" | "run_shell" | "collect_facts" | "ping";

interface Props {
  /** Whom it is for. */
  on: Selection;
  /** Of the machine, where it is one. */
  name: string | undefined;
  script?: string;
  /** A shell line to begin with. */
  begin?: { shell: Shell; line: string };
  onClose: () => void;
}

/** Choose what to run on one machine or many; of one, see at once what it prints. */
export default function RunDialog({ on, name, script, begin, onClose }: Props) {
  const may = useMay();
  const [, go] = useLocation();
  const [command, setCommand] = useState<string | null>(null);
  const [kind, setKind] = useState<Kind>(() => {
    if (script === undefined && may("commands.shell")) return "run_shell";
    return script !== undefined || may("commands.script") ? "run_script" : "collect_facts";
  });
  const [scriptId, setScriptId] = useState(script ?? "");
  const [revision, setRevision] = useState("");
  const [args, setArgs] = useState("");
  const [shell, setShell] = useState<Shell>(begin?.shell ?? "sh");
  const [line, setLine] = useState(begin?.line ?? "");
  const [timeout, setTimeout] = useState("");
  const [runAs, setRunAs] = useState("");
  const [reason, setReason] = useState("");
  const [env, setEnv] = useState("");
  const [retry, setRetry] = useState(ONCE);
  const [terms, setTerms] = useState(NO_TERMS);
  const [when, setWhen] = useState(AT_ONCE);
  const [aim, setAim] = useState(() => aimOf(on));
  const reach = useReach(aim);
  const one = onlyOne(aim);
  const number = named(aim) ?? reach.counted?.all ?? count(on);
  const many = figure(number);
  const plain = kind === "collect_facts" || kind === "ping";
  const spec = (): Spec => {
    if (plain) return { kind };
    const more = {
      ...(timeout ? { timeout_s: Number(timeout) } : {}),
      ...(runAs ? { run_as: runAs } : {}),
      ...(env.trim() ? { env: variables(env) } : {}),
    };
    if (kind === "run_shell") return { kind, shell, line, ...more };
    const given = args.split("\n").filter((text) => text !== "");
    const pinned = revision === "" ? {} : { revision: Number(revision) };
    return { kind, script_id: scriptId, ...pinned, ...(given.length > 0 ? { args: given } : {}), ...more };
  };
  const queue = useChange(
    async () => {
      if (one !== undefined) {
        const order = { spec: spec(), reason, ...retryOf(retry), ...ofCommand(when) };
        return ask(api.POST("/api/v1/commands", { body: { agent_id: one, ...order } }));
      }
      const named = plain ? PLAIN[kind] : kind === "run_shell" ? line.slice(0, 100) : (chosen?.name ?? "script");
      const order = { spec: spec(), reason, ...retryOf(retry), ...termsOf(terms), ...ofRollout(when) };
      const body = { name: terms.name.trim() || named, target: targetOf(aim), ...order };
      return ask(api.POST("/api/v1/rollouts", { body }));
    },
    (answer) => {
      if (one !== undefined) setCommand(answer.id);
      else {
        const targeted = "targeted" in answer ? Number(answer.targeted) : number;
        toast(`Queued for ${figure(targeted)} machines.`);
        onClose();
        go(`/rollouts/${answer.id}`);
      }
    },
  );
  const scripts = useEvery(
    ["scripts", "choice"],
    (query) => ask(api.GET("/api/v1/scripts", { params: { query: { ...query, archived: false } } })),
    kind === "run_script" && may("scripts.see"),
  );
  const chosen = scripts.items.find((found) => found.id === scriptId);
  const ready = !meansNobody(aim) && (plain || (kind === "run_shell" ? line.trim() !== "" : scriptId !== ""));
  const send = (event: SyntheticEvent): void => {
    event.preventDefault();
    if (ready) queue.mutate();
  };
  const title = one === undefined ? `Run on ${many} machines` : `Run on ${name ?? "this machine"}`;
  if (command !== null) {
    return (
      <Dialog
        key="runs"
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
            <Reach aim={aim} reach={reach} when={when} terms={terms} />
          </div>
          <Button onClick={onClose}>Cancel</Button>
          <Button look="primary" type="submit" form="run" busy={queue.isPending} disabled={!ready}>
            {one === undefined ? `Queue for ${many}` : "Run"}
          </Button>
        </>
      }
    >
      <form id="run" className="stack" onSubmit={send}>
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
          <button type="button" role="tab" aria-selected={plain} onClick={() => !plain && setKind("collect_facts")}>
            Facts, or a ping
          </button>
        </div>
        {plain ? (
          <Choice
            label="What"
            value={kind}
            onChoose={(value) => setKind(value === "ping" ? "ping" : "collect_facts")}
            hint={
              kind === "ping"
                ? "It does nothing, and so proves that the whole path works."
                : "The machine tells of itself anew: system, hardware, network, software."
            }
          >
            {Object.entries(PLAIN).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </Choice>
        ) : kind === "run_shell" ? (
          <>
            <ShellChoice shell={shell} onShell={setShell} />
            <PlaceholderArea
              label="Line"
              rows={4}
              required
              first
              placeholder="uname -a; uptime"
              value={line}
              onText={setLine}
              onSend={send}
            />
          </>
        ) : (
          <>
            <Pick
              label="Script"
              required
              value={scriptId}
              onChoose={(id) => {
                setScriptId(id);
                setRevision("");
              }}
              hint={
                scripts.isSuccess && scripts.items.length === 0
                  ? "There is no script yet; add one under Scripts."
                  : undefined
              }
              more={scripts.more}
              options={scripts.items.map((each) => ({
                value: each.id,
                label: `${each.name} (revision ${each.revision})`,
              }))}
            >
              <option value="">Choose one</option>
            </Pick>
            {chosen?.description && <p className="muted">{chosen.description}</p>}
            {chosen !== undefined && <RevisionChoice script={chosen} value={revision} onChoose={setRevision} />}
            <PlaceholderArea
              label="Arguments"
              rows={2}
              placeholder={
                "One a line. Left empty, those of the script.\n{{agent.name}} stands for the machine's name."
              }
              value={args}
              onText={setArgs}
              onSend={send}
            />
          </>
        )}
        {may("rollouts.start") && <Targets aim={aim} name={name} onAim={setAim} />}
        <WhenFields when={when} onWhen={setWhen} />
        {one === undefined && <TermsFields terms={terms} onTerms={setTerms} />}
        <details>
          <summary>{plain ? "More: tries, reason" : "More: environment, time limit, account, tries, reason"}</summary>
          <div className="stack pad">
            {!plain && (
              <>
                <PlaceholderArea
                  label="Environment"
                  rows={2}
                  placeholder={"NAME=value, one a line; a secret as PASSWORD={{secret.NAME}}"}
                  value={env}
                  onText={setEnv}
                  onSend={send}
                />
                <TimeLimit value={timeout} onValue={setTimeout} />
                <RunAs value={runAs} onValue={setRunAs} />
              </>
            )}
            <RetryFields retry={retry} onRetry={setRetry} />
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
