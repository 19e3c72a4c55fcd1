/** What a client of the store reaches of its door: who may call what, and how much it may take. */
import { type Mutation, one } from '../mutation.ts';

const HALF = 'guest/kv/api/half-requests.test.ts';
const DOOR = 'guest/kv/api/door.test.ts';
const GATEWAY = 'guest/kv/api/gateway.test.ts';

export const storeDoor: readonly Mutation[] = [
  one(
    'store',
    'that a write waits for the ledger',
    [
      'guest/kv/api/covered.ts',
      'await ledger.covered(header.revision)',
      'void ledger.covered(header.revision).catch(() => {})',
    ],
    [DOOR, 'is waited for by writes, and not by reads'],
  ),
  one(
    'store',
    "that the engine is the owner's to maintain",
    [
      'guest/kv/api/maintenance.ts',
      'if (!call.caller.owner) throw',
      'if (call.caller.owner === undefined) throw',
    ],
    [DOOR, 'alone may call'],
  ),
  one(
    'store',
    'that the size of the database is not for everyone',
    ['guest/kv/api/maintenance.ts', 'if (!call.caller.owner) {', 'if (call.caller.owner === undefined) {'],
    [DOOR, 'alone gets a snapshot'],
  ),
  one(
    'store',
    'that the metrics are not for everyone',
    [
      'guest/kv/api/info.ts',
      'caller.owner ? text(200, metrics.text())',
      "caller.name !== '' ? text(200, metrics.text())",
    ],
    [DOOR, 'alone gets a snapshot'],
  ),
  one(
    'store',
    'the bound of a message',
    ['guest/kv/api/framing.ts', 'if (size > MAX_MESSAGE)', 'if (size > 2 ** 32)'],
    [DOOR, 'a message that says it is 4 GB'],
  ),
  one(
    'store',
    'the refusal of compressed messages',
    ['guest/kv/api/framing.ts', 'if (first[0] !== 0)', 'if (first[0] === 255)'],
    [DOOR, 'a compressed message'],
  ),
  one(
    'store',
    'the bound of what a connection holds',
    ['guest/kv/api/budget.ts', 'if (this.#left < bytes) throw', 'if (this.#left < -(2 ** 40)) throw'],
    [DOOR, 'what all calls of a connection hold is bounded'],
  ),
  one(
    'store',
    'the part that one app has of what all may hold',
    [
      'guest/kv/api/budget.ts',
      'if (held > (this.#left - bytes) * PART) throw',
      'if (bytes > this.#left) throw',
    ],
    [HALF, 'leaves room for requests of another'],
  ),
  one(
    'store',
    'how long a request in JSON is waited for',
    ['guest/kv/api/gateway.ts', 'within, performance.now())', 'within)'],
    [HALF, 'JSON: one that has its object, and no end'],
  ),
  one(
    'store',
    'how long a message of a stream is waited for',
    ['guest/kv/api/in-time.ts', 'begun === undefined ? next : before(left, next)', 'next'],
    [HALF, 'gRPC: a message of a stream that stops half way'],
  ),
  one(
    'store',
    'that who trickles gets no more time',
    ['guest/kv/api/in-time.ts', '      left -= performance.now() - asked;\n', ''],
    [HALF, 'JSON: a request of one object'],
  ),
  one(
    'store',
    'the bound of what of the log is asked for and not taken',
    ['guest/kv/api/log.ts', 'this.#unsent.hold(caller, found.bytes.length, response);', 'void caller;'],
    ['guest/kv/api/neighbours.test.ts', 'what of the log an app asks for'],
  ),
  one(
    'store',
    'that a call has one message',
    ['guest/kv/api/grpc-server.ts', 'if (begun || !reader.empty) throw', 'if (begun && reader.empty) throw'],
    [DOOR, 'two messages is refused'],
  ),
  one(
    'store',
    'the bound of headers',
    ['guest/kv/api/door.ts', '> HEADER_BYTES) {', '> HEADER_BYTES * 1024) {'],
    [DOOR, 'headers above 16 KiB'],
  ),
  one(
    'store',
    'that a peer that has gone is noticed',
    [
      'guest/kv/api/session.ts',
      'setTimeout(() => socket.destroy(), times.answer)',
      'setTimeout(() => {}, times.answer)',
    ],
    [DOOR, 'a peer that has gone without a word'],
  ),
  one(
    'store',
    'the bound of a request in JSON',
    [
      'guest/kv/api/json.ts',
      'if (this.#length > this.#most) throw',
      'if (this.#length > this.#most * 1024) throw',
    ],
    [GATEWAY, 'what is too large'],
  ),
  one(
    'store',
    'that what stands between the objects of a request is refused',
    ['guest/kv/api/json.ts', '} else if (!BLANK.has(byte)) throw', '} else if (byte === 0) throw'],
    [GATEWAY, 'rubbish between is refused'],
  ),
  one(
    'store',
    'that a page in a browser is refused',
    ['guest/kv/api/gateway.ts', '      requireNoPage(request);\n', ''],
    [GATEWAY, 'a page in a browser is refused'],
  ),
  one(
    'store',
    'that a field of a request is there once',
    ['guest/kv/api/json.ts', '  requireUniqueKeys(text);\n', ''],
    [GATEWAY, 'a field that is there twice is refused'],
  ),
];
