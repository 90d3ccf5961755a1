import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useDeferredValue, useState } from "react";
import { usePlaceChoice } from "../admin/choices";
import { api, ask } from "../api/client";
import { sentence } from "../api/problem";
import { useChange } from "../app/change";
import { parse } from "../fleet/filter";
import { Choice } from "../ui/Choice";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { ManyPick } from "../ui/ManyPick";
import { toast } from "../ui/Toasts";
import type { Check } from "./state";
import { draftOf, WhatFields, whatOf } from "./What";

type For = "kept" | "all" | "sites" | "matching";

interface Props {
  /** The check to be changed; null for a new one. */
  known: Check | null;
  onClose: () => void;
}

/** Makes a check, or changes one; says on how many machines it is measured as it is made up. */
export function CheckDialog({ known, onClose }: Props) {
  const [name, setName] = useState(known?.name ?? "");
  const [draft, setDraft] = useState(draftOf(known?.what ?? null));
  const [whom, setWhom] = useState<For>(known === null ? "all" : "kept");
  const [sites, setSites] = useState<string[]>([]);
  const [query, setQuery] = useState("");
  const [interval, setInterval] = useState(String(known?.interval_s ?? 120));
  const [failures, setFailures] = useState(String(known?.failures ?? 1));
  const [recoveries, setRecoveries] = useState(String(known?.recoveries ?? 1));
  const [description, setDescription] = useState(known?.description ?? "");
  const places = usePlaceChoice();
  const parsed = parse(query);
  const target: Check["target"] | null =
    whom === "kept" && known !== null
      ? known.target
      : whom === "sites"
        ? sites.length === 0
          ? null
          : { include: { sites } }
        : whom === "matching"
          ? query.trim() === ""
            ? null
            : { include: { matching: parsed.filter } }
          : { include: { everything: true } };
  const body = target && {
    name,
    what: whatOf(draft, known?.what ?? null),
    target,
    interval_s: Number(interval),
    failures: Number(failures),
    recoveries: Number(recoveries),
    description,
  };
  const define = useChange(
    async () => {
      if (body === null) return;
      await ask(
        known === null
          ? api.POST("/api/v1/checks", { body })
          : api.PUT("/api/v1/checks/{check_id}", { params: { path: { check_id: known.id } }, body }),
      );
    },
    () => {
      toast(`${name} is defined.`);
      onClose();
    },
  );
  return (
    <FormDialog
      title={known === null ? "New check" : `Change ${known.name}`}
      send={known === null ? "Measure it" : "Change it"}
      change={define}
      disabled={body === null}
      onClose={onClose}
    >
      <Field
        label="Name"
        required
        maxLength={200}
        value={name}
        onChange={(event) => setName(event.target.value)}
        autoFocus={known === null}
      />
      <WhatFields draft={draft} onDraft={setDraft} />
      <Choice label="On" value={whom} onChoose={(value) => setWhom(value as For)}>
        {known !== null && <option value="kept">the machines that it is for now</option>}
        <option value="all">all machines</option>
        <option value="sites">the machines of sites</option>
        <option value="matching">machines that match</option>
      </Choice>
      {whom === "sites" && (
        <ManyPick
          label="Sites"
          none="none"
          values={sites}
          options={places.siteOptions}
          more={places.sites.more}
          onValues={setSites}
        />
      )}
      {whom === "matching" && (
        <Field
          label="All that match"
          hint="As in the fleet's box: web os:linux tag:prod"
          spellCheck={false}
          wrong={parsed.wrong.length > 0 ? parsed.wrong.join(" ") : undefined}
          value={query}
          onChange={(event) => setQuery(event.target.value)}
        />
      )}
      <Reach target={target} />
      <div className="row wrap">
        <Field
          label="Every so many seconds"
          type="number"
          min={15}
          max={86400}
          required
          value={interval}
          onChange={(event) => setInterval(event.target.value)}
        />
        <Field
          label="Worse in a row"
          type="number"
          min={1}
          max={100}
          required
          value={failures}
          onChange={(event) => setFailures(event.target.value)}
        />
        <Field
          label="Better in a row"
          type="number"
          min={1}
          max={100}
          required
          value={recoveries}
          onChange={(event) => setRecoveries(event.target.value)}
        />
      </div>
      <Field
        label="Description"
        maxLength={2000}
        value={description}
        onChange={(event) => setDescription(event.target.value)}
      />
    </FormDialog>
  );
}

/** On how many machines it would be measured now; those that come to match later fall under it by themselves. */
function Reach({ target }: { target: Check["target"] | null }) {
  const rested = useDeferredValue(target);
  const plan = useQuery({
    queryKey: ["checks", "plan", rested],
    enabled: rested !== null,
    placeholderData: keepPreviousData,
    queryFn: () => {
      // Whom it is for does not depend on what is measured.
      const what = { kind: "disk", error: 1 } as const;
      return ask(api.POST("/api/v1/checks/plan", { body: { name: "reach", what, target: rested ?? { include: {} } } }));
    },
  });
  if (target === null) return <p className="muted">On no machine yet.</p>;
  if (plan.error !== null) return <p className="muted">On how many is not known: {sentence(plan.error)}</p>;
  return (
    <p className="muted" role="status">
      {plan.data === undefined
        ? "Counting…"
        : `On ${plan.data.targeted === 1 ? "1 machine" : `${plan.data.targeted} machines`} now, and on those that come to match later.`}
    </p>
  );
}
