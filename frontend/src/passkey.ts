// Passkeys: what django-allauth puts into the page goes to the browser's authenticator, its answer back by a plain form.
import { t } from "./messages";
import { pageData } from "./meta";

const TIMEOUT_MS = 15_000;

interface Described {
  id: string;
  type: PublicKeyCredentialType;
  transports?: AuthenticatorTransport[];
}

interface Creation extends Omit<PublicKeyCredentialCreationOptions, "challenge" | "user" | "excludeCredentials"> {
  challenge: string;
  user: { id: string; name: string; displayName: string };
  excludeCredentials?: Described[];
}

interface Asking extends Omit<PublicKeyCredentialRequestOptions, "challenge" | "allowCredentials"> {
  challenge: string;
  allowCredentials?: Described[];
}

interface Data {
  creation_options?: { publicKey: Creation };
  request_options?: { publicKey: Asking };
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

function text(buffer: ArrayBuffer | null | undefined): string | undefined {
  if (!buffer) return undefined;
  const binary = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

const described = (known: Described[] | undefined): PublicKeyCredentialDescriptor[] =>
  (known ?? []).map((one) => ({ ...one, id: bytes(one.id) }));

async function make(options: Creation): Promise<unknown> {
  const made = (await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: bytes(options.challenge),
      user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: described(options.excludeCredentials),
      // It has to know whose it is: people sign in with it alone.
      authenticatorSelection: { ...options.authenticatorSelection, residentKey: "required", requireResidentKey: true, userVerification: "required" },
    },
  })) as PublicKeyCredential;
  const response = made.response as AuthenticatorAttestationResponse;
  return {
    ...outside(made),
    response: {
      clientDataJSON: text(response.clientDataJSON),
      attestationObject: text(response.attestationObject),
      transports: response.getTransports?.() ?? [],
    },
  };
}

async function show(options: Asking): Promise<unknown> {
  const shown = (await navigator.credentials.get({
    publicKey: { ...options, challenge: bytes(options.challenge), allowCredentials: described(options.allowCredentials) },
  })) as PublicKeyCredential;
  const response = shown.response as AuthenticatorAssertionResponse;
  return {
    ...outside(shown),
    response: {
      clientDataJSON: text(response.clientDataJSON),
      authenticatorData: text(response.authenticatorData),
      signature: text(response.signature),
      userHandle: text(response.userHandle),
    },
  };
}

function outside(credential: PublicKeyCredential): Record<string, unknown> {
  return {
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    authenticatorAttachment: credential.authenticatorAttachment,
    clientExtensionResults: credential.getClientExtensionResults(),
  };
}

/** On the sign-in page the challenge is asked for when somebody presses the button: most visitors do not. */
async function dataOf(form: HTMLFormElement): Promise<Data> {
  if (form.dataset.passkey !== "login") return pageData<Data>("passkey-data") ?? {};
  const answer = await fetch(form.action, { headers: { Accept: "application/json" }, credentials: "same-origin", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!answer.ok) throw new Error(String(answer.status));
  return (await answer.json()) as Data;
}

async function run(form: HTMLFormElement): Promise<void> {
  const data = await dataOf(form);
  let credential: unknown = null;
  if (form.dataset.passkey === "create" && data.creation_options) credential = await make(data.creation_options.publicKey);
  else if (data.request_options) credential = await show(data.request_options.publicKey);
  const input = form.querySelector<HTMLInputElement>("input[name=credential]");
  if (!input || !credential) throw new Error("nothing to send");
  input.value = JSON.stringify(credential);
  form.submit();
}

for (const form of document.querySelectorAll<HTMLFormElement>("form[data-passkey]")) {
  const button = form.querySelector<HTMLButtonElement>("[data-passkey-start]");
  const state = form.querySelector<HTMLElement>("[data-passkey-state]");
  const able = typeof window.PublicKeyCredential === "function";
  if (able) form.hidden = false;
  else if (state) state.textContent = t("This browser knows no passkeys.");
  const start = async (): Promise<void> => {
    if (!button || !able || button.disabled) return;
    button.disabled = true;
    if (state) state.textContent = t("Your device asks you now.");
    try {
      await run(form);
    } catch {
      // Which reason it was, browsers keep to themselves: who says no and who has no passkey look the same.
      if (state) state.textContent = t("No passkey was used. You can try again.");
      button.disabled = false;
    }
  };
  // Who comes back by the browser's button finds the page as it was left: it must be of use again.
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted || !button) return;
    button.disabled = false;
    if (state) state.textContent = able ? "" : t("This browser knows no passkeys.");
  });
  button?.addEventListener("click", () => void start());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void start();
  });
}
