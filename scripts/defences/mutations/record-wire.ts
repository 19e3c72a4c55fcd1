/** How nodes exchange records: the handshake, the comparison of two sets, and what one peer can cost. */
import { type Mutation, rowsOf } from '../mutation.ts';

const row = rowsOf('records');
const noise = (file: string) => [`lib/noise/${file}.ts`, 'lib/noise/handshake.test.ts'] as const;
const sync = (file: string, test: string) =>
  [`lib/protocol/records/sync/${file}.ts`, `lib/protocol/records/sync/${test}.test.ts`] as const;
const wire = (file: string, test: string) =>
  [`host/records/wire/${file}.ts`, `host/records/wire/${test}.test.ts`] as const;

const HANDSHAKE = noise('handshake');
const CIPHER = noise('cipher-state');
const RANGES = sync('ranges', 'reconcile');
const RECONCILE = sync('reconcile', 'reconcile');
const MESSAGES = sync('messages', 'messages');
const SOCKET = wire('secure-socket', 'secure-socket');
const GATE = wire('gate', 'bounds');
const PEER = wire('peer', 'wire');
const WIRE = wire('wire', 'wire');
const ADDRESS = wire('address', 'wire');

export const recordWireRules: readonly Mutation[] = [
  row(
    'that our own messages do not make a peer',
    HANDSHAKE,
    '!bytesEqual(key, publicKey) && !bytesEqual(key, this.#ephemeral.publicKey)',
    'key !== publicKey',
    'when our own messages come back',
  ),
  row(
    "the network's secret in the first message",
    HANDSHAKE,
    'this.#state.mixKeyAndHash(this.#options.psk)',
    'this.#state.mixHash(this.#options.prologue)',
    'with another secret',
  ),
  row(
    'what a handshake is bound to',
    HANDSHAKE,
    '    this.#state.mixHash(options.prologue);\n',
    '',
    'with another prologue',
  ),
  row(
    'that a sealed message is opened once',
    CIPHER,
    'associated, sealed);\n    this.#nonce += 1n;',
    'associated, sealed);',
    'each number is opened once',
  ),
  row(
    'keys that do not lead back to those before',
    CIPHER,
    'encrypt(this.#key, LAST_NONCE, NOTHING, new Uint8Array(KEY_BYTES)).slice(0, KEY_BYTES)',
    'this.#key.slice(0, KEY_BYTES)',
    'go on under a key',
  ),
  row(
    'one spelling of a number',
    sync('varint', 'reconcile'),
    'bytes[offset] === MORE',
    'offset < 0',
    'have one spelling',
  ),
  row(
    'ranges in their order',
    RANGES,
    'Buffer.compare(upper, this.#lower) <= 0',
    'upper.length === 0',
    'whose bounds go back',
  ),
  row(
    'that a list has no more identities than bytes',
    RANGES,
    '    if (count * BigInt(ID_BYTES) > BigInt(this.#bytes.length - this.#offset)) throw truncated();\n',
    '',
    'that says it has 2\\^63 identities',
  ),
  row(
    'the size of an answer',
    RECONCILE,
    'this.#room < sizeOf(contents)',
    'this.#room < -1e9',
    'gets answers no larger',
  ),
  row(
    'the end of a comparison',
    RECONCILE,
    ' || this.#rounds >= this.#limits.rounds',
    '',
    'ends after as many rounds',
  ),
  row(
    'how much may be said to be missing',
    RECONCILE,
    'this.#missingHere.size + this.#missingThere.size >= this.#limits.difference',
    'this.#rounds < 0',
    'has no more said to be missing',
  ),
  row(
    'that a refusal is a code',
    MESSAGES,
    'if (CODE.test(code)) return',
    'if (code !== CODE.source) return',
    'with a code that is none',
  ),
  row(
    'how many identities a message has',
    MESSAGES,
    'all.length === most',
    'all.length < 0',
    'and so many identities',
  ),
  row(
    'the length of a message of the handshake',
    SOCKET,
    'length !== expected',
    'expected < 0',
    'a frame of another length',
  ),
  row(
    'the time of a handshake',
    SOCKET,
    '      limits.handshakeWithin,\n',
    '      2 ** 30,\n',
    'says one byte now and then',
  ),
  row(
    'the time of a message',
    SOCKET,
    '      this.#limits.idle,\n',
    '      2 ** 30,\n',
    'never ends its message',
  ),
  row(
    'the time to take what was sent',
    SOCKET,
    '      this.#limits.takenWithin,\n',
    '      2 ** 30,\n',
    'a peer that takes nothing',
  ),
  row(
    'the size of a message',
    SOCKET,
    'length > MAX_MESSAGE_BYTES',
    'length < 0',
    'a message that does not end',
  ),
  row(
    'that parts are full',
    SOCKET,
    ' || part.length !== PART_BYTES',
    '',
    'parts that go on and are not full',
  ),
  row(
    'the handshakes of one address',
    GATE,
    'this.#handshakes.of(address) >= handshakesPerAddress',
    'handshakesPerAddress < 0',
    'has so many handshakes at once',
  ),
  row(
    'the handshakes that an address begins in a second',
    GATE,
    'isFull || !this.#mayArrive(address)',
    'isFull',
    'lets so many in a second shake hands',
  ),
  row(
    'the connections of one address',
    GATE,
    'this.#all.of(address) >= connectionsPerAddress',
    'connectionsPerAddress < 0',
    'has so many connections',
  ),
  row(
    'how much one peer can offer',
    wire('fetcher', 'bounds'),
    "      if (how !== 'first' && !queue.ids.has(id) && queue.ids.size >= this.#limit) return;\n",
    '',
    'takes so many offers of a peer',
  ),
  row(
    'that nobody sends what was not asked for',
    PEER,
    'if (this.#asked.delete(id)) return',
    'if (this.#asked.delete(id) || id !== this.key) return',
    'sends what it was not asked for',
  ),
  row(
    'the end of waiting for a record',
    PEER,
    "    this.#overdue = setTimeout(() => this.close('SYNC_WITHHELD'), Math.max(0, left));\n",
    "    this.#overdue = setTimeout(() => this.close('SYNC_WITHHELD'), 2 ** 30 + left);\n",
    'withholds what it offered',
  ),
  row(
    'how much a peer may lack that it offered',
    PEER,
    'this.#lacked > this.#host.limits.lacking',
    'this.#lacked < 0',
    'says that it lacks what it offered',
  ),
  row(
    'how often a peer may ask in one comparison',
    PEER,
    ' || this.#theirs.questions > limits.reconcile.rounds',
    '',
    'asks without end',
  ),
  row(
    'what a peer may get for its questions',
    PEER,
    'Math.max(cpu, bytesIn, this.#purse.bytesOut.spend(0))',
    'Math.max(cpu, bytesIn)',
    'asks little for long answers',
  ),
  row(
    "a peer's share of the processor",
    PEER,
    'const cpu = this.#purse.cpu.spend(this.#spent);',
    'const cpu = 0 * this.#spent;',
    'asks what is dear to answer',
  ),
  row(
    "a peer's share of bytes",
    PEER,
    'this.#purse.bytesIn.spend(this.#socket.receivedBytes - before)',
    '0 * before',
    'sends what brings nothing',
  ),
  row(
    'that a liar does not come straight back',
    WIRE,
    '    if (GUILTY.test(code)) this.#punish(peer.key);\n',
    '    if (GUILTY.test(code) && peer.key.length === 0) this.#punish(peer.key);\n',
    'sends a spoiled record',
  ),
  row(
    'the key that a dialled node must have',
    WIRE,
    'expected !== undefined && key !== expected',
    "expected === ''",
    'do not speak with another network',
  ),
  row(
    'that a peer is heard while it is given to',
    wire('giver', 'wire'),
    'if (!this.#isGiving) void this.#giveAll();',
    'if (!this.#isGiving) await this.#giveAll();',
    'give to each other at the same time',
  ),
  row(
    'the room of what is nearest to the members',
    PEER,
    '      this.#timed(() => store.forget(this.key));\n',
    '',
    'chain of times that go back.*also where peers',
  ),
  row(
    'that what was forgotten is asked for again when it can be taken',
    PEER,
    "if (verdict.kind === 'members' && this.#forgotten.size > 0) {",
    "if (this.#forgotten.size < 0 && verdict.kind === 'members') {",
    'chain of times that go back.*also where peers',
  ),
  row(
    'what is asked for first',
    wire('fetcher', 'bounds'),
    'while (taken.length < count && queue.first.length > 0) take(queue.first.pop()!);',
    '',
    'asks for what others stand on first',
  ),
  row(
    'values that whoever gave the record first kept back',
    PEER,
    '    this.#seekValues(missingThere);\n',
    '',
    'does not keep them from who asks others',
  ),
  row(
    'that others are asked for the value at once',
    PEER,
    '    if (isPruned) this.#host.wake(fetcher.failed(this.key, id));\n    else fetcher.done(id);\n',
    '    fetcher.done(id);\n',
    'leaves the others who offered the records',
  ),
  row(
    'that a full disk ends no connection',
    PEER,
    "      if (codeOf(error) === 'RECORDS_STOPPED') return undefined;\n",
    '',
    'go on with giving while a disk is full',
  ),
  row(
    'that nothing is fetched which nobody can keep',
    PEER,
    'if (store.stopped !== undefined) {',
    'if (store.stopped?.code === undefined && store.stopped !== undefined) {',
    'go on with giving while a disk is full',
  ),
  row(
    'the debt of who comes back',
    wire('purses', 'wire'),
    'if (purse !== undefined) return purse;',
    'if (purse === null) return purse;',
    'comes back under another key',
  ),
  row(
    'how many debts are remembered',
    wire('purses', 'bounds'),
    'if (this.#left.size > MOST) this.#forget();',
    '',
    'is remembered of so many addresses',
  ),
  row(
    'that a port is one',
    ADDRESS,
    ' || port > 65_535',
    '',
    'is refused before anything is dialled: a port above all',
  ),
  row(
    'that a host is one',
    ADDRESS,
    'isIP(host) === 0 && (!NAME.test(host) || NUMERIC_END.test(host))',
    'isIP(host) < 0',
    'is refused before anything is dialled: a host with a byte',
  ),
  row(
    'what listens, when the system can accept nobody',
    WIRE,
    "    server.on('error', (cause) =>\n",
    "    server.once('error', (cause) =>\n",
    'however often the system can accept nobody',
  ),
  row(
    'that synchronised is of now',
    WIRE,
    '        last.age <= within &&\n',
    '        last.age <= Number.MAX_VALUE &&\n',
    'is what was compared just now',
  ),
  row(
    'that synchronised is without a difference',
    WIRE,
    'last.missingHere + last.missingThere === 0',
    'last.missingHere + last.missingThere >= 0',
    'is nobody with whom a peer says to differ',
  ),
  row(
    'that a peer is given what follows what it has, before what is far behind',
    RECONCILE,
    "if (range.kind === 'ids' && isOpen && to - from > MANY) {",
    "if (range.kind === 'ids' && isOpen && to - from > 1e9) {",
    'is found to lack what follows it, in that order',
  ),
];
