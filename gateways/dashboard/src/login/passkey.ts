/** Whether this browser, at this address, can use passkeys: they are bound to a name, never to an IP address. */
export function passkeysWork(): boolean {
  const { hostname } = window.location;
  const address = /^[\d.]+$/.test(hostname) || hostname.includes(":");
  return !address && typeof PublicKeyCredential !== "undefined" && "parseRequestOptionsFromJSON" in PublicKeyCredential;
}

/** Have the person's device sign what the server asks.
 *
 * @param options as the server gives them.
 * @throws Error where the person, or the device, would not.
 */
export async function signWithPasskey(options: Record<string, unknown>): Promise<Record<string, unknown>> {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(
    options as unknown as PublicKeyCredentialRequestOptionsJSON,
  );
  const credential = await navigator.credentials.get({ publicKey }).catch((error: unknown) => {
    throw new Error("The device gave no passkey. Try again, or log in with your password.", { cause: error });
  });
  if (!(credential instanceof PublicKeyCredential)) throw new Error("The device gave no passkey.");
  return credential.toJSON() as unknown as Record<string, unknown>;
}

/** Have the person's device make a passkey.
 *
 * @param options as the server gives them.
 * @throws Error where the person, or the device, would not.
 */
export async function makePasskey(options: Record<string, unknown>): Promise<Record<string, unknown>> {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(
    options as unknown as PublicKeyCredentialCreationOptionsJSON,
  );
  const credential = await navigator.credentials.create({ publicKey }).catch((error: unknown) => {
    throw new Error("The device made no passkey. It may have one of yours already.", { cause: error });
  });
  if (!(credential instanceof PublicKeyCredential)) throw new Error("The device made no passkey.");
  return credential.toJSON() as unknown as Record<string, unknown>;
}
