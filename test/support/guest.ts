/**
 * What the host's tests share: guests that are small HTTP servers and serve the node port with real keys, seals, signatures and
 * simulated quotes, on a real contract on a real anvil.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CONFIG, MEASUREMENT, PLATFORM, TestNetwork } from '../../contracts/fixture.ts';
import { Chain } from '../../contracts/local-chain.ts';
import { parseQuote, quoteHash } from '../../lib/attestation/quote/quote.ts';
import { createSimulatedPlatform, SIMULATED_FMSPC } from '../../lib/attestation/simulated/platform.ts';
import { requireTd } from '../../lib/attestation/verify.ts';
import type { AppsStatus } from '../../lib/protocol/app-status.ts';
import { type CollateralMessage, CollateralSchema } from '../../lib/protocol/collateral.ts';
import { fromHex, sha256, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import { encodeBootstrap } from '../../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  type BootstrapPackage,
  type NodeStatus,
  nodePaths,
  type RequestMessage,
  RequestMessageSchema,
  requestOf,
  type SealedMessage,
  SealedMessageSchema,
} from '../../lib/protocol/onboarding-messages.ts';
import { registerReportData } from '../../lib/protocol/report-data.ts';
import { check } from '../../lib/protocol/schema.ts';
import { type KemKeyPair, newKemKeyPair, seal } from '../../lib/protocol/sealing.ts';
import { addressOf, compact, newPrivateKey, sign } from '../../lib/protocol/secp256k1.ts';
import { bootstrapDigest, type Domain, onboardDigest, requestDigest } from '../../lib/protocol/typed-data.ts';

export const SECRET = sha256(new TextEncoder().encode('the network secret of a test'));
const QUOTE = sha256(new TextEncoder().encode('a quote'));
const IDS = { measurement: MEASUREMENT, config: CONFIG, platform: PLATFORM };
const HEX_IDS = { measurement: toHex(MEASUREMENT), config: toHex(CONFIG), platform: toHex(PLATFORM) };

export { Chain, TestNetwork };

/** A network whose key is that of SECRET. */
export async function bootstrappedNetwork(chain: Chain, requestWindow: number): Promise<TestNetwork> {
  // Setting up needs six blocks, whose times do not matter.
  await chain.rpc('evm_setAutomine', true);
  const network = await TestNetwork.deploy(chain, { requestWindow });
  await network.allowAll();
  const args = await network.bootstrapArgs({ key: networkKey(SECRET, 1).privateKey });
  await network.asOwner(encodeBootstrap(args));
  await chain.rpc('evm_setIntervalMining', 1);
  return network;
}

/** A request as a node with this key would make it, over the newest block. */
export async function newRequest(
  network: TestNetwork,
  kemPublicKey: Uint8Array,
  nodeKey = newPrivateKey(),
): Promise<RequestMessage> {
  const { number, hash } = await network.chain.head();
  return requestOver(network.domain, { number, hash }, kemPublicKey, { nodeKey });
}

/** A request over any block, in any epoch. */
export function requestOver(
  domain: Domain,
  block: { number: number; hash: Uint8Array },
  kemPublicKey: Uint8Array,
  { nodeKey = newPrivateKey(), epoch = 1 } = {},
): RequestMessage {
  const said = { ...domain, node: addressOf(nodeKey), epoch };
  const reportData = registerReportData({ ...said, kemPublicKey, config: CONFIG, blockHash: block.hash });
  const quote = platform.signQuote({ registers, reportData });
  const unsigned: RequestMessage = {
    type: 'request',
    ...said,
    kemPublicKey: toHex(kemPublicKey),
    config: toHex(CONFIG),
    blockNumber: block.number,
    blockHash: toHex(block.hash),
    quote: toHex(quote),
    quoteHash: toHex(quoteHash(parseQuote(quote))),
    signature: { r: to0x(new Uint8Array(32)), vs: to0x(new Uint8Array(32)) },
  };
  const digest = requestDigest(domain, requestOf(unsigned).hash);
  return { ...unsigned, signature: compact(sign(digest, nodeKey)) };
}

