import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { useList } from "../app/list";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { Dialog } from "../ui/Dialog";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { figure } from "../ui/figure";
import { More } from "../ui/More";
import { Once } from "../ui/Once";
import { Pick } from "../ui/Pick";
import { Status } from "../ui/Status";
import { SureButton } from "../ui/SureButton";
import { Table } from "../ui/Table";
import { Time } from "../ui/Time";
import { toast, toastError } from "../ui/Toasts";
import { inDays, usePlaceChoice, usePlaces } from "./choices";
import { TurnedAway } from "./TurnedAway";
import { WaitingMachines } from "./WaitingMachines";

type Token = components["schemas"]["TokenModel"];

/** What lets machines in. */
export default function TokensTab() {
  const manage = useMay()("enrollment.manage");
  const [making, setMaking] = useState(false);
  const [past, setPast] = useState(false);
  const { pages, items, again } = useList(["admin", "tokens"], ["Enrollment", "GuardedToken"], (query) =>
    ask(api.GET("/api/v1/enrollment-tokens", { params: { query } })),
  );
  const shown = items.filter((one) => past || state(one) === "open");
  return (
    <>
      <div className="row wrap">
        <p className="muted grow">A token lets so many machines into one site, until a date. Its text is shown once.</p>
        <button type="button" className="chip" aria-pressed={past} onClick={() => setPast(!past)}>
          past ones too
        </button>
        {manage && (
          <Button look="primary" onClick={() => setMaking(true)}>
            New token
          </Button>
        )}
      </div>
      <WaitingMachines />
      <Fault error={pages.error} retry={() => pages.refetch()} />
      {pages.isSuccess && shown.length === 0 && (
        <div className="empty">
          <h2>{items.length > 0 ? "No token is open" : "There is no token yet"}</h2>
          <p>Nothing can enroll just now. The machines that did stay as they are.</p>
        </div>
      )}
      {shown.length > 0 && (
        <div className="card">
          <Table title="Enrollment tokens" heads={["Site", "State", "Used", "Expires", "Note", "Made", ""]}>
            {shown.map((one) => (
              <Row key={one.id} item={one} manage={manage} onDone={again} />
            ))}
          </Table>
        </div>
      )}
      <More of={pages} />
      {past && <TurnedAway />}
      {making && (
        <NewToken
          onClose={() => {
            setMaking(false);
            void again();
          }}
        />
      )}
    </>
  );
}

/** Why it lets nobody in any more, or that it does. */
function state(token: Token): "open" | "revoked" | "used up" | "expired" {
  if (token.revoked) return "revoked";
  if (token.uses >= token.max_uses) return "used up";
  return Date.parse(token.expires_at) < Date.now() ? "expired" : "open";
}

function Row({ item, manage, onDone }: { item: Token; manage: boolean; onDone: () => unknown }) {
  const places = usePlaces();
  const path = { token_id: item.id };
  const revoke = useChange(
    () => ask(api.POST("/api/v1/enrollment-tokens/{token_id}/revoke", { params: { path }, body: { reason: "" } })),
    () => {
      toast("The token lets nobody in any more.");
      return onDone();
    },
  );
  const now = state(item);
  return (
    <tr>
      <th scope="row">{places.site(item.site_id)}</th>
      <td>
        <Status tone={now === "open" ? "ok" : "off"} shape={now === "open" ? "ring" : "dash"}>
          {now}
        </Status>
      </td>
      <td className="nowrap">
        {figure(item.uses)} of {figure(item.max_uses)}
        {item.approval === "required" && <div className="muted small">{item.waiting} wait for approval</div>}
      </td>
      <td>
        <Time at={item.expires_at} />
      </td>
      <td className="breakable">{item.note}</td>
      <td>
        <Time at={item.created_at} />
      </td>
      <td>
        {manage && now === "open" && (
          <SureButton
            sure="Revoke: click again"
            busy={revoke.isPending}
            onClick={() => revoke.mutate(undefined, { onError: toastError })}
          >
            Revoke
          </SureButton>
        )}
      </td>
    </tr>
  );
}

function NewToken({ onClose }: { onClose: () => void }) {
  const { sites, siteOptions } = usePlaceChoice();
  const [chosen, setChosen] = useState("");
  const [uses, setUses] = useState("1");
  const [days, setDays] = useState("1");
  const [note, setNote] = useState("");
  const [approval, setApproval] = useState(false);
  const target = chosen || (siteOptions[0]?.value ?? "");
  const make = useChange(() =>
    ask(
      api.POST("/api/v1/enrollment-tokens", {
        body: {
          site_id: target,
          max_uses: Number(uses),
          expires_at: inDays(Number(days)),
          note,
          approval: approval ? "required" : "none",
        },
      }),
    ),
  );
  const token = make.data?.token;
  if (token != null) {
    return (
      <Dialog title="The token" onClose={onClose} footer={<Button onClick={onClose}>I have it</Button>}>
        <Once text={token} label="the token">
          Copy it now: it is shown this once. <i>Add a machine</i> makes the whole line to type on a machine.
        </Once>
      </Dialog>
    );
  }
  return (
    <FormDialog title="New token" send="Make it" change={make} disabled={target === ""} onClose={onClose}>
      <Pick label="Site" value={target} onChoose={setChosen} options={siteOptions} more={sites.more}>
        {siteOptions.length === 0 && <option value="">There is no site yet</option>}
      </Pick>
      <Field
        label="For how many machines"
        type="number"
        min={1}
        max={1000000}
        required
        value={uses}
        onChange={(event) => setUses(event.target.value)}
      />
      <Choice label="Expires" value={days} onChoose={setDays}>
        <option value="1">in a day</option>
        <option value="7">in a week</option>
        <option value="30">in 30 days</option>
        <option value="365">in a year</option>
      </Choice>
      <Field label="Note" maxLength={200} value={note} onChange={(event) => setNote(event.target.value)} />
      <label className="row">
        <input type="checkbox" checked={approval} onChange={(event) => setApproval(event.target.checked)} />
        Each machine waits until somebody approves it
      </label>
    </FormDialog>
  );
}
