import { useState } from "react";
import { useLocation } from "wouter";
import { api, ask } from "../api/client";
import { useChange } from "../app/change";
import { useTitle } from "../app/title";
import { Button } from "../ui/Button";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { type Content, ContentForm } from "./ContentForm";

/** A script's first revision. */
export default function NewScriptPage() {
  useTitle("New script");
  const [, go] = useLocation();
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [content, setContent] = useState<Content>({ shell: "sh", body: "" });
  const create = useChange(
    () => ask(api.POST("/api/v1/scripts", { body: { name, description, content } })),
    (answer) => go(`/scripts/${answer.id}`),
  );
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
        <Button look="primary" type="submit" busy={create.isPending} disabled={content.body.trim() === ""}>
          Add it
        </Button>
      </header>
      <Fault error={create.error} />
      <ContentForm content={content} onContent={setContent}>
        <Field label="Name" required maxLength={200} value={name} onChange={(event) => setName(event.target.value)} />
        <Field label="Description" value={description} onChange={(event) => setDescription(event.target.value)} />
      </ContentForm>
    </form>
  );
}
