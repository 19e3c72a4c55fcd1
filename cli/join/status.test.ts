import { expect, test } from 'vitest';
import { parseHex } from '../../lib/protocol/hex.ts';
import type { SignerStatus } from '../../lib/protocol/signer-status.ts';
import { signerSentences } from './status.ts';

const signer: SignerStatus = {
  rollbackProtected: false,
  dials: true,
  chains: [
    {
      ...{ id: 'chain-1', protocol: 'v0.38', publicKey: `${'A'.repeat(43)}=`, address: 'AB'.repeat(20) },
      ...{ height: '7', round: 1, step: 3, signatures: 12, refusals: 2 },
    },
  ],
  connections: [],
};

test('a node without a signer says nothing of one', () => {
  expect(signerSentences({ signer: undefined })).toEqual([]);
});

test('what the signer signed last, and what its operator has to see to', () => {
  expect(signerSentences({ signer })).toEqual([
    'Its signer signs.',
    'ITS STORE HAS ONE MEMBER: an old copy of its disk makes the validator sign twice.',
    `Of chain-1 the validator ${'AB'.repeat(20)} signed height 7, round 1, step 3 last.`,
    'FOR chain-1 THE HOST NAMES NO VALIDATOR: DSTACK_VM_VALIDATORS.',
  ]);
  const connection: SignerStatus['connections'][number] = {
    ...{ chain: 'chain-1', address: 'tcp://10.0.2.2:1', state: 'serving' as const, seconds: 5, quiet: true },
    ...{ requests: 3, problem: { code: 'ECONNREFUSED', message: 'connect' } },
  };
  expect(signerSentences({ signer: { ...signer, connections: [connection] } }).at(-1)).toBe(
    'The connection to tcp://10.0.2.2:1 for chain-1 is serving for 5 s, and asks nothing (ECONNREFUSED: connect).',
  );
});

test('why it signs nothing is said first, with the disk that a manifest would have to name', () => {
  const stopped = { code: 'SIGNER_DISK', message: 'the manifest wants another disk' };
  const disk = parseHex('0123456789abcdef0123456789abcdef');
  expect(signerSentences({ signer: { stopped, disk, dials: false, chains: [], connections: [] } })).toEqual([
    `ITS SIGNER SIGNS NOTHING: SIGNER_DISK: the manifest wants another disk (this node's disk is ${disk}).`,
  ]);
});
