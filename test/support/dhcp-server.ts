/**
 * A DHCP server with scripted answers, run as a process in a network namespace: `node dhcp-server.ts LEASES`, where
 * LEASES is a JSON list of `Lease`. The first is offered and given; each later renewal gets the next one, and the
 * last one is repeated. Prints a line for every lease that it has given.
 *
 * Source: RFC 2131 (messages), RFC 2132 (options), RFC 3442 (classless routes).
 */
import { createSocket } from 'node:dgram';

export interface Lease {
  readonly address: string;
  readonly prefix: number;
  /** How long the lease lasts. */
  readonly seconds: number;
  /** Options by their number, as hex digits. */
  readonly options: Readonly<Record<number, string>>;
}

/** An IPv4 address as four bytes, in hex digits. */
export const ipv4Hex = (address: string): string =>
  Buffer.from(address.split('.').map(Number)).toString('hex');

/** RFC 3442: prefix length, as many bytes of the destination as it needs, the gateway. Option 121, and Microsoft's 249. */
export const routeHex = (destination: string, prefix: number, gateway: string): string =>
  Buffer.from([prefix]).toString('hex') +
  ipv4Hex(destination).slice(0, 2 * Math.ceil(prefix / 8)) +
  ipv4Hex(gateway);

const BOOT_REQUEST = 1;
const BOOT_REPLY = 2;
const [DISCOVER, OFFER, REQUEST, ACK] = [1, 2, 3, 5];
const MAGIC = '63825363';
const OPTIONS_AT = 240;

const MASK = 1;
const LEASE_SECONDS = 51;
const MESSAGE_TYPE = 53;
const SERVER = 54;

function optionOf(message: Buffer, wanted: number): Buffer | undefined {
  for (let at = OPTIONS_AT; at + 1 < message.length && message[at] !== 255; ) {
    const [code, length] = [message[at]!, message[at + 1]!];
    if (code === wanted) return message.subarray(at + 2, at + 2 + length);
    at += code === 0 ? 1 : 2 + length;
  }
  return undefined;
}

function replyTo(request: Buffer, type: number, server: string, lease: Lease): Buffer {
  const head = Buffer.alloc(OPTIONS_AT);
  request.copy(head, 0, 0, 44);
  head[0] = BOOT_REPLY;
  head.write(ipv4Hex(lease.address), 16, 'hex');
  head.write(ipv4Hex(server), 20, 'hex');
  head.fill(0, 44);
  head.write(MAGIC, 236, 'hex');
  const mask = Buffer.alloc(4);
  mask.writeUInt32BE(2 ** 32 - 2 ** (32 - lease.prefix));
  const seconds = Buffer.alloc(4);
  seconds.writeUInt32BE(lease.seconds);
  const options: [number, string][] = [
    [MESSAGE_TYPE, Buffer.from([type]).toString('hex')],
    [SERVER, ipv4Hex(server)],
    [MASK, mask.toString('hex')],
    [LEASE_SECONDS, seconds.toString('hex')],
    ...Object.entries(lease.options).map(([code, hex]): [number, string] => [Number(code), hex]),
  ];
  const encoded = options.map(([code, hex]) =>
    Buffer.concat([Buffer.from([code, hex.length / 2]), Buffer.from(hex, 'hex')]),
  );
  return Buffer.concat([head, ...encoded, Buffer.from([255])]);
}

if (import.meta.main) {
  const [server = '', text = ''] = process.argv.slice(2);
  const leases = JSON.parse(text) as Lease[];
  let given = 0;
  const socket = createSocket('udp4');
  socket.on('message', (message) => {
    if (message.length < OPTIONS_AT || message[0] !== BOOT_REQUEST) return;
    const asked = optionOf(message, MESSAGE_TYPE)?.[0];
    // A client that has an address sends from it, and is answered there.
    const client = [...message.subarray(12, 16)].join('.');
    const to = client === '0.0.0.0' ? '255.255.255.255' : client;
    const lease = leases[Math.min(given, leases.length - 1)]!;
    if (asked === DISCOVER) socket.send(replyTo(message, OFFER!, server, lease), 68, to);
    if (asked !== REQUEST) return;
    socket.send(replyTo(message, ACK!, server, lease), 68, to);
    given += 1;
    console.log(JSON.stringify({ given, address: lease.address }));
  });
  socket.bind(67, () => {
    socket.setBroadcast(true);
    console.log('listening');
  });
}
