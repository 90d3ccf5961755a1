import { useState } from "react";
import { Button } from "./Button";

/** A line to be copied. */
export function Copy({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState(false);
  const copy = async (): Promise<void> => {
    await navigator.clipboard.writeText(text);
    setDone(true);
    setTimeout(() => setDone(false), 2_000);
  };
  return (
    <div className="copy">
      <code>{text}</code>
      <Button look="tiny" onClick={copy} aria-label={`Copy ${label}`}>
        {done ? "Copied ✓" : "Copy"}
      </Button>
    </div>
  );
}
