/** What bench/agent.ts has an app do to its agent, as a process of its own: `agent-attacks.ts ATTACK PLACE`, a place as JSON for node:net. */
import { connect, type NetConnectOpts } from 'node:net';
import { RUBBISH } from './agent-rubbish.ts';

const CONNECTIONS = 64;

const [attack = '', place = '{}'] = process.argv.slice(2);
const way = JSON.parse(place) as NetConnectOpts;

const start = (method: string, path: string): string =>
  `${method} ${path} HTTP/1.1\r\nHost: dstack-guest\r\n`;
const get = (path: string): string => `${start('GET', path)}\r\n`;
const post = (path: string, body: object): string => {
  const text = JSON.stringify(body);
  const length = `Content-Type: application/json\r\nContent-Length: ${text.length}\r\n`;
  return `${start('POST', path)}${length}\r\n${text}`;
};

/** A connection that is made again whenever it ends. */
function again(act: (socket: ReturnType<typeof connect>) => void): void {
  const socket = connect(way);
  socket.on('error', () => {}).on('close', () => setTimeout(again, 2, act));
  act(socket);
}

/** One request after the other. */
const asking = (text: string | Buffer) => (socket: ReturnType<typeof connect>) =>
  void socket
    .on('connect', () => socket.write(text))
    .on('data', (data) => {
      if (data.includes('HTTP/1.1 ')) socket.write(text);
    });

/** As many bytes as it takes. */
const flooding = (head: string, text: string) => (socket: ReturnType<typeof connect>) => {
  const block = Buffer.from(text.repeat(Math.ceil(65_536 / text.length)));
  const fill = () => {
    while (!socket.destroyed && socket.write(block));
  };
  socket
    .resume()
    .on('connect', () => socket.write(head, fill))
    .on('drain', fill);
};

const signature = { algorithm: 'secp256k1', data: '00', signature: '11'.repeat(64) };
const publicKey = '0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798';
const chunked = `${start('POST', '/v1/key')}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`;

const attacks: Readonly<Record<string, (socket: ReturnType<typeof connect>) => void>> = {
  keys: asking(get('/getkey/x')),
  signatures: asking(post('/v1/sign', { tag: 'a', algorithm: 'secp256k1', data: 'ab'.repeat(16_000) })),
  verifying: asking(post('/v1/verify', { ...signature, publicKey })),
  certificates: asking(post('/GetTlsKey', { usage_ra_tls: true })),
  quotes: asking(post('/v1/quote', { data: 'ab'.repeat(4_000) })),
  pipelining: flooding('', get('/getkey/x')),
  chunks: flooding(chunked, '1\r\n \r\n'),
  connections: (socket) => void socket.on('connect', () => socket.destroy()),
  // No port of the attacker's waits for a minute then (TIME_WAIT), so these are far more. A unix socket has nothing of the kind.
  resets: (socket) =>
    void socket.on('connect', () => ('path' in way ? socket.destroy() : socket.resetAndDestroy())),
  ...Object.fromEntries(Object.entries(RUBBISH).map(([kind, text]) => [`rubbish-${kind}`, asking(text)])),
};
if (attack === 'nothing') for (;;);
// All kinds of rubbish at once, or one thing on all connections.
const named = Object.keys(attacks).filter((name) => name === attack || name.startsWith(`${attack}-`));
for (let one = 0; one < CONNECTIONS; one += 1) again(attacks[named[one % named.length]!]!);
