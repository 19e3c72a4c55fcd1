/**
 * What each function costs. `node contracts/gas.ts` shows it; with `--update` it writes contracts/gas.json and
 * docs/gas.md. gas.test.ts fails when either differs from what is measured.
 *
 * The chain's number, clock and keys are fixed, so the figures come out the same on every machine: a change by one is a
 * change of the contract (or of the pinned anvil). Only calldata depends on chance: a zero byte in a hash costs 12 less.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { print } from '../lib/daemon/terminal.ts';
import { to0x } from '../lib/protocol/encoding.ts';
import * as contract from '../lib/protocol/network-contract.ts';
import {
  encodePublish,
  publicationsAddress,
  publicationsDeployer,
  publicationsDeployment,
} from '../lib/protocol/publications-contract.ts';
import { sign } from '../lib/protocol/secp256k1.ts';
import { statusMask } from '../lib/protocol/tcb-policy.ts';
import { attestationDigest } from '../lib/protocol/typed-data.ts';
import { appId, NETWORK_PRIVATE_KEY, TestNetwork, value } from './fixture.ts';
import { Chain, type Receipt } from './local-chain.ts';
import { startAnvil } from './local-node.ts';

const TABLE = join(import.meta.dirname, 'gas.json');
const PAGE = join(import.meta.dirname, '../docs/gas.md');

/** A block number and time of a live network, so that calldata has the same length; Prague's rules. */
const ANVIL_ARGS = ['--number', '21000000', '--timestamp', '1800000000', '--hardfork', 'prague'];
const HOUR = 3_600;

/** Gas by what was done, in the order of the scenario. */
export type GasTable = Readonly<Record<string, number>>;

/** Limits of the headline figures. */
export const CEILINGS = {
  'register + onboard': 110_000,
  'register + onboard, the first': 110_000,
  "rollout, an app's third": 45_000,
  "rollout, an app's fourth": 45_000,
} as const;

/** The figures of the prototype that this contract replaces, under the same chain rules. */
const PROTOTYPE = [
  ['bootstrap', 47_201, 'bootstrap'],
  ['register', 50_964, 'register'],
  ['onboard', 80_221, 'onboard'],
  ['register + onboard', 131_185, 'register + onboard'],
  ['change of containers, first', 140_559, "rollout, an app's first"],
  ['change of containers, later', 49_470, "rollout, an app's third"],
] as const;

/**
 * Messages that travel as calldata, by what they are and the bytes that they take as such (host/gossip/calldata/message-bytes.ts): of a request with
 * a real quote, packed and without the collateral that others have, or with it; and of one as it is, which is never sent.
 */
const PUBLISHED = [
  ['publish a request', 4_330],
  ['publish a request with collateral', 7_891],
  ['publish an answer', 414],
  ['publish a sealed secret', 1_331],
  ['publish 18,000 bytes', 18_000],
] as const;
const PUBLICATIONS = ['the contract for publications, once a chain', ...PUBLISHED.map(([label]) => label)];

/** Runs the scenario on a fresh anvil; about two seconds. */
export async function measureGas(): Promise<GasTable> {
  const anvil = await startAnvil({ args: ANVIL_ARGS });
  try {
    return await scenario(new Chain(anvil.url));
  } finally {
    await anvil.stop();
  }
}

