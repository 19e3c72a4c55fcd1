/** The templates with money in them: their processes killed wherever they act, and the chain re-organised. All that went in is there, once. */
import { afterEach, expect, test } from 'vitest';
import { seal } from '../../lib/framework/app/sealing.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { type Hex, parseAddress } from '../../lib/protocol/hex.ts';
import { boundTo, Offer } from '../../templates/auction/bids.ts';
import { LEAST_WEI } from '../../templates/transfers/messages.ts';
import { type App, startApp } from './support/app.ts';
import { callsOf, expectKilledAt, killedAtAll } from './support/kills.ts';
import type { Toll } from './support/toll.ts';

/** Wei: as the auction's contract has it. */
const RESERVE = 10n ** 15n;

let app: App;
const tolls: Toll[] = [];
afterEach(async ({ task }) => {
  // The processes' own words are what tells why.
  if (task.result?.state === 'fail')
    task.result.errors?.push({ name: 'log', message: app.log().slice(-6000) });
  await app.stop();
  for (const toll of tolls.splice(0)) toll.stop();
});

/** One request may see its process start a dozen times. */
const WITHIN = { timeout: 200_000 };
/** Of a test, whose processes are started up to 13 times, on a machine that has other things to do as well. */
const LIMIT = 600_000;
const settled = (count: number) =>
  expect.poll(async () => (await app.progress()).settled, WITHIN).toBe(count);
const other = { host: 'enclave', enclave: 'host' } as const;

/** What the first account is paid for all that it has put in. */
async function withdrawn(after: number): Promise<bigint[]> {
  await app.send('withdraw');
  await settled(after + 1);
  return (await app.events(['Owed'])).map(({ args }) => args[1] as bigint);
}

test.each(['host', 'enclave'] as const)(
  'transfers: each deposit counts once though the %s is killed before and after each of its calls',
  async (which) => {
    app = await startApp('transfers');
    const points = await callsOf(app, which, tolls);
    app.start(other[which]);
    // The contract makes the first request itself.
    const count = await expectKilledAt(app, which, points, {
      ask: () => app.send('deposit', [], { wei: 10n * LEAST_WEI }),
      settled: 1,
    });
    expect(await withdrawn(count)).toEqual([10n * LEAST_WEI * BigInt(count - 1)]);
  },
  LIMIT,
);

test('transfers: a deposit that a re-organisation drops does not count, and the one that takes its place does', async () => {
  app = await startApp('transfers');
  app.start('enclave');
  app.start('host');
  await settled(1);
  await app.send('deposit', [], { wei: 100n * LEAST_WEI });
  await settled(2);
  // The answer alone: it is given again, for the same balances.
  await app.chain.rpc('anvil_reorg', 1, []);
  await app.chain.mine(1);
  await settled(2);
  await app.send('deposit', [], { wei: 1000n * LEAST_WEI });
  await settled(3);
  await app.chain.rpc('anvil_reorg', 2, []);
  await app.send('deposit', [], { wei: 7n * LEAST_WEI });
  await app.chain.mine(1);
  await settled(3);
  expect(await withdrawn(3)).toEqual([107n * LEAST_WEI]);
  expect(BigInt(await app.chain.rpc('eth_getBalance', app.contract, 'latest'))).toBe(107n * LEAST_WEI);
});

test.each(['host', 'enclave'] as const)(
  'auction: sold once, at its price, though the %s is killed before and after each of its calls',
  async (which) => {
    app = await startApp('auction');
    const points = await callsOf(app, which, tolls);
    app.start(other[which]);
    const first = app.start(which);
    await settled(1);
    const [opened] = await app.events(['Opened']);
    const bidders = (await app.chain.accounts()).slice(1, 4);
    const domain = { chainId: app.network.chainId, contract: app.contract };
    for (const [at, from] of bidders.entries()) {
      const text = fromHex(Offer.encode({ wei: BigInt(500 + at) * RESERVE }));
      const sealed = await seal(opened!.args[0] as Hex, text, boundTo(domain, parseAddress(from)));
      await app.send('bid', [sealed], { from, wei: 1000n * RESERVE });
    }
    await first.kill();
    const allKilled = killedAtAll(app, which, points);
    await app.send('close');
    await settled(2);
    await allKilled();
    const sold = await app.events(['Sold']);
    expect(sold.map(({ args }) => [String(args[0]).toLowerCase(), args[1]])).toEqual([
      [bidders[2], 501n * RESERVE],
    ]);
  },
  LIMIT,
);
