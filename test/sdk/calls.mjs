/**
 * Every call of @phala/dstack-sdk 0.5.8, as an app makes them: the client as it is on npm, on the socket that is the first argument, or where
 * it looks by itself. Prints one line of JSON: what each call resolved to, or why it was rejected.
 */
import { DstackClient, getComposeHash, TappdClient } from '@phala/dstack-sdk';

const [socket, older] = process.argv.slice(2);
// What it says of its own age is not the test's.
console.warn = () => {};
const client = socket === undefined ? new DstackClient() : new DstackClient(socket);
const tappd = older === undefined ? new TappdClient() : new TappdClient(older);
const digest = new Uint8Array(32).fill(7);

const hex = (value) => {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(hex);
  return value;
};
const plain = (value) =>
  Object.fromEntries(Object.entries(value ?? {}).map(([name, part]) => [name, hex(part)]));

/** The client waits for half a second, in which a machine that is busy may do nothing at all. */
const inTheEnd = async (one) => {
  for (let attempt = 0; attempt < 20; attempt += 1) if (await one.isReachable()) return true;
  return false;
};

const calls = {
  getKey: () => client.getKey('wallet/ethereum', 'eth'),
  getKeyOther: () => client.getKey('wallet/ethereum', 'other'),
  getKeyEd25519: () => client.getKey('wallet/ethereum', 'eth', 'ed25519'),
  getKeyEmpty: () => client.getKey(),
  getTlsKey: () => client.getTlsKey({ subject: 'api.example', altNames: ['api.example', '10.0.0.1'] }),
  getTlsKeyAll: () =>
    client.getTlsKey({
      ...{ subject: 'api.example', usageRaTls: true, usageServerAuth: true, usageClientAuth: true },
      ...{ notBefore: 1_700_000_000, notAfter: 1_900_000_000, withAppInfo: true },
    }),
  getQuote: async () => {
    const quote = await client.getQuote('user:alice:nonce123');
    return { ...quote, replayRtmrs: quote.replayRtmrs() };
  },
  attest: () => client.attest('app-state-snapshot'),
  info: async () => {
    const info = await client.info();
    return { ...info, composeHash: getComposeHash(JSON.parse(info.tcb_info.app_compose)) };
  },
  version: () => client.version(),
  isReachable: async () => ({ reachable: await inTheEnd(client) }),
  emitEvent: async () => {
    await client.emitEvent('config_loaded', 'v1.0.0');
    return { emitted: true };
  },
  sign: () => client.sign('secp256k1', 'hello dstack'),
  signEd25519: () => client.sign('ed25519', 'hello dstack'),
  signPrehashed: () => client.sign('secp256k1_prehashed', digest),
  verify: async () => {
    const { signature, public_key } = await client.sign('ed25519', 'hello dstack');
    const right = await client.verify('ed25519', 'hello dstack', signature, public_key);
    const wrong = await client.verify('ed25519', 'hello another', signature, public_key);
    return { right: right.valid, wrong: wrong.valid };
  },
  deriveKey: () => tappd.deriveKey('/', 'old', ['old.example']),
  deriveKeyAgain: () => tappd.deriveKey('/', 'old'),
  deriveKeyOther: () => tappd.deriveKey('/other', 'old'),
  tdxQuote: async () => {
    const quote = await tappd.tdxQuote('some data', 'raw');
    return { ...quote, replayRtmrs: quote.replayRtmrs() };
  },
  tdxQuoteHashed: () => tappd.tdxQuote('some data'),
  tappdReachable: async () => ({ reachable: await inTheEnd(tappd) }),
};

const results = {};
for (const [name, call] of Object.entries(calls)) {
  const started = performance.now();
  try {
    results[name] = plain(await call());
  } catch (error) {
    results[name] = { rejected: error.message };
  }
  results[name].milliseconds = Math.round(performance.now() - started);
}
process.stdout.write(`${JSON.stringify(results)}\n`);
