import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { api, ask } from "../api/client";
import { type Session, useSessionChanged } from "../api/session";
import { useTitle } from "../app/title";
import { Button } from "../ui/Button";
import { Copy } from "../ui/Copy";
import { Fault } from "../ui/Fault";
import { Field } from "../ui/Field";
import { NewPassword } from "./NewPassword";
import { RecoveryCodes } from "./RecoveryCodes";

/** What a person sees to before they may do anything else: a password of their own, and a second factor. */
export function PutInOrder({ session }: { session: Session }) {
  useTitle("First login");
  const changed = useSessionChanged();
  const [codes, setCodes] = useState<{ codes: string[]; csrf: string | null } | null>(null);
  return (
    <main className="centred">
      <div className="card stack">
        {codes !== null ? (
          <>
            <h1>Keep these codes</h1>
            <RecoveryCodes codes={codes.codes} onKept={() => changed(codes.csrf)} />
          </>
        ) : session.pending.includes("password") ? (
          <NewPassword current="The password you were given" onDone={changed}>
            <h1>Choose your own password</h1>
            <p className="muted">
              Somebody else knows the one that you were given.{" "}
              {session.pending.length > 1 && "After this comes your second factor."}
            </p>
          </NewPassword>
        ) : (
          <SecondFactor onDone={(shown, csrf) => setCodes({ codes: shown, csrf })} />
        )}
      </div>
    </main>
  );
}

function SecondFactor({ onDone }: { onDone: (codes: string[], csrf: string | null) => void }) {
  const [code, setCode] = useState("");
  // An offer is an event, so it is made once and kept while the page is open.
  const offer = useQuery({
    queryKey: ["second-factor-offer"],
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 0,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false,
    queryFn: () => ask(api.POST("/api/v1/session/second-factor/offer", { body: {} })),
  });
  const enroll = useMutation({
    mutationFn: () => ask(api.POST("/api/v1/session/second-factor", { body: { code: code.trim() } })),
    onSuccess: (enrolled) => onDone(enrolled.recovery_codes, enrolled.csrf_token),
    onError: () => setCode(""),
  });
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    enroll.mutate();
  };
  return (
    <form className="stack" onSubmit={submit}>
      <h1>Add a second factor</h1>
      <p className="muted">Scan this with an authenticator app, then type the six figures that it shows.</p>
      <Fault error={offer.error} retry={() => offer.refetch()} />
      {offer.data && (
        <>
          <img className="qr" alt="QR code of your second factor" src={asImage(offer.data.qr_svg)} />
          <details>
            <summary>No camera? Type the secret instead</summary>
            <Copy text={offer.data.secret} label="the secret" />
          </details>
        </>
      )}
      <Field
        label="Code"
        inputMode="numeric"
        autoComplete="one-time-code"
        required
        minLength={6}
        value={code}
        onChange={(event) => setCode(event.target.value)}
      />
      <Fault error={enroll.error} />
      <Button look="primary" type="submit" busy={enroll.isPending} disabled={offer.data === undefined}>
        Go on
      </Button>
    </form>
  );
}

/** An SVG as an image: nothing in it can run. */
function asImage(svg: string): string {
  const named = svg.includes("xmlns=") ? svg : svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ');
  return `data:image/svg+xml,${encodeURIComponent(named)}`;
}
