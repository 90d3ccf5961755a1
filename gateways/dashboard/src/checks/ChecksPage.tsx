import { useState } from "react";
import { Link } from "wouter";
import { api, ask } from "../api/client";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { useTitle } from "../app/title";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { ShapeIcon } from "../ui/Status";
import { SureButton } from "../ui/SureButton";
import { Table } from "../ui/Table";
import { toast, toastError } from "../ui/Toasts";
import { CheckDialog } from "./CheckDialog";
import { type Check, CheckStatus, whatText } from "./state";

const FOUND = ["failing", "warning", "unknown", "info"] as const;

/** What machines measure again and again, and on how many it finds what. */
export default function ChecksPage() {
  useTitle("Checks");
  const manage = useMay()("checks.manage");
  const [target, setTarget] = useState<Check | "new" | null>(null);
  const { pages, items, again } = useList(["checks", "list"], ["Check", "AgentCheck"], (query) =>
    ask(api.GET("/api/v1/checks", { params: { query } })),
  );
  return (
    <div className="page">
      <header>
        <h1>Checks</h1>
        <div className="grow" />
        {manage && (
          <Button look="primary" onClick={() => setTarget("new")}>
            New check
          </Button>
        )}
      </header>
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && items.length === 0 && (
        <div className="empty">
          <h2>There is no check yet</h2>
          <p>
            A check is measured by the machines themselves, also while they are cut off: how full a disk is, whether a
            service runs, what a script says.
          </p>
        </div>
      )}
      {items.length > 0 && (
        <div className="card">
          <Table title="Checks" heads={["Name", "Measures", "Machines", "Finds", ...(manage ? [""] : [])]}>
            {items.map((one) => (
              <Row key={one.id} one={one} manage={manage} onChange={() => setTarget(one)} onDone={again} />
            ))}
          </Table>
        </div>
      )}
      <More of={pages} />
      {target !== null && (
        <CheckDialog
          known={target === "new" ? null : target}
          onClose={() => {
            setTarget(null);
            void again();
          }}
        />
      )}
    </div>
  );
}

interface RowProps {
  one: Check;
  manage: boolean;
  onChange: () => void;
  onDone: () => unknown;
}

function Row({ one, manage, onChange, onDone }: RowProps) {
  const params = { path: { check_id: one.id } };
  const turn = useChange(
    () =>
      ask(
        one.disabled
          ? api.POST("/api/v1/checks/{check_id}/enable", { params })
          : api.POST("/api/v1/checks/{check_id}/disable", { params, body: { reason: "" } }),
      ),
    onDone,
  );
  const remove = useChange(
    () => ask(api.POST("/api/v1/checks/{check_id}/remove", { params, body: { reason: "" } })),
    () => {
      toast(`${one.name} is measured no more.`);
      return onDone();
    },
  );
  const found = FOUND.filter((state) => one.counts[state] > 0);
  return (
    <tr>
      <th scope="row">
        <span className="row">
          <Link href={`/checks/${one.id}`} className="strong">
            {one.name}
          </Link>
          {one.disabled && <span className="chip">disabled</span>}
        </span>
        {one.description !== "" && <div className="muted small breakable">{one.description}</div>}
      </th>
      <td className="breakable">
        {whatText(one)}
        <div className="muted small">every {one.interval_s} s</div>
      </td>
      <td>{one.machines === null ? "–" : figure(one.machines)}</td>
      <td>
        {found.length === 0 ? (
          <span className="muted">{one.disabled || one.machines === 0 ? "–" : "nothing"}</span>
        ) : (
          <Link href={`/?f=${encodeURIComponent(`check:"${one.name}"`)}`} className="row wrap">
            {found.map((state) => (
              <span key={state} className="row">
                <CheckStatus state={state} /> <strong>{figure(one.counts[state])}</strong>
              </span>
            ))}
          </Link>
        )}
      </td>
      {manage && (
        <td>
          <div className="row">
            <Button onClick={onChange} aria-label={`Change ${one.name}`}>
              Change
            </Button>
            <Button
              busy={turn.isPending}
              aria-label={`${one.disabled ? "Enable" : "Disable"} ${one.name}`}
              onClick={() => turn.mutate(undefined, { onError: toastError })}
            >
              <ShapeIcon shape={one.disabled ? "arrow" : "bars"} /> {one.disabled ? "Enable" : "Disable"}
            </Button>
            <SureButton
              sure="Remove: click again"
              busy={remove.isPending}
              onClick={() => remove.mutate(undefined, { onError: toastError })}
            >
              Remove
            </SureButton>
          </div>
        </td>
      )}
    </tr>
  );
}
