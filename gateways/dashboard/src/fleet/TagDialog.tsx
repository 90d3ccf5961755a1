import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import { useChange } from "../app/change";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";
import { figure } from "../ui/figure";
import { toast } from "../ui/Toasts";
import { AGENTS } from "./agents";
import { count, type Selection } from "./selection";

function machines(number: number): string {
  return number === 1 ? "1 machine" : `${figure(number)} machines`;
}

function tagsOf(text: string): string[] {
  return [...new Set(text.split(/[\s,]+/).filter((tag) => tag !== ""))];
}

/** Tags that all that is selected gets or loses; what else each has stays. */
export default function TagDialog({ selection, onClose }: { selection: Selection; onClose: () => void }) {
  const client = useQueryClient();
  const [add, setAdd] = useState("");
  const [remove, setRemove] = useState("");
  const [left, setLeft] = useState<number | null>(null);
  const change = useChange(
    async () => {
      const who =
        "ids" in selection
          ? { agents: [...selection.ids] }
          : { matching: selection.matching, exclude: [...selection.except] };
      const body = { ...who, add: tagsOf(add), remove: tagsOf(remove) };
      let tagged = 0;
      for (;;) {
        // Part after part: what is done needs no doing again.
        const answer = await ask(api.POST("/api/v1/agents/tags", { body }));
        tagged += answer.tagged;
        if (answer.left === 0 || answer.tagged === 0) return tagged;
        setLeft(answer.left);
      }
    },
    (tagged) => {
      toast(tagged === 0 ? "All of them had these tags before." : `${machines(tagged)} changed.`);
      void client.invalidateQueries({ queryKey: [AGENTS] });
      onClose();
    },
  );
  return (
    <FormDialog
      title={`Tags of ${machines(count(selection))}`}
      send="Change tags"
      change={change}
      disabled={tagsOf(add).length + tagsOf(remove).length === 0}
      onClose={onClose}
    >
      <Field
        label="Add"
        hint="With spaces between them. What else each machine has stays."
        spellCheck={false}
        value={add}
        onChange={(event) => setAdd(event.target.value)}
      />
      <Field label="Take away" spellCheck={false} value={remove} onChange={(event) => setRemove(event.target.value)} />
      {change.isPending && left !== null && (
        <p className="muted" aria-live="polite">
          {machines(left)} left…
        </p>
      )}
    </FormDialog>
  );
}
