/**
 * What a verifier remembers between quotes: the outcome of checks that depend on bytes alone, never on the time, the
 * policy or the quote at hand. Only what passed is kept, so nobody fills it with rubbish; each store is bounded and drops
 * the oldest entry first. Whether a remembered certificate, list or document is current is judged anew each time.
 */
import type { Certificate } from './certificate.ts';
import type { IssuedByRoot, PckChain } from './chains.ts';
import type { RevocationList } from './crl.ts';
import type { P256Key } from './p256.ts';
import type { QeIdentity } from './qe-identity.ts';
import type { TcbInfo } from './tcb-info.ts';
import type { TrustRoot } from './trust-roots.ts';

/** Platforms and document versions that one process meets at a time; each entry is a few kilobytes. */
const DEFAULT_ENTRIES = 128;

/** A map of limited size. */
export class Store<Value> {
  readonly #entries = new Map<string, Value>();
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get(key: string): Value | undefined {
    return this.#entries.get(key);
  }

  set(key: string, value: Value): void {
    if (this.#entries.size >= this.#limit && !this.#entries.has(key)) {
      const [oldest] = this.#entries.keys();
      if (oldest !== undefined) this.#entries.delete(oldest);
    }
    this.#entries.set(key, value);
  }

  get size(): number {
    return this.#entries.size;
  }
}

/** A signed thing that was found to be signed by `signer`. */
export interface Signed<Value> {
  readonly signer: P256Key;
  readonly signature: string;
  readonly value: Value;
}

/** One memory serves one trust root. Create it where the verifier lives; without one, every check is made each time. */
export interface VerifierMemory {
  readonly trustRoot: TrustRoot;
  /** By the PEM of the chain in the quote. */
  readonly pckChains: Store<PckChain>;
  /** Certificates under the root, by PEM: what comes with the trust root, then what was met. */
  readonly issued: IssuedByRoot;
  /** By the hex of the list. */
  readonly crls: Store<Signed<RevocationList>>;
  /** By the exact signed text. */
  readonly tcbInfos: Store<Signed<TcbInfo>>;
  readonly qeIdentities: Store<Signed<QeIdentity>>;
  /** Attestation keys, by all that vouches for them: the QE report, its signature, the key, the authentication data. */
  readonly attestationKeys: Store<{ readonly pck: Certificate; readonly key: P256Key }>;
}

/** @param entries how many of each kind are kept */
export function createMemory(trustRoot: TrustRoot, entries: number = DEFAULT_ENTRIES): VerifierMemory {
  return {
    trustRoot,
    pckChains: new Store(entries),
    issued: issuedBy(trustRoot, entries),
    crls: new Store(entries),
    tcbInfos: new Store(entries),
    qeIdentities: new Store(entries),
    attestationKeys: new Store(entries),
  };
}

function issuedBy(trustRoot: TrustRoot, entries: number): IssuedByRoot {
  const met = new Store<Certificate>(entries);
  return {
    get: (pem) => trustRoot.issued.get(pem) ?? met.get(pem),
    set: (pem, certificate) => met.set(pem, certificate),
  };
}