async function scenario(chain: Chain): Promise<GasTable> {
  const table: Record<string, number> = {};
  const steady = new SteadyChain(chain);
  const measure = async (label: string, send: () => Promise<Receipt>): Promise<void> => {
    await steady.tick();
    table[label] = (await send()).gasUsed;
  };

  await steady.tick();
  const network = await TestNetwork.deploy(chain, { delay: HOUR });
  const owner = (label: string, data: string): Promise<void> => measure(label, () => network.asOwner(data));
  const other = {
    measurement: to0x(value('other')),
    config: to0x(value('other')),
    platform: to0x(value('other')),
  };

  // Times and blocks below are deterministic, so transactions that are not measured advance them too.
  await steady.tick();
  await network.asOwner(contract.encodeAllowMeasurement({ measurement: to0x(value('measurement')) }));
  await steady.tick();
  await network.asOwner(contract.encodeAllowConfig({ config: to0x(value('config')) }));
  await steady.tick();
  await network.asOwner(contract.encodeAllowPlatform({ platform: to0x(value('platform')) }));
  await owner('bootstrap', contract.encodeBootstrap(await network.bootstrapArgs()));
  await owner('bootstrap, again', contract.encodeBootstrap(await network.bootstrapArgs()));

  for (const which of [', the first', '']) {
    const request = await network.requestArgs();
    await measure(`register${which}`, () => network.asStranger(contract.encodeRegister(request.args)));
    const answer = contract.encodeOnboard(network.onboardArgs(request));
    await measure(`onboard${which}`, () => network.asStranger(answer));
    table[`register + onboard${which}`] = table[`register${which}`]! + table[`onboard${which}`]!;
  }

  await owner('allowMeasurement', contract.encodeAllowMeasurement(other));
  await owner('revokeMeasurement', contract.encodeRevokeMeasurement(other));
  await owner('allowConfig', contract.encodeAllowConfig(other));
  await owner('revokeConfig', contract.encodeRevokeConfig(other));
  await owner('allowPlatform', contract.encodeAllowPlatform(other));
  await owner('revokePlatform', contract.encodeRevokePlatform(other));
  await owner('openPlatforms', contract.encodeOpenPlatforms());
  await owner('closePlatforms', contract.encodeClosePlatforms());
  await owner('setDelay, longer', contract.encodeSetDelay({ delay: 2 * HOUR }));

  await owner(
    'setMinimumTcbEvaluationNumber, the first',
    contract.encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber: 17 }),
  );
  await owner(
    'setMinimumTcbEvaluationNumber, higher',
    contract.encodeSetMinimumTcbEvaluationNumber({ tcbEvaluationDataNumber: 18 }),
  );
  await owner(
    'setAcceptedTcbStatuses, more',
    contract.encodeSetAcceptedTcbStatuses({ statuses: statusMask(['UpToDate', 'SWHardeningNeeded']) }),
  );
  await owner('setTcbOutOfDateGrace', contract.encodeSetTcbOutOfDateGrace({ gracePeriod: 30 * 24 * HOUR }));
  const fmspc = '0x00906ed50000';
  await owner('setDeniedFmspc, denied', contract.encodeSetDeniedFmspc({ fmspc, denied: true }));
  await owner('setDeniedFmspc, allowed', contract.encodeSetDeniedFmspc({ fmspc, denied: false }));

  const app = appId('web');
  for (const [index, which] of ['first', 'second', 'third', 'fourth'].entries()) {
    const manifestHash = to0x(value(`manifest ${index}`));
    await owner(`rollout, an app's ${which}`, contract.encodeRollout({ app, manifestHash }));
    await steady.tick(3 * HOUR);
    await chain.mine(1);
  }
  await owner('rollout over a pending one', contract.encodeRollout({ app, manifestHash: other.config }));
  await owner('rollback of a pending one', contract.encodeRollback({ app }));
  await owner('withdraw', contract.encodeWithdraw({ app }));
  await owner('setDelay, shorter', contract.encodeSetDelay({ delay: 0 }));
  table['verifyAttestation, as a call'] = await attestationGas(network);
  await measure(PUBLICATIONS[0]!, () =>
    chain.send(network.stranger, publicationsDeployer, publicationsDeployment),
  );
  for (const [label, size] of PUBLISHED) {
    const args = { subject: to0x(value('request')), message: to0x(packed(size)) };
    await measure(label, () => chain.send(network.stranger, publicationsAddress, encodePublish(args)));
  }
  return table;
}

/** So many bytes that look like packed ones. */
function packed(size: number): Uint8Array {
  const words = Array.from({ length: Math.ceil(size / 32) }, (_, at) => value(`packed ${at}`));
  return Buffer.concat(words).subarray(0, size);
}