/** Another copy of a request: its hash and its node's signature hold, the quote's own signature does not. */
export function spoiledCopy(request: RequestMessage, nth = 0): RequestMessage {
  const bytes = fromHex(request.quote);
  // The signature follows the signed bytes and the length of what comes after them.
  const at = parseQuote(bytes).signedBytes.length + 4 + (nth % 64);
  bytes[at] = bytes[at]! ^ (1 + (nth >> 6));
  return { ...request, quote: toHex(bytes) };
}

/**
 * A copy that passes for genuine wherever the simulated platform does, since anyone may sign for that: the same contents, signed
 * with another platform's keys. Only a verifier that knows the network's list refuses it.
 */
export function forgedCopy(request: RequestMessage, nth: number): RequestMessage {
  const said = requireTd(parseQuote(fromHex(request.quote)));
  const ppid = sha256(utf8(`forger ${nth}`)).slice(0, 16);
  const { tdAttributes, reportData } = said;
  const forged = createSimulatedPlatform({ ppid }).signQuote({ registers: said, reportData, tdAttributes });
  return { ...request, quote: toHex(forged) };
}

const platform = createSimulatedPlatform({ ppid: new Uint8Array(16).fill(7) });
const registers = {
  mrtd: new Uint8Array(48).fill(1),
  rtmr0: new Uint8Array(48).fill(2),
  rtmr1: new Uint8Array(48).fill(3),
  rtmr2: new Uint8Array(48).fill(4),
  rtmr3: new Uint8Array(48).fill(5),
};

/** The secret, sealed to a request: the same bytes each time. */
export async function newSealed(domain: Domain, request: RequestMessage): Promise<SealedMessage> {
  const { hash } = requestOf(request);
  const sealed = await seal(SECRET, request.epoch, fromHex(request.kemPublicKey), hash);
  return { type: 'sealed', ...domain, requestHash: toHex(hash), sealed: toHex(sealed) };
}

/** The answer to a request, which names the sealed secret by its hash; by the network's key, or by another one. */
export async function newAnswer(
  domain: Domain,
  request: RequestMessage,
  key: Uint8Array = networkKey(SECRET, 1).privateKey,
): Promise<AnswerMessage> {
  const { hash } = requestOf(request);
  const { sealed } = await newSealed(domain, request);
  const digest = onboardDigest(domain, {
    ...IDS,
    node: request.node,
    requestHash: hash,
    answerHash: sha256(fromHex(sealed)),
  });
  return {
    type: 'answer',
    chainId: domain.chainId,
    contract: domain.contract,
    node: request.node,
    requestHash: toHex(hash),
    answerHash: toHex(sha256(fromHex(sealed))),
    ...HEX_IDS,
    signature: compact(sign(digest, key)),
  };
}

/** A guest as its relay sees it. It keeps what it was asked, for the tests to look at. */
export class TestGuest {
  readonly asked: string[] = [];
  state: NodeStatus['state'];
  url = '';
  secret: Uint8Array | undefined;
  collateral: CollateralMessage | undefined;
  /** What it says of its apps; an error: why it does not. */
  apps: AppsStatus | Error = new DstackError('NO_ROUTE', nodePaths.apps);
  /** Set to have an onboard refused, or answered with something else. */
  onboards: (request: RequestMessage) => Promise<unknown>;
  readonly #network: TestNetwork;
  readonly #server: Server;
  #kem: KemKeyPair | undefined;
  #request: RequestMessage | undefined;

