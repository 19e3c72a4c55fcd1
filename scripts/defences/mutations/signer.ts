/** A validator's signer: never two signatures of one step, and none that the record in the store does not allow. */
import { type Mutation, one } from '../mutation.ts';

const LAST = 'guest/signer/last-signed.ts';
const MODEL = ['guest/signer/last-signed.test.ts', 'signers of one key under every fault'] as const;
const RULE = ['lib/cometbft/sign-state.ts', 'lib/cometbft/sign-state.test.ts'] as const;
const SECRET = ['lib/cometbft/secret-connection.ts', 'lib/cometbft/secret-connection.test.ts'] as const;

export const signerRules: readonly Mutation[] = [
  one(
    'signer',
    'signing after the record was written, and not before',
    [LAST, 'if (swapped === undefined) return decision;', 'return decision;'],
    MODEL,
  ),
  one(
    'signer',
    'reading the record again after an answer that was lost',
    [
      LAST,
      '        if (isFinal(error)) throw error;',
      '        if (isFinal(error)) throw error;\n        if (known !== undefined) return decide(known.state, asked);',
    ],
    MODEL,
  ),
  one(
    'signer',
    'the refusal of another block in a step',
    [
      RULE[0],
      '  if (timestamp !== undefined) return { sign: last.signBytes, timestamp };\n',
      '  if (timestamp === undefined) return { sign: asked.signBytes };\n  return { sign: last.signBytes, timestamp };\n',
    ],
    [RULE[1], 'another block in the same step'],
  ),
  one(
    'signer',
    'the refusal of an earlier step',
    [RULE[0], 'if (order < 0) {', 'if (order < -2) {'],
    [RULE[1], 'what comes before is refused'],
  ),
  one(
    'signer',
    'that a record which cannot be read is not taken for none',
    [RULE[0], 'version: Type.Literal(1),', 'version: Type.Integer(),'],
    [RULE[1], 'one of another form'],
  ),
  one(
    'signer',
    'the refusal of points of low order',
    [
      SECRET[0],
      "    throw broken('the ephemeral key is a point of low order', cause);",
      '    return new Uint8Array(32);',
    ],
    [SECRET[1], 'a point of low order is refused'],
  ),
  one(
    'signer',
    'the proof of the key that a node shows',
    [SECRET[0], 'if (!verifyEd25519(key, challenge, signature))', 'if (signature.length === 0)'],
    [SECRET[1], 'a key that the other side has not'],
  ),
  one(
    'signer',
    'that a field comes once',
    ['lib/cometbft/wire.ts', 'if (this.#fields.has(field))', 'if (field === 0)'],
    ['lib/cometbft/messages.test.ts', 'two fields of one number'],
  ),
  one(
    'signer',
    "the seal's chain",
    [
      'guest/signer/keys.ts',
      "[utf8('import'), utf8(chainId)]",
      "[utf8('import'), utf8(chainId.slice(0, 5))]",
    ],
    ['guest/signer/keys.test.ts', 'a sealed key is opened by this network'],
  ),
];
