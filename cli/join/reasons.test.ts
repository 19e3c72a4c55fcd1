/** The sentences that the process tests don't come by, and when each is said again. */
import { expect, test } from 'vitest';
import type { RelayStatus } from '../../host/relay/main.ts';
import { purposeOf } from '../../host/relay/purpose.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import type { RequestView } from '../../lib/protocol/network-contract.ts';
import { narrator } from './narrator.ts';
import { ether, fundsReasons, peerReasons, permissionReasons, progress } from './reasons.ts';

const HASH = parseHex('5e'.repeat(32));
const PAYER = parseAddress(`0x${'22'.repeat(20)}`);
const identity = { measurement: '0x01', config: '0x02', platform: '0x03' };
const status = (changes: Partial<RelayStatus> = {}): RelayStatus => ({
  node: {
    state: 'requesting',
    flavour: 'sim',
    chainId: 1,
    contract: parseAddress(`0x${'11'.repeat(20)}`),
    config: parseHex('00'.repeat(32)),
    epoch: 1,
    requestHash: HASH,
  },
  waitingFor: 'the answer that the contract shows to arrive by gossip',
  gasAddress: PAYER,
  block: 5,
  requests: [],
  transactions: [],
  peers: [{ peer: 'http://a', reachable: true }],
  ...changes,
});
const request = (state: RequestView['state']): { request: RequestView; head: number } => ({
  request: { state, node: PAYER, blockNumber: 10n, expiresAfter: 30n, epoch: 1, answerHash: HASH },
  head: 12,
});
const texts = (reasons: readonly { text: string }[]): string => reasons.map(({ text }) => text).join(' ');

test('what is allowed from a later time on says when; what is allowed says nothing', () => {
  const reasons = permissionReasons(identity, {
    measurement: { from: 1_800_000_000n },
    config: 'yes',
    platform: 'revoked',
  });
  expect(reasons.map(({ kind }) => kind)).toEqual(['measurement', 'platform']);
  expect(reasons[0]!.text).toContain('measurement 0x01, from 2027-01-15T08:00:00.000Z on');
  expect(reasons[0]!.text).not.toContain('npx dstack');
  expect(reasons[1]!.text).toContain('the owner has revoked it');
});

test('what is missing is rounded up: sending it is enough', () => {
  expect(fundsReasons({ balance: 5n, needed: 5n }, '0xa')).toEqual([]);
  expect(texts(fundsReasons({ balance: 0n, needed: 1n }, '0xa'))).toContain('Send it 0.000001 ETH or more');
  expect(ether(10n ** 18n + 1n)).toBe('1.000001');
});

test('every state of a request has its sentence', () => {
  expect(texts(progress(status({ node: undefined }), undefined))).toContain('The VM is booting');
  expect(texts(progress(status(), undefined))).toContain('makes its request');
  expect(texts(progress(status(), request('none')))).toContain('The request is being posted');
  expect(texts(progress(status(), request('open')))).toContain('18 blocks are left');
  expect(texts(progress(status(), request('expired')))).toContain('Nobody answered');
  expect(texts(progress(status(), request('answered')))).toContain('arrive by gossip');
  const node = {
    ...status().node!,
    state: 'starting' as const,
    code: 'CHAIN_STALE',
    message: 'no new block',
  };
  expect(texts(progress(status({ node }), undefined))).toBe(
    'The node is starting. It says CHAIN_STALE: no new block',
  );
  expect(progress(status({ node: { ...node, state: 'joined' } }), undefined)).toEqual([]);
});

test('a transaction that waits says why', () => {
  const waiting = {
    purpose: purposeOf('onboard', status().node!, parseHex(HASH)),
    state: 'queued' as const,
    hash: undefined,
    code: 'TX_FEE_CEILING',
    message: 'the base fee is above the ceiling',
  };
  const said = texts(progress(status({ transactions: [waiting] }), request('open')));
  expect(said).toContain('A node has answered');
  expect(said).toContain('It waits: TX_FEE_CEILING: the base fee is above the ceiling');
  expect(said).not.toContain('blocks are left');
});

test('peers are mentioned only when none can be reached', () => {
  expect(
    peerReasons({
      peers: [
        { peer: 'a', reachable: false },
        { peer: 'b', reachable: true },
      ],
    }),
  ).toEqual([]);
  expect(texts(peerReasons({ peers: [{ peer: 'http://a', reachable: false }] }))).toContain('(http://a)');
  expect(texts(peerReasons({ peers: [] }))).toContain('DSTACK_GOSSIP_PEERS is empty');
  expect(peerReasons({ peers: [], calldata: { after: 0 } })).toEqual([]);
});

test('a reason is said at once, again after a while, and anew when it comes back', () => {
  let now = 0;
  const lines: string[] = [];
  const tell = narrator(
    (line) => lines.push(line),
    () => now,
  );
  const wait = (text: string) => tell.waitFor([{ kind: 'blocks', text }]);
  wait('9 left');
  now = 29_000;
  wait('8 left');
  expect(lines).toEqual(['[    0 s] 9 left']);
  now = 30_000;
  wait('7 left');
  now = 89_000;
  wait('7 left');
  expect(lines.slice(1)).toEqual(['[   30 s] still: 7 left']);
  now = 90_000;
  wait('7 left');
  tell.waitFor([]);
  wait('9 left');
  expect(lines.slice(2)).toEqual(['[   90 s] still: 7 left', '[   90 s] 9 left']);
});
