import { afterAll, beforeAll, expect, test } from 'vitest';
import { EtcdClient } from '../../lib/etcd/client.ts';
import { TestEtcd } from '../../test/signer/support/etcd.ts';
import { quiet } from '../../test/signer/support/signer.ts';
import { Election } from './election.ts';

let etcd: TestEtcd;
beforeAll(async () => {
  etcd = await TestEtcd.start();
});
afterAll(() => etcd?.stop());

function begun(machine: string, key: string): { election: Election; client: EtcdClient } {
  const client = new EtcdClient({ endpoints: etcd.endpoints });
  const election = new Election(client, quiet, [key], machine);
  election.start();
  return { election, client };
}

test('one that is started again on its machine has the place that it left there; one on another machine waits until it is free', async () => {
  // It goes on, so that its lease does not run out: that of one that was killed is there for some seconds.
  const first = begun('a', 'one');
  await expect.poll(() => first.election.elected).toBe(true);
  const other = begun('b', 'one');
  const again = begun('a', 'one');
  await expect.poll(() => again.election.elected).toBe(true);
  for (const { election } of [first, again]) await election.stop();
  await expect.poll(() => other.election.elected).toBe(true);
  await other.election.stop();
  for (const { client } of [first, other, again]) client.close();
});

test('signers of other keys are elected beside it', async () => {
  const [one, two] = [begun('a', 'three'), begun('b', 'four')];
  await expect.poll(() => one.election.elected && two.election.elected).toBe(true);
  for (const { election, client } of [one, two]) {
    await election.stop();
    client.close();
  }
});
