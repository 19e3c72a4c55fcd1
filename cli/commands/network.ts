/** `network …`: what the owner does with the contract. */
import { readFileSync, writeFileSync } from 'node:fs';
import { encodeDeploy } from '../../contracts/bindings.ts';
import { parseCollateral } from '../../lib/attestation/collateral.ts';
import { chainClient } from '../../lib/framework/chain-client.ts';
import { networkReader } from '../../lib/framework/network-reader.ts';
import { print } from '../../lib/framework/terminal.ts';
import { fromHex, to0x, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { appName } from '../../lib/protocol/manifest.ts';
import { configHash, type Flavour, flavours, parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import {
  decodeApps,
  decodeNetwork,
  decodeOwner,
  encodeAllowConfig,
  encodeAllowMeasurement,
  encodeAllowPlatform,
  encodeApps,
  encodeBootstrap,
  encodeClosePlatforms,
  encodeNetwork,
  encodeOpenPlatforms,
  encodeOwner,
  encodeRevokeConfig,
  encodeRevokeMeasurement,
  encodeRevokePlatform,
} from '../../lib/protocol/network-contract.ts';
import { BootstrapPackageSchema, MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import {
  contractOption,
  instant,
  ownerKeyOption,
  provider,
  rpcOption,
  send,
  view,
  walletFrom,
} from '../chain.ts';
import { type Arguments, type Command, UsageError } from '../command.ts';
import { verifyBootstrap } from '../verify-bootstrap.ts';
import { tcb, tcbStatus } from './network-tcb.ts';

const ownerOptions = { rpc: rpcOption, contract: contractOption, 'owner-key': ownerKeyOption };

const deploy: Command = {
  name: 'network deploy',
  summary: 'deploys a new network’s contract; prints its address',
  options: {
    rpc: rpcOption,
    'owner-key': ownerKeyOption,
    owner: { value: 'ADDRESS', help: 'the owner, if it is not the key that deploys (a multisig)' },
    delay: { value: 'SECONDS', help: 'how long whatever loosens takes; 0 is legal', default: '172800' },
    'request-window': { value: 'BLOCKS', help: 'how long a request stays open', default: '256' },
  },
  async run(args) {
    const wallet = walletFrom(args.text('owner-key'), await provider(args));
    const data = encodeDeploy({
      owner: args.optional('owner') ?? wallet.address,
      delay: wholeNumber(args, 'delay'),
      requestWindow: wholeNumber(args, 'request-window'),
    });
    const receipt = await send(wallet, { data });
    print(`contract ${receipt.contractAddress}`);
  },
};

const config: Command = {
  name: 'network config',
  summary: 'writes a network.json and prints its hash, which the contract must allow',
  options: {
    contract: contractOption,
    'chain-id': { value: 'NUMBER', help: 'the chain’s id', env: 'DSTACK_CHAIN_ID', required: true },
    endpoint: { value: 'URL', help: 'an RPC endpoint as the VMs reach it; give several', multiple: true },
    quorum: { value: 'NUMBER', help: 'how many endpoints must agree; more than half of them' },
    depth: { value: 'BLOCKS', help: 'confirmations; without it the chain’s `finalized` counts' },
    'minimum-nodes': { value: 'NUMBER', help: 'nodes before production apps start', default: '2' },
    out: { value: 'FILE', help: 'where to write it', default: 'network.json' },
  },
  async run(args) {
    const endpoints = args.list('endpoint');
    if (endpoints.length === 0) throw new UsageError('give at least one --endpoint URL');
    const value = {
      version: 1,
      chainId: wholeNumber(args, 'chain-id'),
      contract: args.text('contract'),
      confirmation:
        args.optional('depth') === undefined ? { finalized: true } : { depth: wholeNumber(args, 'depth') },
      endpoints,
      quorum:
        args.optional('quorum') === undefined
          ? Math.floor(endpoints.length / 2) + 1
          : wholeNumber(args, 'quorum'),
      minimumNodes: wholeNumber(args, 'minimum-nodes'),
    };
    const bytes = utf8(`${JSON.stringify(value, null, 2)}\n`);
    // Plain http is judged by the image that boots with it; everything else must hold here already.
    parseNetworkConfig(bytes, 'sim');
    writeFileSync(args.text('out'), bytes);
    print(`config ${to0x(configHash(bytes))} (${args.text('out')})`);
  },
};

const bootstrap: Command = {
  name: 'network bootstrap',
  summary: 'verifies the first node’s bootstrap package and posts it',
  positionals: ['FILE'],
  options: {
    ...ownerOptions,
    flavour: {
      value: 'NAME',
      help: 'of the image that made it: production, sim or dev',
      default: 'production',
    },
    collateral: {
      value: 'FILE',
      help: 'a collateral.json to judge the quote by, in place of what came with the package',
    },
    'check-only': { help: 'verify, and send nothing' },
  },
  async run(args) {
    const text = readFileSync(args.positionals[0]!, 'utf8');
    const given = parseJson(
      BootstrapPackageSchema,
      text,
      'BOOTSTRAP_MALFORMED',
      'the bootstrap package',
      MESSAGE_MAX_BYTES,
    );
    const collateralFile = args.optional('collateral');
    const message =
      collateralFile === undefined
        ? given
        : { ...given, collateral: parseCollateral(readFileSync(collateralFile, 'utf8')) };
    const rpc = await provider(args);
    const network = { chainId: Number((await rpc.getNetwork()).chainId), contract: args.text('contract') };
    const chain = chainClient({
      config: {
        chainId: network.chainId,
        endpoints: [args.text('rpc')],
        quorum: 1,
        confirmation: { depth: 0 },
      },
    });
    const verdict = await verifyBootstrap(
      message,
      network,
      flavourOf(args),
      networkReader(chain, network.contract),
    );
    for (const step of verdict.steps) print(`ok  ${step.name}: ${step.detail}`);
    if (flavourOf(args) !== 'production')
      print('NOT PRODUCTION: anyone can forge a quote of the simulated platform');
    if (args.flag('check-only')) return;
    const { signature, ...fields } = message;
    await send(walletFrom(args.text('owner-key'), rpc), {
      to: network.contract,
      data: encodeBootstrap({
        networkKey: fields.networkKey,
        measurement: `0x${fields.measurement}`,
        config: `0x${fields.config}`,
        platform: `0x${fields.platform}`,
        quoteHash: `0x${fields.quoteHash}`,
        blockNumber: BigInt(fields.blockNumber),
        blockHash: `0x${fields.blockHash}`,
        r: signature.r,
        vs: signature.vs,
      }),
    });
    print(`the network's key is ${message.networkKey}, epoch ${message.epoch}`);
  },
};

/** What can be allowed and revoked, and how each is named to the contract. */
const allowable = {
  measurement: {
    allow: (measurement: string) => encodeAllowMeasurement({ measurement }),
    revoke: (measurement: string) => encodeRevokeMeasurement({ measurement }),
  },
  config: {
    allow: (config: string) => encodeAllowConfig({ config }),
    revoke: (config: string) => encodeRevokeConfig({ config }),
  },
  platform: {
    allow: (platform: string) => encodeAllowPlatform({ platform }),
    revoke: (platform: string) => encodeRevokePlatform({ platform }),
  },
} as const;

function changePolicy(verb: 'allow' | 'revoke', summary: string): Command {
  return {
    name: `network ${verb}`,
    summary,
    positionals: ['measurement|config|platform', 'HEX|FILE|any'],
    options: ownerOptions,
    async run(args) {
      const [kind, value] = args.positionals as [string, string];
      if (!Object.hasOwn(allowable, kind))
        throw new UsageError(`${kind} is none of measurement, config, platform`);
      const data =
        kind === 'platform' && value === 'any'
          ? verb === 'allow'
            ? encodeOpenPlatforms()
            : encodeClosePlatforms()
          : allowable[kind as keyof typeof allowable][verb](policyValue(kind, value));
      await send(walletFrom(args.text('owner-key'), await provider(args)), {
        to: args.text('contract'),
        data,
      });
    },
  };
}

/** 32 bytes of hex as they are; a file's by what it is: image.json holds its measurement, network.json is hashed. */
function policyValue(kind: string, value: string): string {
  if (/^(0x)?[0-9a-fA-F]{64}$/.test(value)) return to0x(fromHex(value, 32));
  let bytes: Buffer;
  try {
    bytes = readFileSync(value);
  } catch (cause) {
    throw new DstackError('POLICY_VALUE', `${value} is neither 32 bytes of hex nor a file that can be read`, {
      cause,
    });
  }
  if (kind === 'config') {
    parseNetworkConfig(bytes, 'sim');
    return to0x(configHash(bytes));
  }
  const found =
    kind === 'measurement' ? /"measurement":\s*"(?:0x)?([0-9a-f]{64})"/.exec(bytes.toString('utf8')) : null;
  if (found === null) throw new DstackError('POLICY_VALUE', `${value} holds no ${kind}`);
  return `0x${found[1]}`;
}

const status: Command = {
  name: 'network status',
  summary: 'prints the network’s state, its TCB policy and its apps',
  options: { rpc: rpcOption, contract: contractOption },
  async run(args) {
    const [rpc, contract] = [await provider(args), args.text('contract')];
    const read = (data: string) => view(rpc, contract, data);
    const network = decodeNetwork(await read(encodeNetwork()));
    const rows = {
      contract,
      owner: decodeOwner(await read(encodeOwner())),
      'network key': network.epoch === 0 ? 'none: not bootstrapped' : network.networkKey,
      epoch: network.epoch,
      onboarded: network.onboarded ? 'yes' : 'NO: AT MOST ONE NODE HAS THE SECRET',
      delay: `${network.delay} s`,
      'request window': `${network.requestWindow} blocks`,
      platforms: network.platformsOpen ? 'OPEN: any that is not revoked' : 'listed ones only',
    };
    for (const [name, value] of Object.entries(rows)) print(`${name.padEnd(16)} ${value}`);
    for (const row of await tcbStatus(rpc, contract)) print(row);
    for (const app of decodeApps(await read(encodeApps()))) {
      const pending = app.latest !== app.manifestHash ? `, ${app.latest} from ${instant(app.from)}` : '';
      print(`app ${appName(fromHex(app.app)).padEnd(12)} ${app.manifestHash}${pending}`);
    }
  },
};

function wholeNumber(args: Arguments, name: string): number {
  const text = args.text(name);
  if (!/^[0-9]{1,15}$/.test(text)) throw new UsageError(`--${name} takes a whole number, not ${text}`);
  return Number(text);
}

function flavourOf(args: Arguments): Flavour {
  const flavour = flavours.find((known) => known === args.text('flavour'));
  if (flavour === undefined) {
    throw new UsageError(`--flavour takes ${flavours.join(', ')}, not ${args.text('flavour')}`);
  }
  return flavour;
}

export const networkCommands: readonly Command[] = [
  deploy,
  config,
  bootstrap,
  changePolicy('allow', 'lets a measurement, config or platform join, after the network’s delay'),
  changePolicy('revoke', 'lets it join no more, at once (those that joined keep the secret)'),
  tcb,
  status,
];
