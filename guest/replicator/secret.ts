/**
 * The network secret, in this process's memory and nowhere else: no argument, environment, log or disk ever holds it.
 * What leaves this file are derived keys and signatures.
 */
import { randomBytes } from 'node:crypto';
import { appKey, diskKey, networkKey, tlsKey } from '../../lib/protocol/keys.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import { seal } from '../../lib/protocol/sealing.ts';
import { type CompactSignature, compact, sign } from '../../lib/protocol/secp256k1.ts';
import {
  attestationDigest,
  bootstrapDigest,
  type Domain,
  onboardDigest,
} from '../../lib/protocol/typed-data.ts';
import type { KeyManager } from './key-manager.ts';

export interface SecretHolder extends KeyManager {
  /** The network key's own signature over its bootstrap. */
  signBootstrap(bootstrap: Parameters<typeof bootstrapDigest>[1]): CompactSignature;
  /** Overwrites the secret; every later use throws. */
  wipe(): void;
}

/** A fresh secret: 32 bytes from the kernel's generator. Only a bootstrap calls this. */
export function newSecret(): Uint8Array {
  return new Uint8Array(randomBytes(32));
}

/** Takes ownership of `secret`: the caller must not keep it. */
export function secretHolder(secret: Uint8Array, epoch: number, domain: Domain): SecretHolder {
  const network = networkKey(secret, epoch);
  let wiped = false;
  const live = (): Uint8Array => {
    if (wiped) throw new Error('the secret was wiped');
    return secret;
  };
  return {
    epoch,
    networkKey: network.address,
    tlsKey: () => tlsKey(live(), epoch),
    diskKey: (diskId, born = epoch) => diskKey(live(), born, diskId),
    appKey: (app, tag) => appKey(live(), epoch, app, tag),
    signAttestation(app, tag, data) {
      live();
      const { r, s, v } = sign(attestationDigest(domain, { app: appId(app), tag, data }), network.privateKey);
      return Uint8Array.from([v, ...r, ...s]);
    },
    sealFor: (kemPublicKey, requestHash) => seal(live(), epoch, kemPublicKey, requestHash),
    signOnboard(onboard) {
      live();
      return compact(sign(onboardDigest(domain, onboard), network.privateKey));
    },
    signBootstrap(bootstrap) {
      live();
      return compact(sign(bootstrapDigest(domain, bootstrap), network.privateKey));
    },
    wipe() {
      wiped = true;
      secret.fill(0);
      network.privateKey.fill(0);
    },
  };
}
