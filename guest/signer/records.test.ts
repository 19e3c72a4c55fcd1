/** Records in a real etcd whose disk is put back to an old copy, as whoever has it can do. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NO_VOTE } from '../../lib/cometbft/consensus.ts';
import { voteSignBytes } from '../../lib/cometbft/sign-bytes.ts';
import { encodeState, NOTHING_SIGNED, type SignState } from '../../lib/cometbft/sign-state.ts';
import { EtcdClient } from '../../lib/etcd/client.ts';
import { type Etcd, startEtcd } from '../../test/support/etcd.ts';
import { LastSigned } from './last-signed.ts';
import { EtcdRecords } from './records.ts';

const KEY = 'state/chain/key';
const PATIENCE = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'dstack-records-'));
const [disk, oldCopy] = [join(folder, 'disk'), join(folder, 'old-copy')];
let etcd: Etcd;
const clients: EtcdClient[] = [];

const precommit = (height: number, byte: number): SignState => {
  const hash = new Uint8Array(32).fill(byte);
  const place = { height: BigInt(height), round: 0 };
  const blockId = { hash, parts: { total: 1, hash } };
  return { ...place, step: 3, signBytes: voteSignBytes('c', { ...NO_VOTE, ...place, type: 2, blockId }) };
};
const patient = (): AbortSignal => AbortSignal.timeout(PATIENCE);

function records(): EtcdRecords {
  const client = new EtcdClient({ endpoints: [`unix://${etcd.socket}`] });
  clients.push(client);
  return new EtcdRecords(client);
}

beforeAll(async () => {
  etcd = await startEtcd({ folder: disk });
});
afterAll(async () => {
  for (const client of clients) client.close();
  await etcd?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test('an old copy gives out a revision once more, for another record: a signer that knows the first one signs nothing by it', async () => {
  await records().swap(KEY, undefined, encodeState(NOTHING_SIGNED));
  await etcd.kill();
  cpSync(disk, oldCopy, { recursive: true });
  await etcd.restart();

  const [one, other] = [records(), records()];
  const signer = new LastSigned(one, KEY);
  await signer.permit(precommit(50, 1), patient());
  const known = await one.read(KEY, patient());

  await etcd.kill();
  rmSync(disk, { recursive: true });
  cpSync(oldCopy, disk, { recursive: true });
  await etcd.restart();
  await new LastSigned(other, KEY).permit(precommit(60, 2), patient());
  const again = await other.read(KEY, patient());
  expect(again!.revision).toBe(known!.revision);

  expect(await other.swap(KEY, known, 'what was to be signed')).toEqual({ written: false, current: again });
  await expect(signer.permit(precommit(60, 1), patient())).rejects.toMatchObject({ code: 'SIGN_CONFLICT' });
});
