/**
 * A network with as many onboardings as one likes, on a chain that is a model in memory behind a JSON-RPC endpoint: its blocks, logs, views
 * and proofs are made up, and what an audit judges is real: quotes of simulated platforms, signatures, collateral, the storage's root.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { encodeRlp, getCreateAddress, keccak256 } from 'ethers';
import { StorageReplay } from '../../cli/audit/storage.ts';
import { encodeDeploy } from '../../contracts/bindings.ts';
import { networkInterface } from '../../contracts/interface.ts';
import { nameOf } from '../../host/relay/archive.ts';
import { parseQuote, quoteHash } from '../../lib/attestation/quote/quote.ts';
import { expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import { createSimulatedPlatform, type SimulatedPlatform } from '../../lib/attestation/simulated/platform.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { simulatedCase } from '../../lib/attestation/testing.ts';
import { fromHex, sha256, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { networkKey } from '../../lib/protocol/keys.ts';
import { configHash } from '../../lib/protocol/network-config.ts';
import { parseNetworkEvent } from '../../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  type BootstrapPackage,
  type RequestMessage,
  requestOf,
} from '../../lib/protocol/onboarding-messages.ts';
import { bootstrapReportData, registerReportData } from '../../lib/protocol/report-data.ts';
import { KEM_PUBLIC_KEY_BYTES } from '../../lib/protocol/sealing.ts';
import { addressOf, compact, sign } from '../../lib/protocol/secp256k1.ts';
import { signedDigest } from '../../lib/protocol/signed-messages.ts';
import { statusMask } from '../../lib/protocol/tcb-policy.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';

interface Log {
  readonly block: number;
  readonly index: number;
  readonly topics: string[];
  readonly data: string;
}

/** Changes an answer; undefined never answers. */
export type ModelledLie = (method: string, result: unknown, params: readonly unknown[]) => unknown;

const OWNER = `0x${'0a'.repeat(20)}`;
const SECRET = sha256(utf8('the secret of a modelled network'));
const GENESIS = 1_767_225_600;
const BLOCK_SECONDS = 12;
const quantity = (value: number): string => `0x${value.toString(16)}`;
const unsigned = { r: to0x(new Uint8Array(32)), vs: to0x(new Uint8Array(32)) };

export class ModelledChain {
  readonly domain: Domain;
  readonly url: string;
  /** Where its public files are. */
  readonly folder: string;
  /** Whether logs say when their block was made, as those of many endpoints do. */
  tellsTimes = true;
  lie: ModelledLie = (_, result) => result;
  /** Calls that it was asked, and how long each takes, milliseconds. */
  calls = 0;
  latency = 0;
  head = 0;
  /** From this block on, the blocks have other hashes. */
  reorganisedFrom = Number.POSITIVE_INFINITY;
  readonly #close: () => void;
  readonly #logs: Log[] = [];
  readonly #storage = new StorageReplay();
  readonly #answers = new Map<string, string>();
  readonly #platforms = new Map<number, SimulatedPlatform>();
  readonly #case = simulatedCase();
  readonly #key = networkKey(SECRET, 1).privateKey;
  #config = '';
  #onboarded = 0;
  #root: { head: number; storage: string; state: string; leaf: string } | undefined;

  private constructor(url: string, folder: string, close: () => void) {
    [this.url, this.folder, this.#close] = [url, folder, close];
    this.domain = { chainId: 31_337, contract: parseAddress(getCreateAddress({ from: OWNER, nonce: 0 })) };
    mkdirSync(folder, { recursive: true });
  }

  /** @param folder for its public files, created if missing */
  static async start(folder: string): Promise<ModelledChain> {
    const server = createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      const { id, method, params } = JSON.parse(body) as { id: number; method: string; params: unknown[] };
      chain.calls += 1;
      const result = chain.lie(method, chain.#answer(method, params), params);
      if (result === undefined) return;
      const reply =
        typeof result === 'string' && result.startsWith('{')
          ? result
          : JSON.stringify({ jsonrpc: '2.0', id, result });
      if (chain.latency > 0) setTimeout(() => response.end(reply), chain.latency);
      else response.end(reply);
    });
    server.keepAliveTimeout = 60_000;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const chain = new ModelledChain(url, folder, () => {
      server.closeAllConnections();
      server.close();
    });
    chain.#begin();
    return chain;
  }

  stop(): void {
    this.#close();
  }

  /** So many more nodes are let in, two blocks each. */
  grow(nodes: number): void {
    for (let n = 0; n < nodes; n += 1) this.#onboard();
  }

  timeOf(block: number): number {
    return GENESIS + block * BLOCK_SECONDS;
  }

  /** Of its logs, by their events' names. */
  topicOf(event: string): string {
    return networkInterface.getEvent(event)!.topicHash;
  }

