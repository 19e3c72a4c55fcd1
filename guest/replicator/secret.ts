/**
 * The holder of the network's secrets (keyring.ts): they never appear in an argument, the environment, a log or on a disk.
 * Only derived keys, signatures, opened secrets of apps, and a secret sealed to a node that was let in leave this file.
 */
import { randomBytes } from 'node:crypto';
import { p256 } from '@noble/curves/nist.js';
import {
  keyTypeOf,
  networkLinkDigest,
  publicKeyOfApp,
  purposeLinkDigest,
  signWith,
} from '../../lib/protocol/app-keys.ts';
import { openSecret, sealingKeyStatement, sealingPublicKey } from '../../lib/protocol/app-secrets.ts';
import { signLedgerEvidence } from '../../lib/protocol/ledger-evidence.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import {
  type CompactSignature,
  compact,
  publicKeyOf,
  recoverable,
  sign,
} from '../../lib/protocol/secp256k1.ts';
import { p256PublicKey } from '../../lib/protocol/site-evidence.ts';
import {
  attestationDigest,
  bootstrapDigest,
  type Domain,
  onboardDigest,
  siteDigest,
} from '../../lib/protocol/typed-data.ts';
import type { KeyManager } from './key-manager.ts';
import type { Keyring } from './keyring.ts';

export interface SecretHolder extends KeyManager {
  /** The network key's own signature over its bootstrap. */
  signBootstrap(bootstrap: Parameters<typeof bootstrapDigest>[1]): CompactSignature;
  /** Overwrites the secrets; any later use throws. */
  wipe(): void;
}

/** A fresh secret: 32 bytes from the kernel's random number generator. Only a bootstrap calls this. */
export function newSecret(): Uint8Array {
  return new Uint8Array(randomBytes(32));
}

/** Takes ownership of the keyring: the caller must not use it any more. */
export function secretHolder(keys: Keyring, domain: Domain): SecretHolder {
  const { epoch } = keys;
  const { privateKey, address } = keys.perEpoch('network-key');
  let wiped = false;
  const signed = (digest: Uint8Array) => {
    if (wiped) throw new Error('the network key was wiped');
    return sign(digest, privateKey);
  };
  return {
    epoch,
    networkKey: address,
    tlsKey: () => keys.perEpoch('tls'),
    acmeAccountKey: () => keys.perEpoch('acme-account'),
    diskKey: (diskId, born = epoch) => keys.pinned('disk', born, diskId),
    ledgerKeys: (log, born = epoch) => keys.pinned('kv', born, log),
    signerKeys: (chain, born = epoch) => keys.pinned('signer', born, chain),
    signLedger: (said) => signLedgerEvidence(said, signed),
    appKey: (app, tag, type, born) => keys.pinned('app', born, app, tag, type),
    signAs(app, tag, algorithm, data, born) {
      const type = keyTypeOf(algorithm);
      const key = keys.pinned('app', born, app, tag, type);
      return { signature: signWith(algorithm, key, data), publicKey: publicKeyOfApp(type, key) };
    },
    keyChain(app, purpose, publicKey, born) {
      const identity = keys.pinned('app-identity', born, app);
      return [
        recoverable(sign(purposeLinkDigest(purpose, publicKey), identity)),
        recoverable(signed(networkLinkDigest(domain, app, publicKeyOf(identity)))),
      ];
    },
    signCertificate: (app, body, born) =>
      p256.sign(body, keys.pinned('app-ca', born, app), { format: 'der', lowS: false }),
    authorityOf: (app, born) => p256PublicKey(keys.pinned('app-ca', born, app)),
    signAttestation(app, tag, data) {
      const { r, s, v } = signed(attestationDigest(domain, { app: appId(app), tag, data }));
      return Uint8Array.from([v, ...r, ...s]);
    },
    async sealingKey(app, born) {
      const publicKey = await sealingPublicKey(keys.pinned('app-secrets', born, app));
      return { publicKey, signature: compact(signed(sealingKeyStatement(domain, app, publicKey))) };
    },
    openSecret: async (app, name, envelope, born) =>
      openSecret(envelope, { ...domain, app, name }, keys.pinned('app-secrets', born, app)),
    sealFor: (kemPublicKey, requestHash) => keys.perEpoch('seal', kemPublicKey, requestHash),
    signOnboard: (onboard) => compact(signed(onboardDigest(domain, onboard))),
    signSite: (site) => compact(signed(siteDigest(domain, site))),
    signBootstrap: (bootstrap) => compact(signed(bootstrapDigest(domain, bootstrap))),
    wipe() {
      wiped = true;
      privateKey.fill(0);
      keys.wipe();
    },
  };
}
