import { useEffect, useState } from "react";
import { Button } from "./Button";

const SURE_MS = 5_000;

interface Props {
  children: string;
  /** What the second click says. */
  sure: string;
  busy?: boolean;
  onClick: () => void;
}

/** For what cannot be undone: the first click asks, the second does it. */
export function SureButton({ children, sure, busy = false, onClick }: Props) {
  const [asked, setAsked] = useState(false);
  useEffect(() => {
    if (!asked) return;
    const timer = setTimeout(() => setAsked(false), SURE_MS);
    return () => clearTimeout(timer);
  }, [asked]);
  return (
    <Button
      look="danger"
      busy={busy}
      onClick={() => {
        setAsked(!asked);
        if (asked) onClick();
      }}
    >
      {asked ? sure : children}
    </Button>
  );
}
