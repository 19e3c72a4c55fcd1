import { once } from 'node:events';
import { createServer } from 'node:http2';
import { type AddressInfo, connect } from 'node:net';
import { expect, test } from 'vitest';
import { codeOf } from '../../../lib/protocol/errors.ts';
import { decodeHeaders, encodeHeaders } from './hpack.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

function refusalOf(block: Uint8Array): string {
  try {
    decodeHeaders(block);
  } catch (error) {
    return codeOf(error);
  }
  return 'accepted';
}

test('the examples of RFC 7541 that need no dynamic table (C.2, C.3.1, C.4.1)', () => {
  expect([...decodeHeaders(hex('400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572'))]).toEqual(
    [['custom-key', 'custom-header']],
  );
  expect([...decodeHeaders(hex('040c 2f73 616d 706c 652f 7061 7468'))]).toEqual([[':path', '/sample/path']]);
  expect([...decodeHeaders(hex('8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff'))]).toEqual([
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'www.example.com'],
  ]);
});

test('every character that may stand in a header, in the Huffman code of another implementation', async () => {
  const characters = [...Array(95).keys()].map((index) => String.fromCharCode(32 + index)).join('');
  const others = [...Array(128).keys()].map((index) => String.fromCharCode(128 + index)).join('');
  const value = `x${characters}${others}x`;
  const server = createServer({ settings: { headerTableSize: 0 } });
  server.on('stream', (stream) => stream.respond({ ':status': 200, value }, { endStream: true }));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  try {
    const block = await firstHeaders((server.address() as AddressInfo).port);
    const headers = decodeHeaders(block);
    expect(headers.get(':status')).toBe('200');
    expect(headers.get('value')).toBe(value);
  } finally {
    server.close();
  }
});

/** Asks for `/` and gives the block of headers of the answer. */
async function firstHeaders(port: number): Promise<Buffer> {
  const socket = connect(port, '127.0.0.1');
  const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  const request = encodeHeaders([
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'x'],
  ]);
  socket.write(
    Buffer.concat([
      Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      frame(4, 0, 0, hex('0001 00000000')),
      frame(1, 5, 1, request),
    ]),
  );
  let all = Buffer.alloc(0);
  for await (const chunk of socket) {
    all = Buffer.concat([all, chunk]);
    for (let at = 0; at + 9 <= all.length; ) {
      const length = all.readUIntBE(at, 3);
      if (all[at + 3] === 1 && at + 9 + length <= all.length) {
        socket.destroy();
        return all.subarray(at + 9, at + 9 + length);
      }
      at += 9 + length;
    }
  }
  throw new Error('no headers came');
}

test('what it encodes it decodes, also long values', () => {
  for (const length of [0, 1, 126, 127, 128, 255, 16_000]) {
    const headers: [string, string][] = [[':path', 'x'.repeat(length)]];
    expect([...decodeHeaders(encodeHeaders(headers))]).toEqual(headers);
  }
});

test('blocks that are not whole, name what is not there, or want a table are refused', () => {
  const hostile = [
    '40',
    '400a63',
    '00',
    'c0',
    '80',
    '7f',
    'ffffffffff7f',
    '3fe11f',
    '0f',
    '000001',
    '0081ff0100',
  ];
  expect(hostile.map((block) => refusalOf(hex(block)))).toEqual(hostile.map(() => 'HTTP2_INVALID'));
  // The size of the table set to nothing is what our settings ask for.
  expect([...decodeHeaders(hex('20 88'))]).toEqual([[':status', '200']]);
});

test('any bytes are decoded or refused', () => {
  for (let seed = 0; seed < 3000; seed++) {
    const bytes = Buffer.from(
      [...Array(1 + (seed % 40)).keys()].map((index) => (seed * 2654435761 * (index + 7)) >>> 11),
    );
    expect(['accepted', 'HTTP2_INVALID']).toContain(refusalOf(bytes));
  }
});
