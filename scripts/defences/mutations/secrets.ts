/** Secrets of apps: what they are sealed to, which envelopes count, and who sees what is in them. */
import { type Mutation, one } from '../mutation.ts';

const SEALED = 'lib/protocol/app-secrets.ts';
const MANIFEST = 'lib/protocol/manifest.ts';
const OPENED = 'guest/kubernethes/secrets.ts';
const sealed = 'lib/protocol/app-secrets.test.ts';
const manifest = 'lib/protocol/manifest.test.ts';
const opened = 'guest/kubernethes/secrets.test.ts';

export const secretRules: readonly Mutation[] = [
  one(
    'apps',
    "the network key's word for what an owner seals a secret to",
    [
      SEALED,
      'if (isSignedBy(networkKey, sealingKeyStatement(domain, app, publicKey), said.signature)) return publicKey;',
      'if (said.signature.r.length > 0) return publicKey;',
    ],
    ['cli/commands/app-secret.test.ts', "a relay that gives a host's own key"],
  ),
  one(
    'apps',
    'that a host puts no envelope of its own in the place of the one that its owner has written',
    [
      'cli/app/envelopes.ts',
      'if (named === undefined || named === hash) return;',
      "if (named !== '') return;",
    ],
    ['cli/commands/app-secret.test.ts', 'one that took the place of the one that was set'],
  ),
  one(
    'apps',
    'the app in what the network key signs of it',
    [SEALED, 'app: appId(app), publicKeyHash', 'app: new Uint8Array(32), publicKeyHash'],
    ['cli/commands/app-secret.test.ts', "a relay that gives another app's key"],
  ),
  one(
    'apps',
    'app and name in what an envelope is bound to',
    [SEALED, 'fromHex(contract, 20), utf8(app), utf8(name)]', 'fromHex(contract, 20)]'],
    [sealed, 'one of another (app|name)'],
  ),
  one(
    'apps',
    'the network in what an envelope is bound to',
    [SEALED, '[LABEL, uint64(chainId), fromHex(contract, 20), ', '[LABEL, '],
    [sealed, 'one of another (chain|contract)'],
  ),
  one(
    'apps',
    "that a secret's length shows in steps only",
    [
      SEALED,
      'Math.ceil((LENGTH_BYTES + value.length) / PADDED_TO) * PADDED_TO',
      'LENGTH_BYTES + value.length',
    ],
    [sealed, 'how long it is shows in steps only'],
  ),
  one(
    'apps',
    'the hash by which a manifest names an envelope',
    [OPENED, 'if (actual !== envelope) {', 'if (actual.length === 0) {'],
    [opened, 'another one, such as an older one'],
  ),
  one(
    'apps',
    'the bound on an envelope of the host',
    [OPENED, "'SECRET', ENVELOPE_MAX_BYTES)", "'SECRET', 64 * ENVELOPE_MAX_BYTES)"],
    [opened, 'too large'],
  ),
  one(
    'apps',
    'that kubernethes alone has secrets opened',
    [
      'guest/daemons.ts',
      "keys: ['GET /v1/tls-key', 'POST /v1/site-evidence'],",
      "keys: ['GET /v1/tls-key', 'POST /v1/site-evidence', 'POST /v1/open-secret'],",
    ],
    ['guest/replicator/app-secrets.test.ts', 'and nobody else does'],
  ),
  one(
    'apps',
    "that a secret is its container's user's alone",
    [OPENED, "{ flag: 'wx', mode: 0o400 }", "{ flag: 'wx', mode: 0o444 }"],
    [opened, 'each container has a folder'],
  ),
  one(
    'apps',
    'that no other daemon gets to the secrets of containers',
    [OPENED, 'mkdirSync(folder, { recursive: true, mode: 0o700 })', 'mkdirSync(folder, { recursive: true })'],
    [opened, 'each container has a folder'],
  ),
  one(
    'apps',
    'that a container writes to none of its secrets',
    [
      'guest/kubernethes/podman.ts',
      ':ro,nosuid,nodev,noexec,idmap=uids',
      ':rw,nosuid,nodev,noexec,idmap=uids',
    ],
    ['guest/kubernethes/podman.test.ts', 'secrets are mounted as'],
  ),
  one(
    'apps',
    'that a container gets the secrets that it names, and no others',
    [MANIFEST, 'secrets: secrets.filter(({ name }) => container.secrets?.includes(name)),', 'secrets,'],
    [manifest, 'a container has those that it names'],
  ),
  one(
    'apps',
    'the refusal of a mount over, or kept around, secrets',
    [MANIFEST, 'isOdd || hidesSecrets || ', 'isOdd || '],
    [manifest, 'beside secrets, a (tmpfs|volume) in their place'],
  ),
  one(
    'apps',
    'that opened secrets go with their manifest',
    ['guest/kubernethes/supervisor.ts', '    secrets.prune(hashes);\n', ''],
    ['guest/kubernethes/supervisor.test.ts', 'stay for as long as their manifest is needed'],
  ),
  one(
    'apps',
    "that a user without a number owns no secrets, rather than somebody's",
    [OPENED, 'if (digits !== null) return Number(digits[1] ?? 0);', 'return Number(digits?.[1] ?? 0);'],
    [opened, 'of an image with'],
  ),
  one(
    'relay',
    'the hash of an envelope that a peer gives',
    [
      'host/relay/app-courier.ts',
      "if (actual !== hash) throw new DstackError('SECRET_HASH_MISMATCH'",
      "if (actual === '') throw new DstackError('SECRET_HASH_MISMATCH'",
    ],
    ['host/relay/app-courier.test.ts', 'secrets come as ciphertext'],
  ),
  one(
    'relay',
    'the pace at which strangers have its node asked for keys to seal to',
    ['host/relay/sealing-keys.ts', "if (!this.#pace.take(''))", 'if (this.#kept.size < 0)'],
    ['host/relay/sealing-keys.test.ts', 'strangers with names of their own'],
  ),
];
