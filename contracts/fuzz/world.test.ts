/** The choices of the fuzz, where what they make has to be true of the contract whatever the draw. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestNetwork } from '../fixture.ts';
import { networkInterface } from '../interface.ts';
import { Chain } from '../local-chain.ts';
import { type Anvil, startAnvil } from '../local-node.ts';
import { malformed } from './world.ts';

let anvil: Anvil;
beforeAll(async () => {
  anvil = await startAnvil();
});
afterAll(() => anvil.stop());

test('what is drawn as malformed is refused before any line of the contract runs, of each function and in each way', async () => {
  const network = await TestNetwork.bootstrapped(new Chain(anvil.url), { delay: 0 });
  const functions = networkInterface.fragments.filter(({ type }) => type === 'function').length;
  const accepted: string[] = [];
  for (let pick = 0; pick < Math.max(functions, 8); pick += 1) {
    for (let other = 0; other < 6; other += 1) {
      const { args } = malformed({ pick, other }) as { args: { data: string; value: bigint } };
      const answer = await fetch(anvil.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          jsonrpc: '2.0',
          id: 1,
          method: 'eth_call',
          params: [{ to: network.address, data: args.data, value: `0x${args.value.toString(16)}` }, 'latest'],
        }),
      });
      const { error } = (await answer.json()) as { error?: { data?: string } };
      if (error === undefined || (error.data ?? '0x') !== '0x')
        accepted.push(`${pick}, ${other}: ${args.data}`);
    }
  }
  expect(accepted).toEqual([]);
});
