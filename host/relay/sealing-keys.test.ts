import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { SealingKeyMessage } from '../../lib/protocol/app-secrets.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { nodePaths } from '../../lib/protocol/onboarding-messages.ts';
import { Archive } from './archive.ts';
import { SealingKeys } from './sealing-keys.ts';
import { gossipServer } from './server.ts';

const messageOf = (app: string) => ({ type: 'sealing-key', app }) as SealingKeyMessage;

/** A node that answers at once, a clock, and what the node was asked. */
function node(answer = async (app: string) => messageOf(app)) {
  const asked: string[] = [];
  let time = 0;
  const keys = new SealingKeys(
    {
      async sealingKey(app) {
        asked.push(app);
        return answer(app);
      },
    },
    () => time,
  );
  const pass = (ms: number) => {
    time += ms;
  };
  return { keys, asked, pass };
}

test('an answer is kept for a minute, a failure is not', async () => {
  let broken = true;
  const { keys, asked, pass } = node(async (app) => {
    if (broken) throw new Retryable('NODE_UNREACHABLE', 'gone');
    return messageOf(app);
  });
  await expect(keys.of('shop')).rejects.toMatchObject({ code: 'NODE_UNREACHABLE' });
  broken = false;
  expect(await keys.of('shop')).toEqual(messageOf('shop'));
  expect(await keys.of('shop')).toEqual(messageOf('shop'));
  expect(asked).toEqual(['shop', 'shop']);
  pass(60_001);
  await keys.of('shop');
  expect(asked).toEqual(['shop', 'shop', 'shop']);
});

test('strangers with names of their own get to the node one by one and no more often than it likes; a known name is told', async () => {
  let [atOnce, most] = [0, 0];
  const { keys, asked, pass } = node(async (app) => {
    most = Math.max(most, ++atOnce);
    await new Promise((resolve) => setTimeout(resolve, 1));
    atOnce -= 1;
    return messageOf(app);
  });
  await keys.of('shop');
  const tried = await Promise.all(
    Array.from({ length: 100 }, (_, at) => keys.of(`x${at}`).then(() => 'told', codeOf)),
  );
  expect(tried.filter((said) => said === 'told')).toHaveLength(15);
  expect(new Set(tried)).toEqual(new Set(['told', 'GOSSIP_RATE']));
  expect([most, asked.length]).toEqual([1, 16]);
  expect(await keys.of('shop')).toEqual(messageOf('shop'));
  pass(1_000);
  await keys.of('later');
});

test('peers ask by the same path as the host asks its node, with an app and nothing else', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sealing-keys-test-'));
  const { keys, asked } = node(async (app) => {
    if (app === 'early') throw new DstackError('NODE_STATE', 'this node is requesting');
    return messageOf(app);
  });
  const gossip = { routes: () => {}, callerOf: () => undefined };
  const app = gossipServer(gossip, new Archive(folder), undefined, keys, { warn: () => {} });
  const ask = async (payload: object) => {
    const { statusCode, body } = await app.inject({ method: 'POST', url: nodePaths.sealingKey, payload });
    return [statusCode, JSON.parse(body)];
  };
  try {
    expect(await ask({ app: 'shop' })).toEqual([200, messageOf('shop')]);
    expect(await ask({ app: 'early' })).toEqual([400, expect.objectContaining({ code: 'NODE_STATE' })]);
    for (const bad of [{}, { app: '../x' }, { app: 'shop', more: 1 }])
      expect(await ask(bad)).toEqual([400, expect.objectContaining({ code: 'MESSAGE_MALFORMED' })]);
    expect(asked).toEqual(['shop', 'early']);
  } finally {
    await app.close();
    rmSync(folder, { recursive: true });
  }
});
