/** What the enclave does about a ping. */
import { type Answering, abi, type Decoded, type Enclave, Refusal, Type } from 'dstack/framework';

const Ping = abi.struct({ text: abi.text });
const Pong = abi.struct({ text: abi.text });

export const ping: Answering<Enclave, Decoded<typeof Ping>, Decoded<typeof Pong>> = {
  request: Ping,
  response: Pong,
  async handle({ store }, { text }, { sequence, seed }) {
    // For good: the contract gets this code in place of a response.
    if (text.length > 200) throw new Refusal('TOO_LONG', 'a ping has up to 200 characters');
    // Asked twice, it says the same: the order, and that each is settled once, is the contract's.
    await store.numbers('pings', Type.String()).set(sequence, text);
    return { text: `pong ${sequence}: ${text} (${Buffer.from(seed).toString('hex').slice(0, 8)})` };
  },
};
