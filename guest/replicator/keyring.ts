/**
 * The network's secrets by epoch, in this process's memory and nowhere else, and the rule which of them is used: by the
 * table `keyPurposes` of lib/protocol/keys.ts, a per-epoch purpose derives from the newest epoch's secret, a pinned one from
 * that of the epoch in which its use was born. There is no other way from a secret to a key.
 *
 * A network that has never rotated has one epoch, and nothing to choose. docs/architecture.md says what a rotation will need.
 */
import { DstackError } from '../../lib/protocol/errors.ts';
import {
  acmeAccountKey,
  appAuthorityKey,
  appIdentityKey,
  appKey,
  appSecretsKey,
  diskKey,
  type KeyPurpose,
  keyPurposes,
  ledgerKeys,
  networkKey,
  signerKeys,
  tlsKey,
} from '../../lib/protocol/keys.ts';
import { seal } from '../../lib/protocol/sealing.ts';

/** How the keys of each purpose are derived. All functions take the secret and its epoch first. */
const derivations = {
  'network-key': networkKey,
  tls: tlsKey,
  'acme-account': acmeAccountKey,
  seal,
  disk: diskKey,
  kv: ledgerKeys,
  signer: signerKeys,
  app: appKey,
  'app-secrets': appSecretsKey,
  'app-identity': appIdentityKey,
  'app-ca': appAuthorityKey,
} as const;

type Derivations = typeof derivations;
type Ruled<Rule> = {
  [P in keyof Derivations]: (typeof keyPurposes)[P] extends Rule ? P : never;
}[keyof Derivations];
export type PerEpochPurpose = Ruled<'per-epoch'>;
export type PinnedPurpose = Ruled<'pinned'>;
/** What identifies one key within its purpose. */
type Path<P extends keyof Derivations> = Derivations[P] extends (
  secret: Uint8Array,
  epoch: number,
  ...path: infer Rest
) => unknown
  ? Rest
  : never;
type Key<P extends keyof Derivations> = ReturnType<Derivations[P]>;

export interface Keyring {
  /** The newest epoch held. */
  readonly epoch: number;
  /** @throws KEY_PINNED for a purpose that is not per epoch */
  perEpoch<P extends PerEpochPurpose>(purpose: P, ...path: Path<P>): Key<P>;
  /**
   * @param born the epoch in which the thing that the key is for was born; undefined if unknown, which is only accepted while
   * the ring has a single secret
   * @throws KEY_PER_EPOCH for a purpose that is not pinned; EPOCH_UNKNOWN without that epoch's secret; BIRTH_EPOCH_UNKNOWN
   */
  pinned<P extends PinnedPurpose>(purpose: P, born: number | undefined, ...path: Path<P>): Key<P>;
  /** Overwrites the secrets; any later use throws. */
  wipe(): void;
}

/**
 * Takes ownership of the secrets, 32 bytes each, by epoch: the caller must not keep them.
 * @throws KEYRING_EMPTY
 */
export function keyring(secrets: ReadonlyMap<number, Uint8Array>): Keyring {
  if (secrets.size === 0) throw new DstackError('KEYRING_EMPTY', 'a keyring needs the secret of an epoch');
  const newest = Math.max(...secrets.keys());
  let wiped = false;

  function derive<P extends keyof Derivations>(purpose: P, epoch: number, path: Path<P>): Key<P> {
    if (wiped) throw new Error('the secret was wiped');
    const secret = secrets.get(epoch);
    if (secret === undefined) {
      const held = [...secrets.keys()].sort((a, b) => a - b).join(', ');
      throw new DstackError(
        'EPOCH_UNKNOWN',
        `a ${purpose} key of epoch ${epoch} was requested; this node only holds the secret of epoch ${held}`,
      );
    }
    const derivation = derivations[purpose] as (...args: unknown[]) => unknown;
    return derivation(secret, epoch, ...path) as Key<P>;
  }

  return {
    epoch: newest,
    perEpoch(purpose, ...path) {
      requireRule(purpose, 'per-epoch', 'KEY_PINNED');
      return derive(purpose, newest, path);
    },
    pinned(purpose, born, ...path) {
      requireRule(purpose, 'pinned', 'KEY_PER_EPOCH');
      if (born === undefined && secrets.size > 1) {
        throw new DstackError(
          'BIRTH_EPOCH_UNKNOWN',
          `a ${purpose} key is pinned to the epoch in which the thing it protects was born, which is unknown; this node holds ${secrets.size} epochs`,
        );
      }
      return derive(purpose, born ?? newest, path);
    },
    wipe() {
      wiped = true;
      for (const secret of secrets.values()) secret.fill(0);
    },
  };
}

/** The types already say so; this refuses callers that get around them. */
function requireRule(purpose: KeyPurpose, rule: 'pinned' | 'per-epoch', code: string): void {
  if (!Object.hasOwn(keyPurposes, purpose) || keyPurposes[purpose] !== rule)
    throw new DstackError(code, `${purpose} keys are ${keyPurposes[purpose]}, not ${rule}`);
}
