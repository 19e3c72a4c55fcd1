/**
 * Plays one sequence on the chain and on the model in parallel, block by block, and compares everything that they show: each
 * call's events or refusal, then every view. watch.ts checks its invariants meanwhile.
 */
import { DstackError, hasCode } from '../../lib/protocol/errors.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import * as contract from '../../lib/protocol/network-contract.ts';
import { encodeDeploy, networkBytecode } from '../bindings.ts';
import type { FuzzChain, MinedBlock, MinedTransaction, RpcCall } from './chain.ts';
import { type BlockContext, type DeployArgs, NetworkModel, ZERO_ADDRESS, ZERO_WORD } from './model.ts';
import type { Named, Outcome } from './refusal.ts';
import { type Choice, headStartSteps, type Sequence, type Step, type Wait } from './sequence.ts';
import type { FuzzStatistics } from './statistics.ts';
import { FMSPCS } from './tcb-choices.ts';
import { type Arguments, decoded, encoded, type View, view } from './views.ts';
import { type Accepted, InvariantBroken, type Shown, Watch } from './watch.ts';
import { type Accounts, type Call, CONFIGS, MEASUREMENTS, PLATFORMS, World } from './world.ts';

const DEPLOY_GAS = 12_000_000;
const CALL_GAS = 2_000_000;
/** As many calls as fit the gas of a block. */
const CALLS_A_BLOCK = 12;
/** Requests that are read after each block; older ones take turns. */
const REQUESTS_SHOWN = 8;
/** Since when each value is allowed is read after every third block; whether it is allowed, after each. */
const FROM_VIEWS_EVERY = 3;
/** The most blocks that a wait mines, because mining is slow. */
const LONGEST_WAIT = 320;
const OTHER_CHAIN_ID = 31_338;
const YEAR = 365 * 86_400;

/** What to fuzz, and who is told about it. */
export interface RunOptions {
  /** Creation code, `0x` hex; the committed one unless told. */
  readonly bytecode?: string;
  readonly statistics?: FuzzStatistics;
  readonly observe?: Observe;
}

/** Called after each block, to trace what is new in it, with the names of its calls (or `deploy`) and the views read after it. */
export type Observe = (
  block: MinedBlock,
  names: readonly string[],
  views: readonly { readonly to: string; readonly data: string }[],
) => Promise<void>;

/** The contract and the model differ. */
class Mismatch extends Error {}

interface Expected {
  readonly name: string;
  readonly call: Call;
  readonly outcome: Outcome;
}

/** @returns what the contract did wrong, followed by all calls up to there; undefined if nothing was wrong */
export async function runSequence(
  chain: FuzzChain,
  sequence: Sequence,
  options: RunOptions = {},
): Promise<string | undefined> {
  const run = new SequenceRun(chain, sequence, options);
  try {
    await run.deploy();
    for (const step of [...headStartSteps(sequence.headStart), ...sequence.steps]) await run.step(step);
  } catch (error) {
    if (!(error instanceof Mismatch || error instanceof InvariantBroken || isUndecodable(error))) throw error;
    return [error.message, ...run.story].join('\n');
  }
  options.statistics?.sequenceEnded();
  return undefined;
}

/** An answer that does not even have the ABI's form is a failure of the contract too. */
function isUndecodable(error: unknown): error is DstackError {
  return hasCode(error, 'CONTRACT_DATA_INVALID');
}

class SequenceRun {
  readonly story: string[] = [];
  readonly #chain: FuzzChain;
  readonly #sequence: Sequence;
  readonly #options: RunOptions;
  #world!: World;
  #watch!: Watch;
  #blocks = 0;

  constructor(chain: FuzzChain, sequence: Sequence, options: RunOptions) {
    this.#chain = chain;
    this.#sequence = sequence;
    this.#options = options;
  }

  // --------------------------------------------------------------- deploying

