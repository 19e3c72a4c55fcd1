import { expect, test } from 'vitest';
import { startAnvil } from './local-node.ts';

test('two run side by side, each answers, and stop ends the process', async () => {
  const [one, two] = await Promise.all([startAnvil(), startAnvil({ args: ['--chain-id', '4711'] })]);
  try {
    expect(one.url).not.toBe(two.url);
    expect(await chainId(one.url)).toBe('0x7a69');
    expect(await chainId(two.url)).toBe('0x1267');
  } finally {
    await Promise.all([one.stop(), two.stop()]);
  }
  await one.stop();
  expect(() => process.kill(one.pid, 0)).toThrow('ESRCH');
  expect(() => process.kill(two.pid, 0)).toThrow('ESRCH');
});

test('an argument that anvil refuses is an error, not a hang', async () => {
  await expect(startAnvil({ args: ['--no-such-option'] })).rejects.toThrow('did not start to listen');
});

async function chainId(url: string): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_chainId', params: [] }),
  });
  return ((await response.json()) as { result: unknown }).result;
}
