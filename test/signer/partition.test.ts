/** A store of three members that cannot reach each other, and two signers of one key that race on it. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { ChainSigner } from '../../guest/signer/chain-signer.ts';
import { networkSeed } from '../../guest/signer/keys.ts';
import { Metrics } from '../../guest/signer/metrics.ts';
import { EtcdRecords } from '../../guest/signer/records.ts';
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { EtcdClient } from '../../lib/etcd/client.ts';
import { Cluster } from '../../lib/etcd/gen/cluster_pb.js';
import { TestEtcd } from './support/etcd.ts';
import { Links } from './support/links.ts';
import { ask, outcome, precommit } from './support/racing.ts';
import { freshRecord, quiet, testSecret } from './support/signer.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 200_000 });

const CHAIN = 'parted-1';
const MEMBERS = [0, 1, 2];
const secret = testSecret();
const key = ed25519Key(networkSeed(secret, CHAIN));
const links = new Links();
const clients: EtcdClient[] = [];
let etcd: TestEtcd;
let height = 0;

beforeAll(async () => {
  etcd = await TestEtcd.start(3, links);
  const client = clientOf(...MEMBERS);
  const { members } = await client.call(Cluster.method.memberList, { linearizable: true });
  links.know(MEMBERS.map((at) => members.find(({ name }) => name === `m${at}`)!.ID));
  await freshRecord(etcd.endpoints, secret, CHAIN);
});
afterAll(async () => {
  for (const client of clients) client.close();
  links.close();
  await etcd?.stop();
});

function clientOf(...members: number[]): EtcdClient {
  const client = new EtcdClient({ endpoints: members.map((at) => etcd.endpoints[at]!) });
  clients.push(client);
  return client;
}

/** A signer that reaches some of the members. */
function signerAt(...members: number[]): ChainSigner {
  const records = new EtcdRecords(clientOf(...members));
  const options = { id: CHAIN, protocol: 'v0.38' as const, signsBytes: false, key };
  return new ChainSigner(options, { records, metrics: new Metrics(), log: quiet, gate: () => {} });
}

/** Asked again while the store is away, as a node does. */
async function signs(signer: ChainSigner, block: number, at = height): Promise<string> {
  let said = '';
  await expect
    .poll(async () => {
      said = outcome(await ask(signer, precommit(at, block)));
      return said;
    })
    .not.toBe('STORE_UNAVAILABLE');
  return said;
}

test.each(MEMBERS)(
  'member %i alone: its signer signs nothing, the other one signs, and once they meet the first one conflicts',
  async (alone) => {
    const inside = signerAt(alone);
    const outside = signerAt(...MEMBERS.filter((at) => at !== alone));
    // Both have been at work, and know the last revision.
    for (const signer of [inside, outside]) {
      height += 1;
      expect(await signs(signer, 1)).toMatch(/^signed/);
    }
    height += 1;
    links.part((one, other) => (one === alone) !== (other === alone));
    const [lone, signed] = await Promise.all([ask(inside, precommit(height, 1)), signs(outside, 2)]);
    expect(outcome(lone)).toBe('STORE_UNAVAILABLE');
    expect(signed).toMatch(/^signed/);
    links.heal();
    expect(await signs(inside, 1)).toBe('SIGN_CONFLICT');
    expect(await signs(inside, 2)).toBe(signed);
    expect(await signs(inside, 1, height - 1)).toBe('SIGN_REGRESSION');
  },
);

test('every member alone: nothing is signed anywhere, and once they meet one of two blocks is', async () => {
  const signers = [signerAt(0), signerAt(1, 2)];
  links.part((one, other) => one !== other);
  height += 1;
  const parted = await Promise.all(signers.map((signer, n) => ask(signer, precommit(height, n + 1))));
  expect(parted.map(outcome)).toEqual(['STORE_UNAVAILABLE', 'STORE_UNAVAILABLE']);
  links.heal();
  // What a member of before had in hand may still be written: whose it is, only one block is signed.
  const met = await Promise.all(signers.map((signer, n) => signs(signer, n + 1)));
  expect(met.filter((one) => one.startsWith('signed'))).toHaveLength(1);
  expect(met.filter((one) => one === 'SIGN_CONFLICT')).toHaveLength(1);
});
