/** Point 13: messages between relays. */
import { type Mutation, one } from '../mutation.ts';

const gossip = 'test/trust/gossip.test.ts';
const GOSSIP = 'host/gossip/gossip.ts';
const HTTP = 'host/gossip/http-carrier.ts';
const LINK = 'host/gossip/peer-link.ts';
const HOSTILE = 'host/gossip/hostile-peers.test.ts';
const LOG = 'host/gossip/message-log.ts';
const LOG_TEST = 'host/gossip/message-log.test.ts';
const HANDLER = 'host/relay/onboard-handler.ts';
const LIMITS = 'lib/daemon/server-limits.ts';
const LIMITS_TEST = 'lib/daemon/server-limits.test.ts';

export const gossipRules: readonly Mutation[] = [
  // 13: one bad gossip message killed the relay; late subscribers never saw a request
  one(
    13,
    'dropping one message instead of the batch',
    [LINK, "charges.charge(this.peer, 'GOSSIP_REFUSED');", 'throw error;'],
    [gossip, "^13: a peer's bad"],
  ),
  one(
    13,
    'the schema of a message',
    [GOSSIP, 'this.#kinds.check(value)', 'value as Message'],
    [gossip, '^13: bad messages'],
  ),
  one(
    13,
    'the backlog for who polls late',
    [HTTP, 'this.#exchange.idsAfter(after, IDS)', 'this.#exchange.idsAfter(this.#exchange.last, IDS)'],
    [gossip, '^13: a relay that starts'],
  ),
  one(
    13,
    'the backlog for who subscribes late',
    [GOSSIP, '      batch.length > 0;\n', '      false;\n'],
    ['host/gossip/gossip.test.ts', '^a late subscriber'],
  ),
  // Ids first, each body once: nobody is served or believed without end.
  one(
    13,
    'finding a message by its id before it is checked',
    [GOSSIP, 'if (place !== undefined)\n', 'if (place === -1)\n'],
    ['host/gossip/gossip.test.ts', '^what is held is not checked'],
  ),
  one(
    13,
    'asking one at a time for a body',
    ['host/gossip/wants.ts', 'if (want.asked !== undefined) return want.asked.source === source;', ''],
    ['host/gossip/wants.test.ts', '^one is asked at a time'],
  ),
  one(
    13,
    'the bound on what one peer may have open',
    ['host/gossip/wants.ts', 'this.openOf(source) >= perSource || ', ''],
    ['host/gossip/wants.test.ts', '^what one source'],
  ),
  one(
    13,
    'the charge for what is announced and not given',
    [LINK, "        charges.charge(this.peer, 'GOSSIP_MISSING');\n      }", '      }'],
    [HOSTILE, '^a peer that announces ids of nothing'],
  ),
  one(
    13,
    'that a body is looked at only under its own id',
    [LINK, 'if (!asked.delete(id)) {', 'if (asked.delete(id) && false) {'],
    [HOSTILE, '^another body under an id'],
  ),
  one(
    13,
    'the memory of what was refused a moment ago',
    [GOSSIP, ' || this.#refusals.has(id)', ''],
    ['host/gossip/gossip.test.ts', '^what is held is not checked'],
  ),
  one(
    13,
    'the MAC of who says that it is a peer',
    [
      'host/gossip/peer-keys.ts',
      "if (!timingSafeEqual(Buffer.from(mac, 'hex'), macOf(known.secret, key, method, path, at)))",
      'if (macOf(known.secret, key, method, path, at).length === 0)',
    ],
    ['host/gossip/peer-keys.test.ts', '^a request says who'],
  ),
  one(
    13,
    'seeking what the chain speaks of and is not held',
    [LINK, 'const due = [...sought]', 'const due = [...new Set<string>()]'],
    ['host/gossip/late-joiner.test.ts', '^the messages come first'],
  ),
  one(
    13,
    'keeping what is on chain until its request is over',
    ['host/gossip/kept-subjects.ts', 'until < block && since < old', 'until >= 0'],
    [LOG_TEST, '^what is kept goes when'],
  ),
  one(
    13,
    'the turns of those who can answer',
    [HANDLER, 'if (pause > 0) {', 'if (pause > 1e9) {'],
    ['host/relay/answer-turns.test.ts', '^at eight hosts'],
  ),
  one(
    13,
    'that only an answer by the network key ends the matter',
    [
      HANDLER,
      '        checkAnswerSignature(network.domain, answer, networkKey);\n        return true;',
      '        return true;',
    ],
    ['host/relay/onboard-handler.test.ts', '^waits for its turn'],
  ),
  // Nobody's bad input keeps another's good one out.
  one(
    13,
    'the look at a quote before a copy is kept',
    ['host/relay/kinds/request.ts', 'withCheckedEvidence(message, flavour)', 'message'],
    ['host/relay/admission.test.ts', '^a copy whose quote'],
  ),
  one(
    13,
    'the signatures of a quote before a copy is kept',
    [
      'lib/attestation/intel-rules.ts',
      '  requireQuoteSignature(quote, verifyAttestationKey(quote, chain.leaf, context));\n',
      '',
    ],
    ['host/relay/admission.test.ts', '^a copy whose quote'],
  ),
  one(
    13,
    'waiting for another copy after a refusal',
    [HANDLER, 'isFinal(codeOf(error))', 'true'],
    ['host/relay/onboard-handler.test.ts', '^after a refusal the next copy'],
  ),
  one(
    13,
    'the place that a refused copy frees',
    [HANDLER, 'messages.refuse(messageId(copy));', ''],
    ['host/relay/onboard-handler.test.ts', '^refused copies free'],
  ),
  one(
    13,
    'the memory of refused copies',
    [LOG, 'this.#refused.has(id) && source !== SELF ? 0 : undefined', 'undefined'],
    [LOG_TEST, '^a refused copy frees'],
  ),
  one(
    13,
    'places for copies by source',
    [LOG, 'fullest.length >= own + 2', 'fullest.length < own'],
    [LOG_TEST, '^copies of one source'],
  ),
  one(
    13,
    'evicting from the fullest source',
    [LOG, 'group.size > most.size ||', 'group.size < most.size ||'],
    [LOG_TEST, '^who floods from a few'],
  ),
  one(
    13,
    'room for the peers that a host chose',
    [LOG, 'source === SELF || this.#limits.reserved.includes(source)', 'source === SELF'],
    [LOG_TEST, '^strangers, however many'],
  ),
  one(
    13,
    'setting aside what was registered and not published',
    ['lib/framework/event-loop.ts', 'this.#park(id, job, verdict);', 'this.#wait(id, job, verdict.reason);'],
    ['lib/framework/event-loop.test.ts', '^events that wait for what never comes'],
  ),
  one(
    13,
    'that only what was answered is kept for ever',
    [
      HANDLER,
      '      keep(requestHash, await lastUseOf(context));\n      const handed',
      '      keep(requestHash, await lastUseOf(context));\n      await keepJudged(requestHash);\n      const handed',
    ],
    ['host/relay/onboard-handler.test.ts', '^of a request that nobody answered'],
  ),
  one(
    13,
    'that of a request which another node answered a version is archived that can be judged',
    [HANDLER, 'archive.keep(await judgeable(copy, requestHash))', 'archive.keep(copy)'],
    ['host/relay/onboard-handler.test.ts', '^what is kept of a request that another'],
  ),
  one(
    13,
    'that an address is the same in any case',
    ['host/gossip/message-kind.ts', '[[field, addressKey(value)]]', '[[field, value]]'],
    [LOG_TEST, '^an address is the same'],
  ),
  one(
    13,
    'the bound on what becomes kept at once',
    [LOG, 'while (this.#index.count.kept > kept ||', 'while (false &&'],
    [LOG_TEST, '^what becomes kept all at once'],
  ),
  one(
    13,
    "reading the archive's folder once for who lists it again and again",
    ['host/relay/archive.ts', 'this.#listed?.changed !== changed', 'this.#listed?.changed !== changed + 1n'],
    ['host/relay/archive.test.ts', '^who lists it again'],
  ),
  one(
    13,
    'the bound on connections of one address',
    [LIMITS, 'has >= perSource', 'has < 0'],
    [LIMITS_TEST, '^one address holds so many'],
  ),
  one(
    13,
    'the place for a newcomer when all are taken',
    [LIMITS, '!makeRoom(has)', 'makeRoom !== undefined'],
    [LIMITS_TEST, '^when all places are taken'],
  ),
  one(
    13,
    "the time to a connection's first byte",
    [LIMITS, 'if (socket.bytesRead === 0) socket.destroy();', ''],
    [LIMITS_TEST, '^a connection that says'],
  ),
];