  #begin(): void {
    const zero = `0x${'00'.repeat(20)}`;
    this.#emit(1, 'OwnershipTransferred', [zero, OWNER]);
    this.#emit(1, 'DelaySet', [0, this.timeOf(1)]);
    this.#emit(1, 'AcceptedTcbStatusesSet', [statusMask(['UpToDate']), this.timeOf(1)]);
    const json = { version: 1, ...this.domain, confirmation: { depth: 0 }, endpoints: [this.url] };
    const networkJson = JSON.stringify({ ...json, quorum: 1, minimumNodes: 1 });
    this.#config = toHex(configHash(utf8(networkJson)));
    writeFileSync(join(this.folder, `config-${this.#config}.json`), networkJson);
    this.#emit(2, 'MeasurementAllowed', [this.#measurement, this.timeOf(2)]);
    this.#emit(2, 'ConfigAllowed', [`0x${this.#config}`, this.timeOf(2)]);
    this.#emit(2, 'PlatformsOpened', [this.timeOf(2)]);
    const { platform, quote, id } = this.#quoted(0, (said) =>
      bootstrapReportData({ ...said, networkKey: addressOf(this.#key) }),
    );
    const unsignedPackage: BootstrapPackage = {
      type: 'bootstrap',
      ...this.domain,
      networkKey: addressOf(this.#key),
      measurement: fromMeasurement(this.#measurement),
      platform,
      ...quote,
      signature: unsigned,
      collateral: PUBLISHED_SIMULATED_COLLATERAL,
    };
    const signature = compact(sign(signedDigest(this.domain, unsignedPackage), this.#key));
    this.#keep({ ...unsignedPackage, signature });
    const { networkKey: key, config, quoteHash: hash, blockNumber, blockHash } = unsignedPackage;
    const values = [1, key, this.#measurement, `0x${config}`, id, `0x${hash}`, blockNumber, `0x${blockHash}`];
    const { inputs } = networkInterface.getEvent('Bootstrapped')!;
    const named: Record<string, unknown> = {
      epoch: values[0],
      networkKey: values[1],
      measurement: values[2],
      config: values[3],
      platform: values[4],
      quoteHash: values[5],
      blockNumber: values[6],
      blockHash: values[7],
    };
    this.#emit(
      3,
      'Bootstrapped',
      inputs.map(({ name }) => named[name]),
    );
  }

  #onboard(): void {
    this.#onboarded += 1;
    const n = this.#onboarded;
    const nodeKey = sha256(utf8(`node ${n}`));
    const node = addressOf(nodeKey);
    const kemPublicKey = new Uint8Array(KEM_PUBLIC_KEY_BYTES).fill(n % 251);
    const { platform, quote, id } = this.#quoted(n, (said) =>
      registerReportData({ ...said, node, kemPublicKey }),
    );
    const request: RequestMessage = {
      type: 'request',
      ...this.domain,
      node,
      kemPublicKey: toHex(kemPublicKey),
      ...quote,
      signature: unsigned,
      collateral: PUBLISHED_SIMULATED_COLLATERAL,
    };
    this.#keep({ ...request, signature: compact(sign(signedDigest(this.domain, request), nodeKey)) });
    const requestHash = toHex(requestOf(request).hash);
    const answer: AnswerMessage = {
      type: 'answer',
      ...this.domain,
      node,
      requestHash,
      answerHash: toHex(sha256(utf8(`sealed ${n}`))),
      measurement: fromMeasurement(this.#measurement),
      config: request.config,
      platform,
      signature: unsigned,
    };
    this.#keep({ ...answer, signature: compact(sign(signedDigest(this.domain, answer), this.#key)) });
    this.#answers.set(requestHash, `0x${answer.answerHash.slice(0, 62)}00`);
    this.#emit(this.head + 1, 'Registered', [`0x${requestHash}`, node]);
    this.#emit(this.head + 1, 'Onboarded', [`0x${requestHash}`, this.#measurement, id]);
    this.#storage.answered(`0x${requestHash}`, this.#answers.get(requestHash)!);
  }

  get #measurement(): string {
    return to0x(measurementOf(this.#case.registers));
  }

  /** A quote over the newest block. A platform has eight nodes. */
  #quoted(
    n: number,
    reportData: (said: Domain & { epoch: number; config: Uint8Array; blockHash: Uint8Array }) => Uint8Array,
  ) {
    const of = n >> 3;
    const ppid = Buffer.alloc(16);
    ppid.writeUInt32BE(of + 1);
    const platform = this.#platforms.get(of) ?? createSimulatedPlatform({ ppid });
    this.#platforms.set(of, platform);
    const config = fromHex(this.#config, 32);
    const blockHash = fromHex(this.#hashOf(this.head).slice(2), 32);
    const rtmr3 = replay(expectedRequestLog('sim', config));
    const bytes = platform.signQuote({
      registers: { ...this.#case.registers, rtmr3 },
      reportData: reportData({ ...this.domain, epoch: 1, config, blockHash }),
    });
    const quote = {
      config: toHex(config),
      epoch: 1,
      blockNumber: this.head,
      blockHash: toHex(blockHash),
      quote: toHex(bytes),
      quoteHash: toHex(quoteHash(parseQuote(bytes))),
    };
    return { quote, platform: toHex(platform.platformId), id: to0x(platform.platformId) };
  }

  #keep(message: RequestMessage | AnswerMessage | BootstrapPackage): void {
    writeFileSync(join(this.folder, nameOf(message)), JSON.stringify(message));
  }

  #emit(block: number, name: string, values: readonly unknown[]): void {
    const { topics, data } = networkInterface.encodeEventLog(name, values);
    this.head = block;
    const index = this.#logs.length;
    this.#logs.push({ block, index, topics, data });
    const event = parseNetworkEvent({ topics, data })!;
    const transaction = to0x(new Uint8Array(32));
    const place = { block, index, time: this.timeOf(block), transaction };
    this.#storage.take({ ...place, event, topics: topics as never, data });
  }

  #hashOf(block: number): string {
    return to0x(sha256(utf8(`block ${block}${block >= this.reorganisedFrom ? ' again' : ''}`)));
  }

  /** A state of this contract alone. */
  #state() {
    if (this.#root?.head === this.head) return this.#root;
    const storage = this.#storage.root();
    const account = encodeRlp(['0x01', '0x', storage, keccak256('0x00')]);
    const leaf = encodeRlp([`0x20${keccak256(this.domain.contract).slice(2)}`, account]);
    this.#root = { head: this.head, storage, state: keccak256(leaf), leaf };
    return this.#root;
  }

  #answer(method: string, params: readonly unknown[]): unknown {
    switch (method) {
      case 'eth_chainId':
        return quantity(this.domain.chainId);
      case 'eth_getBlockByNumber': {
        const [which] = params as [string];
        const number = which.startsWith('0x') ? Number(which) : this.head;
        if (number > this.head) return null;
        const timestamp = quantity(this.timeOf(number));
        return {
          number: quantity(number),
          hash: this.#hashOf(number),
          timestamp,
          stateRoot: this.#state().state,
        };
      }
      case 'eth_getLogs': {
        const [{ fromBlock, toBlock }] = params as [{ fromBlock: string; toBlock: string }];
        const isAsked = ({ block }: Log) => block >= Number(fromBlock) && block <= Number(toBlock);
        return this.#logs.filter(isAsked).map(({ block, index, topics, data }) => ({
          address: this.domain.contract,
          topics,
          data,
          blockNumber: quantity(block),
          blockHash: this.#hashOf(block),
          transactionHash: to0x(sha256(utf8(`transaction ${index}`))),
          logIndex: quantity(index),
          ...(this.tellsTimes && { blockTimestamp: quantity(this.timeOf(block)) }),
        }));
      }
      case 'eth_getTransactionByHash': {
        const input = encodeDeploy({ owner: parseAddress(OWNER), delay: 0, requestWindow: 50 });
        return { from: OWNER, to: null, nonce: '0x0', input };
      }
      case 'eth_getProof':
        return { accountProof: [this.#state().leaf], storageProof: [] };
      case 'eth_call':
        return this.#view((params[0] as { data: string }).data);
      default:
        return null;
    }
  }

  #view(data: string): string {
    const { name, args } = networkInterface.parseTransaction({ data })!;
    const statuses = statusMask(['UpToDate']);
    const from = this.timeOf(1);
    const results: Record<string, () => readonly unknown[]> = {
      network: () => [[addressOf(this.#key), 1, this.#onboarded > 0, 0, 50, true]],
      tcbPolicy: () => [0, statuses, 0],
      nextTcbPolicy: () => {
        const values: Record<string, unknown> = { statuses, statusesFrom: from };
        return networkInterface
          .getFunction('nextTcbPolicy')!
          .outputs.map((output) => values[output.name] ?? 0);
      },
      nextDelay: () => [0, 0],
      platformsOpenFrom: () => [this.timeOf(2)],
      deniedFmspcs: () => [[]],
      isAllowed: () => [true, true, true],
      measurementAllowedFrom: () => [this.timeOf(2)],
      configAllowedFrom: () => [this.timeOf(2)],
      appsAfter: () => [[], 0],
      requestsByHash: () => [
        [...(args[0] as string[])].map((hash) => {
          const answer = this.#answers.get(hash.slice(2));
          const none = `0x${'00'.repeat(32)}`;
          return [answer === undefined ? 0 : 2, `0x${'00'.repeat(20)}`, 0, 0, 0, answer ?? none];
        }),
      ],
    };
    return networkInterface.encodeFunctionResult(name, results[name]!());
  }
}

const fromMeasurement = (hex: string) => toHex(fromHex(hex.slice(2), 32));
