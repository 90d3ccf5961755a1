import { type ReactNode, useId } from "react";
import { Button } from "./Button";
import { Dialog } from "./Dialog";
import { Fault } from "./Fault";

interface Props {
  title: ReactNode;
  /** What the button that sends it says. */
  send: string;
  change: { isPending: boolean; error: unknown; mutate: () => void };
  disabled?: boolean;
  wide?: boolean;
  onClose: () => void;
  children: ReactNode;
}

/** A window with a form: sent by its button or by Enter, and open until that has worked. */
export function FormDialog({ title, send, change, disabled, wide, onClose, children }: Props) {
  const id = useId();
  return (
    <Dialog
      title={title}
      wide={wide ?? false}
      onClose={onClose}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button look="primary" type="submit" form={id} busy={change.isPending} disabled={disabled}>
            {send}
          </Button>
        </>
      }
    >
      <form
        id={id}
        className="stack"
        autoComplete="off"
        onSubmit={(event) => {
          event.preventDefault();
          change.mutate();
        }}
      >
        {children}
        <Fault error={change.error} />
      </form>
    </Dialog>
  );
}
