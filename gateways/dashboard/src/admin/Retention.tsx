import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMayEverywhere } from "../api/session";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { figure } from "../ui/figure";
import { Table } from "../ui/Table";
import { toast } from "../ui/Toasts";
import { bytes } from "./bytes";

type Kept = components["schemas"]["KeptModel"];

const GB = 1e9;

/** How long what is kept, and the hand on it. */
export function Retention({ kept }: { kept: Kept }) {
  const may = useMayEverywhere();
  const [changing, setChanging] = useState(false);
  const days = (count: number | null): string => (count === null ? "for ever" : `${figure(count)} days`);
  const most = kept.output_keep_bytes;
  return (
    <section className="card" aria-label="Retention">
      <header>
        <h2>Retention</h2>
        <span className="muted small grow">{kept.version > 0 ? "set here" : "by the settings of the server"}</span>
        {may("retention.manage") && <Button onClick={() => setChanging(true)}>Change…</Button>}
      </header>
      <Table title="Retention" heads={["What", "Kept"]}>
        <tr>
          <th scope="row">Events</th>
          <td>
            for ever <span className="muted">(the log is never cut)</span>
          </td>
        </tr>
        <tr>
          <th scope="row">What ended, in the log's own table</th>
          <td>
            {days(kept.archive_after_days)}
            {kept.archive_after_days !== null && ", then in the archive"}
          </td>
        </tr>
        <tr>
          <th scope="row">Whole outputs</th>
          <td>{days(kept.output_keep_days)}</td>
        </tr>
        <tr>
          <th scope="row">All outputs together</th>
          <td>{most === null ? "as many as there are" : `${bytes(most)} at the most`}</td>
        </tr>
      </Table>
      {changing && <Change kept={kept} onClose={() => setChanging(false)} />}
    </section>
  );
}

function shown(count: number | null): string {
  return count === null ? "" : String(count);
}

function read(text: string): number | null {
  return text.trim() === "" ? null : Number(text);
}

function Change({ kept, onClose }: { kept: Kept; onClose: () => void }) {
  const client = useQueryClient();
  const [archive, setArchive] = useState(shown(kept.archive_after_days));
  const [outputs, setOutputs] = useState(shown(kept.output_keep_days));
  const [most, setMost] = useState(shown(kept.output_keep_bytes === null ? null : kept.output_keep_bytes / GB));
  const [reason, setReason] = useState("");
  const gigabytes = read(most);
  const days = read(outputs);
  const change = useChange(
    () =>
      ask(
        api.PUT("/api/v1/retention", {
          body: {
            archive_after_days: read(archive),
            output_keep_days: days,
            output_keep_bytes: gigabytes === null ? null : Math.round(gigabytes * GB),
            reason,
          },
        }),
      ),
    () => {
      toast("It holds from now on.");
      void client.invalidateQueries({ queryKey: ["status"] });
      onClose();
    },
  );
  const sooner =
    (days !== null && (kept.output_keep_days === null || days < kept.output_keep_days)) ||
    (gigabytes !== null && (kept.output_keep_bytes === null || gigabytes * GB < kept.output_keep_bytes));
  return (
    <FormDialog title="Retention" send="Keep it so" change={change} onClose={onClose}>
      <p className="muted">Left empty, it is kept for ever. A worker applies it each hour.</p>
      <Field
        label="Archive what ended after days"
        hint="Compressed, and read as before."
        type="number"
        min={1}
        max={36500}
        value={archive}
        onChange={(event) => setArchive(event.target.value)}
      />
      <Field
        label="Keep whole outputs for days"
        hint="Since a result last named them."
        type="number"
        min={1}
        max={36500}
        value={outputs}
        onChange={(event) => setOutputs(event.target.value)}
      />
      <Field
        label="Keep at most, in GB"
        hint="Of all outputs together; those that were named longest ago go first."
        type="number"
        min={0}
        step="any"
        value={most}
        onChange={(event) => setMost(event.target.value)}
      />
      {sooner && (
        <div className="notice warn" role="status">
          Outputs that are beyond that go for good within the hour. Their size, hash and end stay in the log.
        </div>
      )}
      <Field
        label="Why"
        hint="Kept in the log."
        maxLength={2000}
        value={reason}
        onChange={(event) => setReason(event.target.value)}
      />
    </FormDialog>
  );
}
