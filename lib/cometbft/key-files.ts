/** Files that validators have: CometBFT's `priv_validator_key.json` and `priv_validator_state.json`, and the key of tmkms' softsign. */
import { Type } from 'typebox';
import { bytesEqual, fromHex } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { parseJson } from '../protocol/schema.ts';
import { ed25519Key } from './ed25519.ts';
import type { SignState } from './sign-state.ts';

const MAX_BYTES = 16 * 1024;

const Tagged = Type.Object({ type: Type.String({ maxLength: 64 }), value: Type.String({ maxLength: 256 }) });
const KeyFile = Type.Object({ pub_key: Type.Optional(Tagged), priv_key: Tagged });
const Whole = Type.Union([
  Type.String({ pattern: '^\\d{1,19}$', maxLength: 19 }),
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
]);
const StateFile = Type.Object({
  height: Whole,
  round: Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 }),
  step: Type.Integer({ minimum: 0, maximum: 3 }),
  signbytes: Type.Optional(Type.String({ pattern: '^([0-9A-Fa-f]{2})*$', maxLength: 2048 })),
});

/**
 * The seed in a key file of either kind.
 * @throws KEY_FILE; KEY_TYPE for a key that is not Ed25519
 */
export function seedOf(text: string): Uint8Array {
  const trimmed = text.trim();
  if (trimmed.startsWith('{')) return seedOfJson(trimmed);
  // tmkms: the seed in base64, or seed and public key as `tmkms softsign import` once wrote.
  return seedOfBase64(trimmed, "the key file of tmkms' softsign");
}

function seedOfJson(text: string): Uint8Array {
  const file = parseJson(KeyFile, text, 'KEY_FILE', 'priv_validator_key.json', MAX_BYTES);
  if (file.priv_key.type !== 'tendermint/PrivKeyEd25519') {
    throw new DstackError(
      'KEY_TYPE',
      `the key is a ${file.priv_key.type}, and only Ed25519 keys can be used`,
    );
  }
  const seed = seedOfBase64(file.priv_key.value, 'priv_key');
  const shown = file.pub_key === undefined ? undefined : Buffer.from(file.pub_key.value, 'base64');
  if (shown !== undefined && !bytesEqual(shown, ed25519Key(seed).publicKey)) {
    throw new DstackError('KEY_FILE', 'pub_key is not the public key of priv_key');
  }
  return seed;
}

function seedOfBase64(text: string, what: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text || ![32, 64].includes(bytes.length)) {
    throw new DstackError('KEY_FILE', `${what} is not base64 of 32 or 64 bytes`);
  }
  const seed = new Uint8Array(bytes.subarray(0, 32));
  if (bytes.length === 64 && !bytesEqual(bytes.subarray(32), ed25519Key(seed).publicKey)) {
    throw new DstackError('KEY_FILE', `${what}: the second half is not the public key of the first`);
  }
  return seed;
}

/** What a validator signed last, by CometBFT's `priv_validator_state.json` or tmkms' state file. @throws STATE_FILE */
export function stateOf(text: string): SignState {
  const file = parseJson(StateFile, text, 'STATE_FILE', 'the state file', MAX_BYTES);
  const height = BigInt(file.height);
  if (height >= 1n << 63n) throw new DstackError('STATE_FILE', 'the height does not fit 64 bits');
  return { height, round: file.round, step: file.step, signBytes: fromHex(file.signbytes ?? '') };
}
