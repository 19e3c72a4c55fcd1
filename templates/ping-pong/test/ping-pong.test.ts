/** The app on the local chain of `dstack dev --test`: contract, enclave and host together. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { abi, eventTopic, functionCall } from 'dstack/framework';

const { RPC_URL = '', APP_CONTRACT = '' } = process.env;

async function rpc<T>(method: string, ...params: unknown[]): Promise<T> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const headers = { 'content-type': 'application/json' };
  const reply = (await (await fetch(RPC_URL, { method: 'POST', headers, body })).json()) as { result: T };
  return reply.result;
}

test('a ping gets its pong', { timeout: 60_000 }, async () => {
  const [from] = await rpc<string[]>('eth_accounts');
  const data = functionCall('ping(string)', abi.struct({ text: abi.text }), { text: 'hello' });
  await rpc('eth_sendTransaction', { from, to: APP_CONTRACT, data });
  const topics = [eventTopic('Pong(uint64,address,string)')];
  for (;;) {
    const filter = { address: APP_CONTRACT, fromBlock: '0x0', topics };
    const [log] = await rpc<{ data: string }[]>('eth_getLogs', filter);
    if (log !== undefined) {
      const { text } = abi.decodeStrictly(abi.struct({ text: abi.text }), log.data, 'pong');
      assert.match(text, /^pong 1: hello/);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
});
