/** Point 13: messages between relays. */
import { type Mutation, one } from '../mutation.ts';

const gossip = 'test/trust/gossip.test.ts';
const HTTP_GOSSIP = 'host/gossip/http-gossip.ts';

export const gossipRules: readonly Mutation[] = [
  // 13: one bad gossip message killed the relay; late subscribers never saw a request
  one(
    13,
    'dropping one message instead of the batch',
    [
      HTTP_GOSSIP,
      '      if (error instanceof Retryable) throw error;\n      return false;',
      '      throw error;',
    ],
    [gossip, '^13: a peer’s bad'],
  ),
  one(
    13,
    'the schema of a message',
    [
      HTTP_GOSSIP,
      "check(GossipMessageSchema, value, 'GOSSIP_MALFORMED', 'a gossip message')",
      'value as GossipMessage',
    ],
    [gossip, '^13: bad messages'],
  ),
  one(
    13,
    'the backlog for who polls late',
    [
      HTTP_GOSSIP,
      'const batch = this.log.after(after, BATCH);',
      'const batch = this.log.after(this.log.last, BATCH);',
    ],
    [gossip, '^13: a relay that starts'],
  ),
  one(
    13,
    'the backlog for who subscribes late',
    [HTTP_GOSSIP, '      batch.length > 0;\n', '      false;\n'],
    ['host/gossip/http-gossip.test.ts', '^a late subscriber'],
  ),
];
