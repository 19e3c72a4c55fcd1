/** The block that a request refers to is gone. The contract would never accept the request, so the node makes a new one at once. */
import { afterAll, expect, test } from 'vitest';
import { nodePaths, type RequestMessage } from '../../lib/protocol/onboarding-messages.ts';
import { eventually, startTestNetwork, type TestNetwork } from '../support/network.ts';

let network: TestNetwork | undefined;
afterAll(() => network?.stop());

test('a request about a block that a re-org dropped is made anew; one about a block that stayed is kept', async () => {
  network = await startTestNetwork();
  const first = await network.start({ role: 'bootstrap' });
  await network.allow(first);
  await network.bootstrap(first);
  const node = await network.start({ role: 'join' });
  await network.rpc.send('evm_mine', []);
  await eventually(async () => (await node.status()).state === 'requesting', 'the node to ask');
  const ask = () => node.post<RequestMessage>(nodePaths.request);
  const before = await ask();
  await network.rpc.send('anvil_mine', ['0x3']);
  expect((await ask()).signature).toEqual(before.signature);

  const head = Number(await network.rpc.send('eth_blockNumber', []));
  await network.rpc.send('anvil_reorg', [head - before.blockNumber + 1, []]);
  await expect(network.register(before)).rejects.toMatchObject({ code: 'WrongSigner' });
  const after = await ask();
  expect(after.signature).not.toEqual(before.signature);
  await network.register(after);
});