  private constructor(network: TestNetwork, state: NodeStatus['state']) {
    this.#network = network;
    this.state = state;
    this.onboards = (request) => newAnswer(network.domain, request);
    this.#server = createServer((req, res) => {
      const chunks: Buffer[] = [];
      req.on('data', (chunk: Buffer) => chunks.push(chunk));
      req.on('end', () => {
        this.#answer(
          req.url ?? '',
          chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString()),
        ).then(
          (value) => res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value)),
          (error: Error) =>
            res
              .writeHead(400, { 'content-type': 'application/json' })
              .end(JSON.stringify({ code: codeOf(error), message: error.message })),
        );
      });
    });
  }

  static async start(
    network: TestNetwork,
    state: 'joined' | 'requesting' | 'bootstrapping',
  ): Promise<TestGuest> {
    const guest = new TestGuest(network, state);
    await new Promise<void>((resolve) => guest.#server.listen(0, '127.0.0.1', resolve));
    guest.url = `http://127.0.0.1:${(guest.#server.address() as AddressInfo).port}`;
    return guest;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(path: string, body: unknown): Promise<unknown> {
    this.asked.push(path);
    switch (path) {
      case nodePaths.status:
        return this.#status();
      case nodePaths.request:
        return this.#openRequest();
      case nodePaths.answer:
        return this.#open(check(SealedMessageSchema, body, 'ANSWER_MALFORMED', 'the answer'));
      case nodePaths.onboard:
        return this.onboards(check(RequestMessageSchema, body, 'REQUEST_MALFORMED', 'the request'));
      case nodePaths.sealed:
        return this.#sealed(check(RequestMessageSchema, body, 'REQUEST_MALFORMED', 'the request'));
      case nodePaths.collateral:
        if (body === undefined) return { tee: 'tdx', fmspc: toHex(SIMULATED_FMSPC), ca: 'platform' };
        this.collateral = check(CollateralSchema, body, 'MESSAGE_MALFORMED', 'the collateral');
        return {};
      case nodePaths.apps:
        if (this.apps instanceof Error) throw this.apps;
        return this.apps;
      case nodePaths.bootstrap:
        return this.#bootstrapPackage();
      default:
        throw new DstackError('NO_ROUTE', path);
    }
  }

  #status(): NodeStatus {
    return {
      state: this.state,
      flavour: 'sim',
      chainId: this.#network.domain.chainId,
      contract: this.#network.address,
      config: toHex(CONFIG),
      epoch: 1,
    };
  }

  async #openRequest(): Promise<RequestMessage> {
    if (this.#request !== undefined) {
      const { state } = await this.#network.request(to0x(requestOf(this.#request).hash));
      if (state === 'expired') this.#request = undefined;
    }
    this.#kem ??= await newKemKeyPair();
    this.#request ??= await newRequest(this.#network, this.#kem.publicKey);
    return this.#request;
  }

  /** Like a real node, it gives out only what the contract shows. */
  async #sealed(request: RequestMessage): Promise<SealedMessage> {
    const message = await newSealed(this.#network.domain, request);
    await this.#requireOnChain(message);
    return message;
  }

  async #requireOnChain({ requestHash, sealed }: SealedMessage): Promise<void> {
    const { state, answerHash } = await this.#network.request(`0x${requestHash}`);
    const hash = to0x(sha256(fromHex(sealed)));
    if (state !== 'answered' || hash.slice(0, 64) !== answerHash.slice(0, 64)) {
      throw new DstackError('ANSWER_NOT_ON_CHAIN', 'the contract shows another answer');
    }
  }

  /** Likewise it opens only that. */
  async #open(answer: SealedMessage): Promise<NodeStatus> {
    await this.#requireOnChain(answer);
    this.secret = await this.#kem!.open(fromHex(answer.sealed), fromHex(answer.requestHash));
    this.state = 'joined';
    return this.#status();
  }

  async #bootstrapPackage(): Promise<BootstrapPackage> {
    const { privateKey, address } = networkKey(SECRET, 1);
    const block = await this.#network.chain.head();
    const typed = {
      ...IDS,
      networkKey: address,
      quoteHash: sha256(QUOTE),
      blockNumber: block.number,
      blockHash: block.hash,
      epoch: 1,
    };
    return {
      type: 'bootstrap',
      chainId: this.#network.domain.chainId,
      contract: this.#network.address,
      networkKey: address,
      ...HEX_IDS,
      epoch: 1,
      blockNumber: block.number,
      blockHash: toHex(block.hash),
      quote: toHex(QUOTE),
      quoteHash: toHex(sha256(QUOTE)),
      signature: compact(sign(bootstrapDigest(this.#network.domain, typed), privateKey)),
    };
  }
}
