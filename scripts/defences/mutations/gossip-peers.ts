/** Point 13, of the protocol between peers: what one of them does costs itself, and none of the others. */
import { rowsOf } from '../mutation.ts';

const row = rowsOf(13);

const HTTP = ['host/gossip/http-carrier.ts', 'host/gossip/hostile-peers.test.ts'] as const;
const LINK = ['host/gossip/peer-link.ts', 'host/gossip/hostile-peers.test.ts'] as const;
const KEYS = ['host/gossip/peer-keys.ts', 'host/gossip/peer-keys.test.ts'] as const;
const LOG = ['host/gossip/message-log.ts', 'host/gossip/message-log.test.ts'] as const;
const MESH = ['host/gossip/mesh.ts', 'host/gossip/mesh.test.ts'] as const;
const WANTS = ['host/gossip/wants.ts', 'host/gossip/wants.test.ts'] as const;

export const gossipPeers = [
  row(
    'that what an honest relay may hold costs it nothing',
    LINK,
    'exchange.isFault(waiting.value, codeOf(error))',
    'true',
    '^what an honest relay may hold',
  ),
  row(
    'that only good messages make a peer one that is listened to',
    LINK,
    'if (!wants.has(id)) this.#gaps.add(id);',
    'if (!wants.has(id)) this.#shared.mesh().graft(this);',
    '^a peer that announces what nobody else does',
  ),
  row(
    'that a relay is not its own peer',
    LINK,
    'if (batch.key === keys.own) {',
    'if (false) {',
    '^a peer that is this relay',
  ),
  row(
    'that a stranger who announces without end is told to stop',
    HTTP,
    '      this.#charges.check(source);\n',
    '',
    '^strangers who announce and do not send',
  ),
  row(
    'that strangers of one address are told what one of them brought',
    HTTP,
    '!isPeer || row.source !== source',
    'row.source !== source',
    '^what one stranger brought',
  ),
  row(
    "that keys which nobody configured count as their address's",
    ['host/gossip/http-carrier.ts', 'host/gossip/sybil.test.ts'],
    'sourceOf(request.ip);\n    this.#sources',
    '(headerOf(request)?.slice(0, 64) ?? sourceOf(request.ip));\n    this.#sources',
    '^a thousand keys of one host',
  ),
  row(
    'the bound on places of peers that showed what others lacked',
    MESH,
    'if (this.#grafted.size >= GRAFTED) {',
    'if (false) {',
    '^however many are grafted',
  ),
  row(
    'the proof of a key that a peer shows',
    KEYS,
    "return timingSafeEqual(Buffer.from(proof, 'hex'), proofOf(secret, key, own, at));",
    'return proofOf(secret, key, own, at).length > 0;',
    '^who shows a key proves',
  ),
  row(
    'that a key which two URLs have counts for neither',
    KEYS,
    'return known.peers.size === 1 ? peer : undefined;',
    'return peer;',
    '^a URL that shows another key',
  ),
  row(
    'that a request of a peer counts once',
    KEYS,
    ' || known.seen.has(at)',
    '',
    '^a request says who makes it',
  ),
  row(
    'that what was forgotten of them counts as repeated',
    KEYS,
    'known.floor = Math.max(known.floor, oldest!);',
    '',
    '^requests may overtake',
  ),
  row(
    'room of peers beside that of strangers, for what is being fetched',
    WANTS,
    'want === undefined && !isChosen(source)',
    'want === undefined',
    '^strangers, however many',
  ),
  row(
    'that who was late lets others go first',
    WANTS,
    'if (isDoubtful) this.#doubt(source);',
    '',
    '^who is late loses its turn',
  ),
  row(
    'that who was late before is not waited for once another has it',
    WANTS,
    'else this.#giveWay(id, found.asked.source, source);',
    '',
    '^who is asked and was late',
  ),
  row(
    'that nobody is late because this process stood still',
    WANTS,
    'if (stood > SWEEP_MS) {',
    'if (false) {',
    '^nobody is late because',
  ),
  row(
    'that a full disk leaves messages as they were',
    LOG,
    'const row = this.#rowOf(sequence, { id, message, source });',
    'const row = this.#rowOf(sequence, { id, message, source });\n    if (before !== undefined) this.#index.delete(id);',
    '^a store that can not be written',
  ),
  row(
    'that a part which is not here is not put into a message',
    ['host/gossip/shared-parts.ts', 'host/gossip/shared-parts.test.ts'],
    'if (fields.some(([, name]) => !this.#parts.has(name))) return undefined;',
    '',
    '^a part that the reader does not have',
  ),
  row(
    "one source's bound on long polls",
    ['host/gossip/http-carrier.ts', 'host/gossip/http-carrier.test.ts'],
    'if (others >= MAX_WAITERS_OF_ONE) return false;',
    '',
    "^one source's long polls",
  ),
  row(
    'that all have had their turn within a quarter of the window',
    ['host/relay/answer-turns.ts', 'host/relay/answer-turns.test.ts'],
    'return Math.min(cap, start + (spread * (place - from)) / (to - from));',
    'return start + (spread * (place - from)) / (to - from);',
    '^of ten thousand a handful',
  ),
] as const;
