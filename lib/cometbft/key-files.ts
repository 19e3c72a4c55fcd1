/** Files that validators have: CometBFT's `priv_validator_key.json` and `priv_validator_state.json`, and the key of tmkms' softsign. */
import { Type } from 'typebox';
import { bytesEqual, fromHex } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { parseJson } from '../protocol/schema.ts';
import { ed25519Key } from './ed25519.ts';
import { type SignState, STEP } from './sign-state.ts';

const MAX_BYTES = 16 * 1024;

const Tagged = Type.Object({ type: Type.String({ maxLength: 64 }), value: Type.String({ maxLength: 256 }) });
const KeyFile = Type.Object({ pub_key: Type.Optional(Tagged), priv_key: Tagged });
const Whole = Type.Union([
  Type.String({ pattern: '^\\d{1,19}$', maxLength: 19 }),
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
]);
const StateFile = Type.Object({
  height: Whole,
  /** A number in CometBFT's file, and text in those of tmkms and Horcrux. */
  round: Whole,
  step: Type.Integer({ minimum: 0, maximum: 127 }),
  signbytes: Type.Optional(
    Type.String({
      pattern: '^([0-9A-Fa-f]{2})*$',
      maxLength: 2048,
      description: 'up to 1024 bytes of hex, as CometBFT writes it',
    }),
  ),
  /** Of tmkms only. */
  block_id: Type.Optional(Type.Unknown()),
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

/**
 * What a validator signed last, by CometBFT's `priv_validator_state.json` or the state file of another signer. Others count steps in other
 * ways (tmkms from 0, and in earlier releases 3 and 6), and an earlier step would let one be signed twice: of theirs the whole round counts
 * as signed.
 * @throws STATE_FILE
 */
export function stateOf(text: string): SignState {
  const file = parseJson(StateFile, text, 'STATE_FILE', 'the state file', MAX_BYTES);
  const [height, round] = [BigInt(file.height), Number(file.round)];
  if (height >= 1n << 63n) throw new DstackError('STATE_FILE', 'the height does not fit 64 bits');
  if (round >= 2 ** 31) throw new DstackError('STATE_FILE', 'the round does not fit 32 bits');
  const isOfAnother = typeof file.round === 'string' || 'block_id' in file;
  if (isOfAnother) {
    return { height, round, step: height === 0n ? STEP.none : STEP.precommit, signBytes: new Uint8Array() };
  }
  if (file.step > STEP.precommit) {
    throw new DstackError('STATE_FILE', `CometBFT's steps are 0 to 3, and the file has step ${file.step}`);
  }
  return { height, round, step: file.step, signBytes: fromHex(file.signbytes ?? '') };
}
