/**
 * What a verifier remembers between quotes: the outcome of checks that depend on bytes alone, never on the time, the
 * policy or the quote at hand. Only what passed is kept, so nobody can fill it with rubbish; each map is bounded, and drops
 * any entry for a new one. Whether a remembered certificate, list or document is current is checked again each time.
 */
import type { Certificate } from './certificates/certificate.ts';
import type { IssuedByRoot, PckChain } from './certificates/chains.ts';
import type { RevocationList } from './certificates/crl.ts';
import type { P256Key } from './certificates/p256.ts';
import type { TrustRoot } from './certificates/trust-roots.ts';
import type { Collateral } from './collateral/collateral.ts';
import type { QeIdentity } from './collateral/qe-identity.ts';
import type { TcbInfo } from './collateral/tcb-info.ts';

/**
 * Platforms and document versions that one process meets at a time. What is kept of a platform takes 6 to 14 KB, and saves two
 * thirds of a millisecond: `npm run bench -- scale` measures it.
 */
const DEFAULT_ENTRIES = 1024;

/**
 * A map of limited size. It drops an entry by chance: where more platforms than it has room for come in turn, as after an update
 * that all of them start for, the oldest, or the one that was not used for longest, is the one that comes next.
 */
export class BoundedMap<Value> {
  readonly #entries = new Map<string, Value>();
  readonly #keys: string[] = [];
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** False for a map without room, for which no key needs to be computed. */
  get keeps(): boolean {
    return this.#limit > 0;
  }

  get(key: string): Value | undefined {
    // Looking a long text up costs its hash.
    return this.keeps ? this.#entries.get(key) : undefined;
  }

  set(key: string, value: Value): void {
    if (!this.keeps) return;
    if (!this.#entries.has(key)) {
      const at =
        this.#keys.length < this.#limit ? this.#keys.length : Math.floor(Math.random() * this.#keys.length);
      const dropped = this.#keys[at];
      if (dropped !== undefined) this.#entries.delete(dropped);
      this.#keys[at] = key;
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

/**
 * What was read of one collateral object, whose signatures held. The object is frozen, so passing it again passes
 * the same texts, and none of them has to be looked up.
 */
export interface ReadCollateral {
  rootCrl?: RevocationList;
  crlIssuer?: Certificate;
  pckCrl?: RevocationList;
  qeSigner?: Certificate;
  tcbSigner?: Certificate;
  qeIdentity?: QeIdentity;
  tcbInfo?: TcbInfo;
}

/** One memory serves one trust root. Create it where the verifier lives; without one, every check is made each time. */
export interface VerifierMemory {
  readonly trustRoot: TrustRoot;
  /** By the PEM of the chain in the quote. */
  readonly pckChains: BoundedMap<PckChain>;
  /** Certificates under the root, by PEM: what comes with the trust root, then what was met. */
  readonly issued: IssuedByRoot;
  /** By the hex of the list. */
  readonly crls: BoundedMap<Signed<RevocationList>>;
  /** By the exact signed text. */
  readonly tcbInfos: BoundedMap<Signed<TcbInfo>>;
  readonly qeIdentities: BoundedMap<Signed<QeIdentity>>;
  /** Attestation keys, by all that vouches for them: the QE report, its signature, the key, the authentication data. */
  readonly attestationKeys: BoundedMap<{ readonly pck: Certificate; readonly key: P256Key }>;
  readonly collateral: WeakMap<Collateral, ReadCollateral>;
}

/** @param entries how many of each kind are kept */
export function createMemory(trustRoot: TrustRoot, entries: number = DEFAULT_ENTRIES): VerifierMemory {
  return {
    trustRoot,
    pckChains: new BoundedMap(entries),
    issued: issuedBy(trustRoot, entries),
    crls: new BoundedMap(entries),
    tcbInfos: new BoundedMap(entries),
    qeIdentities: new BoundedMap(entries),
    attestationKeys: new BoundedMap(entries),
    collateral: new WeakMap(),
  };
}

/** For one verdict: nothing but the certificates that it meets twice. */
export function noMemory(trustRoot: TrustRoot): VerifierMemory {
  return { ...createMemory(trustRoot, 0), issued: issuedBy(trustRoot, 8) };
}

function issuedBy(trustRoot: TrustRoot, entries: number): IssuedByRoot {
  const met = new BoundedMap<Certificate>(entries);
  return {
    get: (pem) => trustRoot.issued.get(pem) ?? met.get(pem),
    set: (pem, certificate) => met.set(pem, certificate),
  };
}
