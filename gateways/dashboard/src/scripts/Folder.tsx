import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask } from "../api/client";
import type { components } from "../api/schema";
import { useMay } from "../api/session";
import { useChange } from "../app/change";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { FormDialog } from "../ui/FormDialog";

type Script = components["schemas"]["ScriptModel"];

/** Where a script lies, what it is called and what it does: changed in a window. */
export function Folder({ script }: { script: Script }) {
  const manage = useMay()("scripts.manage");
  const [open, setOpen] = useState(false);
  return (
    <div className="row">
      <span className="muted">{script.folder === "" ? "In no folder" : `In ${script.folder}`}</span>
      {manage && (
        <Button look="tiny" onClick={() => setOpen(true)}>
          Name and folder…
        </Button>
      )}
      {open && <Change script={script} onClose={() => setOpen(false)} />}
    </div>
  );
}

function Change({ script, onClose }: { script: Script; onClose: () => void }) {
  const client = useQueryClient();
  const [name, setName] = useState(script.name);
  const [description, setDescription] = useState(script.description);
  const [folder, setFolder] = useState(script.folder);
  const path = { script_id: script.id };
  const change = useChange(
    () =>
      ask(
        api.PATCH("/api/v1/scripts/{script_id}", {
          params: { path },
          body: {
            folder,
            ...(name === script.name ? {} : { name }),
            ...(description === script.description ? {} : { description }),
          },
        }),
      ),
    async () => {
      await client.invalidateQueries({ queryKey: ["scripts"] });
      onClose();
    },
  );
  return (
    <FormDialog title={script.name} send="Save" change={change} onClose={onClose}>
      <Field label="Name" required maxLength={200} value={name} onChange={(event) => setName(event.target.value)} />
      <Field
        label="Description"
        maxLength={10_000}
        value={description}
        onChange={(event) => setDescription(event.target.value)}
      />
      <FolderField folder={folder} onFolder={setFolder} />
    </FormDialog>
  );
}

export function FolderField({ folder, onFolder }: { folder: string; onFolder: (folder: string) => void }) {
  return (
    <Field
      label="Folder"
      hint="Such as Backup, or Backup/Linux; empty is in none."
      maxLength={200}
      value={folder}
      onChange={(event) => onFolder(event.target.value)}
    />
  );
}
