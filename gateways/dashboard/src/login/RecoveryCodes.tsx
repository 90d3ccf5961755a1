import { Button } from "../ui/Button";
import { Copy } from "../ui/Copy";

/** Codes that are shown once. */
export function RecoveryCodes({ codes, onKept }: { codes: string[]; onKept: () => void }) {
  return (
    <>
      <p className="muted">
        Each lets you in once, on the day that your device is lost. They are shown now and never again.
      </p>
      <pre className="codes">{codes.join("\n")}</pre>
      <Copy text={codes.join(" ")} label="the recovery codes" />
      <Button look="primary" onClick={onKept}>
        I have kept them
      </Button>
    </>
  );
}
