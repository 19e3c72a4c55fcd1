import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type RpcErrorSaid, revertDataIn, rpcErrorKind, shown } from './rpc-errors.ts';

interface Wording {
  who: string;
  method: string;
  error: RpcErrorSaid;
  kind: string;
  revertData?: string;
}
const wordings: Wording[] = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../testdata/rpc/wordings.json'), 'utf8'),
);

test.each(wordings.map((wording) => [wording.who, wording.error.message.slice(0, 60), wording] as const))(
  '%s says: %s',
  (_who, _message, { method, error, kind, revertData }) => {
    expect(rpcErrorKind(method, error)).toBe(kind);
    expect(kind === 'reverted' ? revertDataIn(error) : undefined).toBe(revertData);
  },
);

const said = (message: string, data?: unknown): RpcErrorSaid => ({ code: undefined, message, data });

test('what a contract says is not taken for what the endpoint says', () => {
  const words = 'execution reverted: too many requests, rate limit exceeded, insufficient funds';
  expect(rpcErrorKind('eth_estimateGas', said(words))).toBe('reverted');
});

test('unknown transactions, blocks and types are not known ones', () => {
  for (const words of ['unknown transaction', 'unknown account', 'nonce already used', 'already spent']) {
    expect(rpcErrorKind('eth_sendRawTransaction', said(words))).toBe('unknown');
  }
});

test('revert data is looked for a few levels deep, bounded, and only hex', () => {
  const deep = (levels: number): unknown => (levels === 0 ? '0x12345678' : { data: deep(levels - 1) });
  expect(revertDataIn(said('x', deep(4)))).toBe('0x12345678');
  expect(revertDataIn(said('x', deep(5)))).toBeUndefined();
  expect(revertDataIn(said('execution reverted: 0x12345678AB'))).toBe('0x12345678ab');
  for (const data of [
    undefined,
    null,
    'reverted',
    'deadbee',
    { data: 5 },
    `0x${'00'.repeat(5000)}`,
    ['0x12345678'],
  ])
    expect(revertDataIn(said('x', data))).toBeUndefined();
});

test('what is shown has no control characters, is one line, and is bounded', () => {
  expect(shown('a\u001b[31mb\nc\u202e ')).toBe('a\\u001b[31mb\\nc\\u202e');
  expect(shown('\u0000'.repeat(1e6), 20)).toBe('\\u0000\\u0000\\u000...');
  expect(shown('x'.repeat(1e6), 20)).toBe('x'.repeat(20));
});

test('no row takes long over what an endpoint may say', () => {
  const started = performance.now();
  for (const piece of ['range ', 'limit exceed too max ', 'replace ', 'known transaction: ', 'a: ']) {
    rpcErrorKind('eth_getLogs', said(piece.repeat(100_000)));
    rpcErrorKind('eth_sendRawTransaction', said(piece.repeat(100_000)));
  }
  expect(performance.now() - started).toBeLessThan(20_000);
});
