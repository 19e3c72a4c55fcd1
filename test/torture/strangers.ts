/** What strangers do to the relays of a round: to each of them, from one address or from many. */
import type { Socket } from 'node:net';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { addressKey } from '../../lib/protocol/hex.ts';
import { registerCall } from '../../lib/protocol/onboarding-calls.ts';
import type { RequestMessage } from '../../lib/protocol/onboarding-messages.ts';
import { newKemKeyPair } from '../../lib/protocol/sealing.ts';
import { forgedCopy, requestOver, spoiledCopy } from '../support/guest.ts';
import { hold, pushFrom, requestsAt, strangersAddress } from '../support/strangers.ts';
import type { Arena } from './arena.ts';

/** Keeps on until the arena calms down; `end` lets go of what is still held. */
export function strangers(arena: Arena): { end(): void } {
  const held: Socket[] = [];
  arena.trouble([20, 200], () => copies(arena));
  arena.trouble([50, 500], () => flood(arena));
  arena.trouble([200, 1_000], () => unpublished(arena));
  arena.trouble([300, 2_000], () => holding(arena, held));
  return {
    end() {
      for (const socket of held) socket.destroy();
    },
  };
}

/** The n-th time that anyone copied something: no two copies are alike. */
let copied = 0;

/** Copies of whatever request a relay shows, its quote's signature spoiled or by another platform, to all relays. */
async function copies(arena: Arena): Promise<void> {
  const { random } = arena;
  const urls = arena.hosts.map(({ relay }) => relay.gossipUrl);
  const found = await requestsAt(random.pick(urls));
  if (found.length === 0) return;
  const genuine = random.pick(found);
  const forge = random.chance(0.5) ? forgedCopy : spoiledCopy;
  const address = random.chance(0.5) ? 0 : random.between(0, 199);
  for (let n = 0; n < 4; n += 1) {
    copied += 1;
    await toAll(arena, forge(genuine, copied), strangersAddress(address));
  }
}

/** Valid requests that nobody will ever register. */
async function flood(arena: Arena): Promise<void> {
  const address = strangersAddress(arena.random.chance(0.7) ? 0 : arena.random.between(0, 199));
  for (let n = 0; n < 5; n += 1) await toAll(arena, await someRequest(arena), address);
}

/** Requests that are registered, and never published. */
async function unpublished(arena: Arena): Promise<void> {
  const [from] = await arena.rpc<string[]>('eth_accounts').then((accounts) => accounts.slice(-1));
  for (let n = 0; n < 3; n += 1) {
    const data = registerCall(await someRequest(arena));
    const transaction = { from, to: arena.network.contract, data, gas: '0x30d40' };
    await arena.rpc('eth_sendTransaction', transaction).catch(() => {});
    arena.counts.strangers += 1;
  }
}

async function holding(arena: Arena, held: Socket[]): Promise<void> {
  const { relay } = arena.random.pick(arena.hosts);
  held.push(...hold(strangersAddress(arena.random.between(0, 1)), relay.gossipUrl, 60));
  arena.counts.strangers += 60;
}

async function toAll(arena: Arena, message: RequestMessage, address: string): Promise<void> {
  await Promise.all(arena.hosts.map(({ relay }) => pushFrom(address, relay.gossipUrl, message)));
  arena.counts.strangers += arena.hosts.length;
}

const kem = newKemKeyPair();
async function someRequest(arena: Arena): Promise<RequestMessage> {
  type Block = { number: string; hash: string };
  const { number, hash } = await arena.rpc<Block>('eth_getBlockByNumber', 'latest', false);
  const { domain } = arena.network;
  const block = { number: Number(number), hash: fromHex(hash, 32) };
  return requestOver({ ...domain, contract: addressKey(domain.contract) }, block, (await kem).publicKey);
}
