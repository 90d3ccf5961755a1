import { useState } from "react";
import { useLocation } from "wouter";
import { api, ask } from "../api/client";
import { useChange } from "../app/change";
import { useTitle } from "../app/title";
import { variableLines, variables } from "../run/how";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { ContentForm } from "./ContentForm";
import { FolderField } from "./Folder";
import { type Kept, readScript } from "./files";

/** A script's first revision: written here, or brought in a file. */
export default function NewScriptPage() {
  useTitle("New script");
  const [, go] = useLocation();
  const [kept, setKept] = useState<Kept>({
    name: "",
    description: "",
    folder: "",
    content: { shell: "sh", body: "" },
  });
  const [env, setEnv] = useState("");
  // The editor begins anew with the text of each file.
  const [files, setFiles] = useState(0);
  const set = (change: Partial<Kept>): void => setKept({ ...kept, ...change });
  const create = useChange(
    async () =>
      ask(api.POST("/api/v1/scripts", { body: { ...kept, content: { ...kept.content, env: variables(env) } } })),
    (answer) => go(`/scripts/${answer.id}`),
  );
  const bring = useChange(readScript, (brought) => {
    create.reset();
    setKept(brought);
    setEnv(variableLines(brought.content.env ?? {}));
    setFiles(files + 1);
  });
  return (
    <form
      className="page"
      onSubmit={(event) => {
        event.preventDefault();
        create.mutate();
      }}
    >
      <header>
        <h1>New script</h1>
        <div className="grow" />
        <label className="button file">
          From a file…
          <input
            type="file"
            className="hidden-text"
            accept=".sh,.bash,.py,.ps1,.cmd,.bat,.json"
            onChange={(event) => {
              const file = event.target.files?.[0];
              if (file !== undefined) bring.mutate(file);
              event.target.value = "";
            }}
          />
        </label>
        <Button look="primary" type="submit" busy={create.isPending} disabled={kept.content.body.trim() === ""}>
          Add it
        </Button>
      </header>
      <Fault error={create.error ?? bring.error} />
      <ContentForm
        key={files}
        content={kept.content}
        onContent={(content) => set({ content })}
        env={env}
        onEnv={setEnv}
      >
        <Field
          label="Name"
          required
          maxLength={200}
          value={kept.name}
          onChange={(event) => set({ name: event.target.value })}
        />
        <Field
          label="Description"
          value={kept.description}
          onChange={(event) => set({ description: event.target.value })}
        />
        <FolderField folder={kept.folder} onFolder={(folder) => set({ folder })} />
      </ContentForm>
    </form>
  );
}