/** The cost of a transaction that only verifies an attestation; less inside another contract. */
async function attestationGas(network: TestNetwork): Promise<number> {
  const app = appId('web');
  const data = value('attested');
  const typed = { app: Buffer.from(app.slice(2), 'hex'), tag: 'price', data };
  const { r, s, v } = sign(attestationDigest(network.domain, typed), NETWORK_PRIVATE_KEY);
  const call = contract.encodeVerifyAttestation({
    app,
    tag: 'price',
    data: to0x(data),
    v,
    r: to0x(r),
    s: to0x(s),
  });
  return (await network.asStranger(call)).gasUsed;
}

/** Gives each block a time that does not depend on the clock: block hashes, and so calldata, are then always the same. */
class SteadyChain {
  readonly #chain: Chain;
  #time = 1_800_000_000n;

  constructor(chain: Chain) {
    this.#chain = chain;
  }

  async tick(seconds = 12): Promise<void> {
    this.#time += BigInt(seconds);
    await this.#chain.nextBlockAt(this.#time);
  }
}

/** docs/gas.md for these figures. */
export function gasPage(table: GasTable): string {
  const figure = (gas: number | undefined): string => (gas ?? 0).toLocaleString('en-US');
  const published = PUBLICATIONS.map((label) => `| ${label} | ${figure(table[label])} |`);
  const own = Object.entries(table).filter(([label]) => !PUBLICATIONS.includes(label));
  const rows = own.map(([label, gas]) => {
    const ceiling = (CEILINGS as Readonly<Record<string, number>>)[label];
    return `| ${label} | ${figure(gas)} | ${ceiling ? `< ${figure(ceiling)}` : ''} |`;
  });
  const compared = PROTOTYPE.map(
    ([label, before, now]) => `| ${label} | ${figure(before)} | ${figure(table[now])} |`,
  );
  return `# Gas

<!-- GENERATED by node contracts/gas.ts --update; a test fails when it is stale. -->

Measured on the pinned anvil under Prague's rules: whole transactions, nothing estimated. The scenario is
\`contracts/gas.ts\`; the test suite measures it anew each time and fails on any other figure, or at a ceiling.

## Against the prototype

The prototype checked no measurement, configuration or platform, let anyone replay, and its signatures named neither
chain nor contract. Under the same chain rules:

| | prototype | now |
|---|---:|---:|
${compared.join('\n')}

## Every function

| | gas | ceiling |
|---|---:|---:|
${rows.join('\n')}

Where it goes: a transaction costs 21,000 before it does anything. \`register\` writes the one new slot that a request
needs (22,100) and \`onboard\` writes over it (5,000 with its read), reading the network's slot and three allow-lists (2,100
each). Signatures are in EIP-2098's compact form, which saves a word of calldata each. The network key, epoch, stage and delay
share a slot that is never all zero, so bootstrap updates it and does not create it. The network's first onboard also
closes bootstrap (2,900). An app's two manifests take turns, so a rollout from the third on creates nothing. The TCB policy
costs a joining node nothing: \`onboard\` does not read it, the answering node does, before it signs. The compiled
contract tries one function selector after another, 22 gas each: the TCB policy's functions have names that sort after
\`register\`, \`onboard\` and \`rollout\`.

## Messages as calldata

What relays without a peer pay to be heard ([operating.md](operating.md#gossip-by-calldata)): whole transactions to \`contracts/Publications.sol\`, which
stores nothing. Bytes are what they cost: 40 gas each, 10 for a zero (EIP-7623's floor), so that the function and its event cost nothing beside a message of this size.

| | gas |
|---|---:|
${published.join('\n')}
`;
}

/** The committed figures. */
export function committedGas(): { readonly table: GasTable; readonly page: string } {
  return { table: JSON.parse(readFileSync(TABLE, 'utf8')) as GasTable, page: readFileSync(PAGE, 'utf8') };
}

async function main(update: boolean): Promise<void> {
  const table = await measureGas();
  for (const [call, gas] of Object.entries(table)) print(`${call.padEnd(40)} ${JSON.stringify(gas)}`);
  if (!update) return;
  writeFileSync(TABLE, `${JSON.stringify(table, null, 2)}\n`);
  writeFileSync(PAGE, gasPage(table));
  print('wrote contracts/gas.json and docs/gas.md');
}

if (import.meta.main) await main(process.argv.includes('--update'));