  async deploy(): Promise<void> {
    const { delay, requestWindow, refused } = this.#sequence.deploy;
    await this.#chain.reset();
    const accounts = await accountsOn(this.#chain);
    const good = { owner: accounts.owner, delay, requestWindow };
    const bad: Partial<DeployArgs> | undefined = {
      nothing: undefined,
      'no owner': { owner: ZERO_ADDRESS },
      'no window': { requestWindow: 0 },
      'long delay': { delay: YEAR + 1 },
    }[refused];
    if (bad) await this.#deploy({ ...good, ...bad }, accounts);
    const { address, model } = await this.#deploy(good, accounts);
    if (!model || !address) throw new Mismatch('a valid deployment was refused');
    this.#world = new World(model, accounts, address);
    this.#watch = new Watch(good.owner, delay, requestWindow);
  }

  async #deploy(
    args: DeployArgs,
    accounts: Accounts,
  ): Promise<{ address: string | undefined; model: NetworkModel | undefined }> {
    const data =
      (this.#options.bytecode ?? networkBytecode) + encodeDeploy(args).slice(networkBytecode.length);
    await this.#chain.send({ from: accounts.relay, to: undefined, data, gas: DEPLOY_GAS });
    const { block } = await this.#chain.mine(this.#chain.head.time + 1, []);
    const transaction = block.transactions[0]!;
    const address = transaction.contractAddress?.toLowerCase();
    const domain = { chainId: this.#chain.chainId, contract: parseAddress(address ?? ZERO_ADDRESS) };
    const { outcome, model } = NetworkModel.deploy(args, domain, this.#context(block));
    this.story.push(`deploy ${JSON.stringify(args)}`);
    const found = outcomeOf(transaction, address);
    if ('refused' in found && found.refused === 'bare') {
      // Otherwise every mutant would be noticed for unrelated reasons: too little gas, too much code.
      throw new DstackError('FUZZ_DEPLOY', 'the code to be fuzzed cannot be deployed at all');
    }
    this.#same('deploy', found, outcome);
    this.#options.statistics?.call('deploy', outcome, transaction.gasUsed);
    await this.#options.observe?.(block, ['deploy'], []);
    return { address, model };
  }

  // ------------------------------------------------------------------- steps

  async step(step: Step): Promise<void> {
    const next = await this.#wait(step.wait);
    const context = this.#context(next);
    const expected: Expected[] = [];
    const attested: Choice[] = [];
    for (const choice of step.calls) {
      if (choice.kind === 'attest') attested.push(choice);
      // One after the other, since a call may depend on the one before it in the same block.
      for (const call of this.#world.calls(choice, context)) {
        if (expected.length < CALLS_A_BLOCK) expected.push(await this.#send(call, context));
      }
    }
    const views = this.#views(next, attested);
    const calls = views.map(({ data }): RpcCall => {
      return ['eth_call', { to: this.#world.address, data }, 'latest'];
    });
    const { block, answers } = await this.#chain.mine(next.time, calls);
    this.#compareCalls(block, next, expected);
    const shown = this.#compareViews(views, answers as string[]);
    this.#watch.block(block.number, block.time, acceptedOf(block, expected, this.#world.address), shown);
    await this.#options.observe?.(
      block,
      expected.map(({ name }) => name),
      views.map(({ data }) => ({ to: this.#world.address, data })),
    );
    this.#blocks += 1;
  }

  async #wait(wait: Wait): Promise<{ readonly number: number; readonly time: number }> {
    const { model } = this.#world;
    const head = this.#chain.head;
    let [empty, time] = [0, head.time + 1];
    if (wait.until === 'seconds') time = head.time + wait.seconds;
    if (wait.until === 'blocks') empty = wait.blocks - 1;
    if (wait.until === 'effect') {
      const pending = pendingTimes(model).filter((at) => at + wait.offset > head.time);
      if (pending.length > 0) time = pending[wait.pick % pending.length]! + wait.offset;
    }
    if (wait.until === 'expiry') {
      const open = [...model.requests.values()].filter((request) => 'block' in request);
      const last = open.length > 0 ? open[wait.pick % open.length]!.block + model.requestWindow : 0;
      empty = Math.min(LONGEST_WAIT, Math.max(0, last + wait.offset - head.number - 1));
    }
    if (wait.until === 'fork') {
      await this.#chain.fork(OTHER_CHAIN_ID);
      model.domain = { ...model.domain, chainId: OTHER_CHAIN_ID };
    }
    await this.#chain.mineEmpty(empty);
    const next = { number: this.#chain.head.number + 1, time: Math.max(time, this.#chain.head.time + 1) };
    this.story.push(`block ${next.number} at ${next.time} (${JSON.stringify(wait)})`);
    return next;
  }

  async #send(call: Call, context: BlockContext): Promise<Expected> {
    const { operation, from } = call;
    const { model, address } = this.#world;
    const outcome = model.apply(operation, from, context);
    const isMalformed = operation.name === 'malformed';
    await this.#chain.send({
      from,
      to: address,
      data: isMalformed ? operation.args.data : encoded(operation.name, operation.args as Arguments),
      value: isMalformed ? operation.args.value : 0n,
      gas: CALL_GAS,
    });
    const registered = 'accepted' in outcome ? outcome.accepted[0] : undefined;
    this.#world.remember(
      call,
      registered?.name === 'Registered' ? String(registered.requestHash) : undefined,
    );
    this.story.push(
      `  ${nameOf(from, this.#world)}: ${operation.name} ${show(operation.args)} -> ${show(outcome)}`,
    );
    return { name: operation.name, call, outcome };
  }

  #context(block: { readonly number: number; readonly time: number }): BlockContext {
    const hashOf = (number: bigint): string | undefined => this.#chain.hashOf(number, block.number);
    return { number: block.number, time: block.time, hashOf };
  }

  // --------------------------------------------------------------- comparing

  #compareCalls(
    block: MinedBlock,
    next: { number: number; time: number },
    expected: readonly Expected[],
  ): void {
    this.#same('block', { number: block.number, time: block.time }, next);
    this.#same('transactions in the block', block.transactions.length, expected.length);
    for (const [i, transaction] of block.transactions.entries()) {
      const { name, outcome } = expected[i]!;
      this.#same(`call ${i} of the block, ${name}`, outcomeOf(transaction, this.#world.address), outcome);
      this.#options.statistics?.call(name, outcome, transaction.gasUsed);
    }
  }

  #compareViews(views: readonly View[], answers: readonly string[]): Shown {
    const found = views.map(({ name, args, expected }, i) => {
      const answer = decoded(name, answers[i]!);
      this.#same(`${name}(${show(args)})`, answer, expected);
      return answer;
    });
    this.#options.statistics?.compared(views.length);
    const named = <T>(kind: string): readonly (readonly [View, T])[] =>
      views.flatMap((it, i) => (it.name === kind ? [[it, found[i] as T] as const] : []));
    return {
      network: named<contract.NetworkView>('network')[0]![1],
      owner: named<string>('owner')[0]![1],
      apps: named<contract.AppsAfterResult>('appsAfter')[0]![1].list,
      allowed: named<contract.IsAllowedResult>('isAllowed').map(([{ args }, result]) => {
        const { measurement, config, platform } = args;
        return {
          measurement: String(measurement),
          config: String(config),
          platform: String(platform),
          result,
        };
      }),
      requests: new Map(
        named<contract.RequestView>('request').map(([{ args }, it]) => [String(args.requestHash), it]),
      ),
      policy: named<contract.TcbPolicyResult>('tcbPolicy')[0]![1],
      fmspcs: named<boolean>('fmspcDenied').map(([{ args }, denied]) => {
        return { fmspc: String(args.fmspc), denied };
      }),
    };
  }

  /** Every view, with what the model says that it shows after the block. */
  #views(
    next: { readonly number: number; readonly time: number },
    attested: readonly Choice[],
  ): readonly View[] {
    const { model, requestHashes } = this.#world;
    const { time, number } = next;
    const from = (list: ReadonlyMap<string, number>, value: string): bigint => BigInt(list.get(value) ?? 0);
    const turn = Math.max(0, requestHashes.length - REQUESTS_SHOWN);
    const inTurn = requestHashes[this.#blocks % (turn + 1)] ?? ZERO_WORD;
    const hashes = new Set([...requestHashes.slice(-REQUESTS_SHOWN), inTurn, ZERO_WORD]);
    const app = [...model.apps.keys()].at(-1) ?? ZERO_WORD;
    const page = { skipped: BigInt(this.#blocks % 4), most: BigInt(1 + (this.#blocks % 3)) };
    return [
      view('network', {}, model.network(time)),
      view('owner', {}, model.owner),
      view('pendingOwner', {}, model.pendingOwner),
      view('nextDelay', {}, model.nextDelay()),
      view('platformsOpenFrom', {}, BigInt(model.open ?? 0)),
      view('tcbPolicy', {}, model.tcb.policy(time)),
      view('nextTcbPolicy', {}, model.tcb.nextPolicy()),
      view('deniedFmspcs', {}, model.tcb.list()),
      ...FMSPCS.map((fmspc) => view('fmspcDenied', { fmspc }, model.tcb.isDenied(fmspc, time))),
      // The whole list, and one page of it.
      ...[{ skipped: 0n, most: 1000n }, page].map((it) => view('appsAfter', it, model.appsAfter(it, time))),
      view('appOf', { app }, model.app(app, time)),
      view('manifestOf', { app }, model.app(app, time).manifestHash),
      ...[0, 1, 2, 3].flatMap((i) => {
        const [measurement, config, platform] = [MEASUREMENTS, CONFIGS, PLATFORMS].map(
          (it) => it[i] ?? ZERO_WORD,
        );
        const all = { measurement: measurement!, config: config!, platform: platform! };
        const allowed = view('isAllowed', all, model.isAllowed(all, time));
        if (this.#blocks % FROM_VIEWS_EVERY !== 0) return [allowed];
        return [
          allowed,
          view('measurementAllowedFrom', all, from(model.measurements, all.measurement)),
          view('configAllowedFrom', all, from(model.configs, all.config)),
          view('platformAllowedFrom', all, model.platformAllowedFrom(all.platform)),
        ];
      }),
      ...[...hashes].map((requestHash) =>
        view('request', { requestHash }, model.request(requestHash, number)),
      ),
      view(
        'requestsByHash',
        { requestHashes: [...hashes] },
        [...hashes].map((hash) => model.request(hash, number)),
      ),
      ...attested.map((choice) => {
        const args = this.#world.attestation(choice);
        const expected = model.verifyAttestation(args);
        this.#options.statistics?.attestation(expected);
        return view('verifyAttestation', args, expected);
      }),
      view('eip712Domain', {}, domainOf(model)),
    ];
  }

  #same(what: string, found: unknown, expected: unknown): void {
    const [a, b] = [show(found), show(expected)];
    if (a !== b) throw new Mismatch(`${what}: the contract shows ${a}, the model ${b}`);
  }
}

function domainOf(model: NetworkModel): contract.Eip712DomainResult {
  return {
    fields: parseHex('0x0f'),
    name: 'Dstack',
    version: '1',
    chainId: BigInt(model.domain.chainId),
    verifyingContract: model.domain.contract,
    salt: parseHex(ZERO_WORD),
    extensions: [],
  };
}

async function accountsOn(chain: FuzzChain): Promise<Accounts> {
  const [owner, heir, relay, stranger] = (await chain.accounts()).map((it) => it.toLowerCase());
  return { owner: owner!, heir: heir!, relay: relay!, stranger: stranger! };
}

function nameOf(from: string, { accounts }: World): string {
  return Object.entries(accounts).find(([, address]) => address === from)?.[0] ?? from;
}

/** Everything that takes effect at a known time. */
function pendingTimes(model: NetworkModel): readonly number[] {
  return [
    ...model.measurements.values(),
    ...model.configs.values(),
    ...[...model.platforms.values()].filter((it) => it !== 'revoked'),
    ...[...model.apps.values()].flatMap(({ pending }) => (pending ? [pending.from] : [])),
    ...model.tcb.pendingTimes(),
    model.open ?? 0,
    model.delay.from,
  ];
}

/** The outcome of a transaction on the chain, in the model's form. */
function outcomeOf(transaction: MinedTransaction, address: string | undefined): Outcome {
  if (!transaction.ok) {
    if (transaction.output === '0x') return { refused: 'bare' };
    return { refused: contract.parseNetworkError(transaction.output) ?? { name: transaction.output } };
  }
  return { accepted: transaction.logs.map((log) => eventOf(log, address)) };
}

function eventOf(log: MinedTransaction['logs'][number], address: string | undefined): Named {
  const event = log.address.toLowerCase() === address ? contract.parseNetworkEvent(log) : undefined;
  return event ?? { name: `a log of ${log.address} with ${log.topics.join(' ')}` };
}

/** Lower case throughout, as the invariants compare addresses. */
function acceptedOf(block: MinedBlock, expected: readonly Expected[], address: string): readonly Accepted[] {
  return block.transactions.flatMap((transaction, i) => {
    const { name, call } = expected[i]!;
    if (!transaction.ok) return [];
    const events = transaction.logs.map((log) => lowered(eventOf(log, address)));
    return [{ function: name, from: call.from, events }];
  });
}

function lowered(event: Named): Named {
  const entries = Object.entries(event).map(([field, it]) => {
    return [field, typeof it === 'string' && field !== 'name' ? it.toLowerCase() : it] as const;
  });
  return { name: event.name, ...Object.fromEntries(entries) };
}

/** The same text for equal values: keys sorted, addresses in lower case, bigints marked. */
function show(it: unknown): string {
  return JSON.stringify(it, (_, inner: unknown) => {
    if (typeof inner === 'bigint') return `${inner}n`;
    if (typeof inner === 'string') return inner.startsWith('0x') ? inner.toLowerCase() : inner;
    if (inner === null || typeof inner !== 'object' || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
