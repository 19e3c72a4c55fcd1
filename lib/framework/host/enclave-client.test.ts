/** Whom a host asks, and who gives no answer at all. */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { Type } from 'typebox';
import { expect, test } from 'vitest';
import { rpcEndpoint } from '../../chain/json-rpc.ts';
import { codeOf } from '../../protocol/errors.ts';
import { enclaveAt } from './enclave-client.ts';

const OTHER_PROTOCOL = 'HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n';

test('an endpoint of the chain, or an enclave, that switches protocols holds up nobody', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => {}).once('data', () => socket.write(OTHER_PROTOCOL));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    const calls = [
      rpcEndpoint(url, { timeout: 3_000 }).call(Type.String(), 'eth_blockNumber', []),
      enclaveAt(url, { timeout: 3_000 }).request('/v1/answer', {}),
    ];
    const never = new Promise((resolve) => setTimeout(resolve, 6_000, 'nothing'));
    const codes = calls.map((call) => Promise.race([call.then(() => 'an answer', codeOf), never]));
    expect(await Promise.all(codes)).toEqual(['RPC_UNREACHABLE', 'ENCLAVE_UNREACHABLE']);
  } finally {
    server.close();
  }
});
